"""Opening files that a user, or a data set's folder, names: regular ones alone.

A pipe would be waited on for ever, and a device could be read without end.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

_KINDS = (
    (stat.S_ISFIFO, "a pipe, as `<(…)` of a shell is"),
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)


def open_regular(path: Path) -> BinaryIO:
    """Open a file for reading.

    Raises:
        OSError: if it cannot be opened, or is a pipe, a device or a folder.
    """
    return open(path, "rb", opener=_regular)


def read_regular(path: Path) -> bytes:
    """All bytes of a file.

    Raises:
        OSError: as `open_regular`.
    """
    with open_regular(path) as file:
        return file.read()


def append_regular(path: Path, text: str) -> None:
    """Add text, as UTF-8, to a file, which is made where it is missing.

    Raises:
        OSError: as `open_regular`, or if the file cannot be written.
    """
    with open(path, "a", encoding="utf-8", errors="backslashreplace", opener=_regular) as file:
        file.write(text)


def _regular(path: str, flags: int) -> int:
    with suppress(FileNotFoundError):  # one that is missing may be made
        _check(os.stat(path).st_mode, path)  # noqa: PTH116 (before it is opened: that alone does something to a device)
    # What took its place meanwhile is not waited for either.
    descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0), 0o666)
    try:
        _check(os.fstat(descriptor).st_mode, path)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _check(mode: int, path: str) -> None:
    if not stat.S_ISREG(mode):
        kind = next((kind for is_it, kind in _KINDS if is_it(mode)), "something else")
        raise OSError(errno.EINVAL, f"it is not a regular file but {kind}", path)
