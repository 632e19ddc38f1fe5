"""`python -m sweeper` is the command `sweeper`."""

import os
import sys

# Python put the working folder first on its path, as for every `-m`: no file among the data is a module. It stays where
# sweeper itself comes from there. (Without pathlib, whose own modules would be looked for in that folder.)
if sys.path[0] == os.getcwd() != os.path.dirname(os.path.dirname(os.path.realpath(__file__))):  # noqa: PTH109, PTH120
    del sys.path[0]

from sweeper.cli.main import main

if __name__ == "__main__":
    main()
