"""Files that appear under their names whole or not at all, and what a killed process left of some.

A file being written has another name next to its place. An error, Ctrl-C, SIGTERM and SIGHUP remove it; SIGKILL, or
a machine that goes down, leave it: what starts in that folder later removes it.
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
"""Pattern of the names of files that are being written, and SQLite's next to them."""
DAY = 86_400.0


@contextmanager
def replace_atomically(path: Path) -> Iterator[Path]:
    """Yield a path to write to, whose file replaces `path` when the block ends without an error.

    Raises:
        OSError: if it cannot be put there.
    """
    part = path.with_name(f".sweeper-{uuid.uuid4().hex}.part")  # however long the name is
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def remove_left(folder: Path, pattern: str = PARTS, seconds: float = DAY) -> None:
    """Remove files and folders that a killed process left; what cannot be removed stays.

    Args:
        folder: where they are; it may be missing.
        pattern: of their names.
        seconds: since anything was written there: another process, of another machine too, may be at younger ones.
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
    """A file that a process keeps open by its name: what is written to one that was deleted is lost."""

    def __init__(self, path: Path) -> None:
        """Remember which file is at `path` now."""
        self.path, self._first = path.resolve(), path.stat()

    def find_fault(self) -> str | None:
        """Return what happened to the file since, as a predicate; None where it is at its place."""
        try:
            now = self.path.stat()
            if os.path.samestat(now, self._first):
                return None if now.st_size or self.path.name.endswith("-wal") else "was emptied"
        except (FileNotFoundError, NotADirectoryError):
            return "was deleted, or its folder was renamed"
        except OSError:  # a disk or a network that does not answer is no deletion
            return None
        return "was replaced by another file"

    def find_new_place(self) -> Path | None:
        """Return where an open file is after its folder was renamed, as far as the system says."""
        for opened in Path("/proc/self/fd").glob("*"):
            with suppress(OSError):
                place = opened.resolve()
                if os.path.samestat(place.stat(), self._first):
                    return place
        return None
