"""Whether an open file is still the one at its path: what is written to a deleted file is gone in the end."""

from __future__ import annotations

from pathlib import Path


class SameFile:
    """A file that is open, remembered by its device and its number there."""

    def __init__(self, path: Path) -> None:
        """Remember the file that lies at `path` now.

        Raises:
            OSError: if there is none.
        """
        self.path = path.resolve()
        self.identity = self._found()

    def fault(self) -> str | None:
        """`was deleted` or `was replaced by another file`; None while the same file lies there."""
        try:
            return None if self._found() == self.identity else "was replaced by another file"
        except (FileNotFoundError, NotADirectoryError):
            return "was deleted"
        except OSError:  # a disk or a network that does not answer is no deletion
            return None

    def _found(self) -> tuple[int, int]:
        stat = self.path.stat()
        return stat.st_dev, stat.st_ino
