"""Whether an open file is still the one at its path: what is written to a deleted file is gone in the end."""

from __future__ import annotations

from pathlib import Path


class SameFile:
    """A file that this process keeps open, remembered by its device and its number there."""

    def __init__(self, path: Path) -> None:
        """Remember the file that lies at `path` now.

        Raises:
            OSError: if there is none.
        """
        self.path = path.resolve()
        self._identity = self._found()

    def fault(self) -> str | None:
        """What became of it, for people; None while the same file lies at its path."""
        try:
            return None if self._found() == self._identity else "was replaced by another file"
        except (FileNotFoundError, NotADirectoryError):
            return "was deleted, or its folder was renamed"
        except OSError:  # a disk or a network that does not answer is no deletion
            return None

    def _found(self) -> tuple[int, int]:
        stat = self.path.stat()
        return stat.st_dev, stat.st_ino
