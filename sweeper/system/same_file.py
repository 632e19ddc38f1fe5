"""Whether an open file is still the one at its path: what is written to a deleted file is gone in the end."""

from __future__ import annotations

import os
import weakref
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
        self._folder: int | None = None
        if os.stat in os.supports_dir_fd:  # by it the folder is known under whatever name; not on Windows
            self._folder = os.open(self.path.parent, os.O_RDONLY | os.O_DIRECTORY)
            weakref.finalize(self, os.close, self._folder)

    def fault(self) -> str | None:
        """`was moved …`, `was deleted` or `was replaced by another file`; None while the same file lies there."""
        try:
            if self._found() == self.identity:
                return None
            fault = "was replaced by another file"
        except (FileNotFoundError, NotADirectoryError):
            fault = "was deleted"
        except OSError:  # a disk or a network that does not answer is no deletion
            return None
        if not self.moved():
            return fault
        return "was moved with its folder" if (now := self.now()) is None else f"was moved with its folder, to {now}"

    def moved(self) -> bool:
        """Whether it is not at its path because its folder, or one above it, was renamed."""
        try:
            if self._folder is None or self._found() == self.identity:
                return False
        except OSError:
            pass
        try:
            return self._identity(os.stat(self.path.name, dir_fd=self._folder)) == self.identity
        except OSError:
            return False

    def now(self) -> Path | None:
        """Where it lies since it was moved, as far as the system says so (Linux does)."""
        try:
            folder = Path(os.readlink(f"/proc/self/fd/{self._folder}"))  # noqa: PTH115 (a link that leads nowhere by name)
            return folder / self.path.name if (folder / self.path.name).exists() else None
        except OSError:
            return None

    def _found(self) -> tuple[int, int]:
        return self._identity(self.path.stat())

    @staticmethod
    def _identity(stat: os.stat_result) -> tuple[int, int]:
        return stat.st_dev, stat.st_ino
