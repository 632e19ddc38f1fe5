"""`python -m sweeper` is the command `sweeper`."""

from sweeper.cli.main import main

if __name__ == "__main__":
    main()
