"""Write files atomically, read small records, and remove partial files of killed processes.

A file being written has a temporary name in the same folder. An error, Ctrl-C, SIGTERM or SIGHUP removes it. SIGKILL or
a power failure leaves it; a later process in the folder removes it.
"""

from __future__ import annotations

import json
import math
import os
import shutil
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from sweeper.core.base import Record
from sweeper.core.paths import read_bounded

PARTS = ".sweeper-*.part*"
"""Pattern of the temporary names of files, and of SQLite's files next to them."""
DAY = 86_400.0
MOST_BYTES = 2**26
"""Largest size of a JSON file that sweeper wrote."""
R = TypeVar("R", bound=Record)


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


def read_json(path: Path) -> Any:
    """Return the data of a JSON file that sweeper wrote.

    Raises:
        OSError: it is not a regular file, or cannot be read.
        ValueError: it is no JSON, has a number that is not finite, or is too large.
    """
    try:
        return json.loads(read_bounded(path, MOST_BYTES), parse_constant=_parse_finite, parse_float=_parse_finite)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _parse_finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"not finite: {text}")
    return number


def load_record(path: Path, kind: type[R]) -> R:
    """Return the record that a file contains. Raises as `read_json`, ValueError also if it is another record."""
    return kind.model_validate(read_json(path))


def save_record(path: Path, record: Record) -> None:
    """Write a record to its file, in place of whatever is there; its folder is created."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replace_atomically(path) as part:
        part.write_text(record.model_dump_json(indent=2), "utf-8")
        if path.is_dir():
            remove_path(path)


def remove_path(path: Path) -> None:
    """Remove a file, a link or a folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


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
            remove_path(path)


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
                may_be_empty = self.path.name.endswith("-wal")
                return None if now.st_size or may_be_empty else "was emptied"
        except (FileNotFoundError, NotADirectoryError):
            return "was deleted, or its folder was renamed"
        except OSError:  # an unreachable disk or network is no deletion
            return None
        return "was replaced by another file"
