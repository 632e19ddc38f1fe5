"""Write files atomically, and remove partial files of killed processes.

A file being written has a temporary name in the same folder. An error, Ctrl-C, SIGTERM or SIGHUP removes it. SIGKILL or
a power failure leaves it; a later process in the folder removes it.
"""

from __future__ import annotations

import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

PARTS = ".sweeper-*.part*"
"""Pattern of the temporary names of files, and of SQLite's files next to them."""
DAY = 86_400.0


@contextmanager
def replace_atomically(path: Path) -> Iterator[Path]:
    """Yield a temporary path; its file replaces `path` when the block ends without an error.

    Raises:
        OSError: if `path` cannot be replaced.
    """
    part = path.with_name(f".sweeper-{uuid.uuid4().hex}.part")  # independent of the name's length
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def remove_left(folder: Path, pattern: str = PARTS, seconds: float = DAY) -> None:
    """Remove files and folders of killed processes, as far as possible.

    Args:
        folder: their folder; it may be missing.
        pattern: pattern of their names.
        seconds: minimum time since the last write; a process, possibly on another machine, may be using younger ones.
    """
    for path in folder.glob(pattern):
        with suppress(OSError):
            written = max(inner.lstat().st_mtime for inner in (path, *path.rglob("*")))
            if time.time() - written < seconds:
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink()


class WatchedFile:
    """A file that a process keeps open; writes after its deletion would be lost."""

    def __init__(self, path: Path) -> None:
        """Store the identity of the file at `path`."""
        self.path, self._first = path.resolve(), path.stat()

    def find_fault(self) -> str | None:
        """Return what happened to the file since, as a predicate; None if it is still in place, or unreachable."""
        try:
            now = self.path.stat()
            if os.path.samestat(now, self._first):
                return None if now.st_size or self.path.name.endswith("-wal") else "was emptied"
        except (FileNotFoundError, NotADirectoryError):
            return "was deleted, or its folder was renamed"
        except OSError:  # an unreachable disk or network is no deletion
            return None
        return "was replaced by another file"
