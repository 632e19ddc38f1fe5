"""Opening files that a data set's folder names, and making files in a cache that several users share."""

from __future__ import annotations

import errno
import os
import stat
import uuid
from pathlib import Path
from typing import BinaryIO


def open_regular(path: Path) -> BinaryIO:
    """Open a file for reading.

    A pipe would be waited on for ever, and a device could be read without end.

    Raises:
        OSError: if it cannot be opened, or is a pipe, a device or a folder.
    """
    return open(path, "rb", opener=_regular)


def _regular(path: str, flags: int) -> int:
    descriptor = os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # else the opening of a pipe waits for its writer
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a regular file", path)
    return descriptor


def read_regular(path: Path) -> bytes:
    """All bytes of a file.

    Raises:
        OSError: as `open_regular`.
    """
    with open_regular(path) as file:
        return file.read()


def new_name(folder: Path, prefix: str, suffix: str = "") -> Path:
    """A path in `folder` that nobody else takes. What is made there has the permissions that the user's umask gives.

    `tempfile` would make it for this user alone, and others who share the folder could not read it.
    """
    return folder / f"{prefix}{uuid.uuid4().hex}{suffix}"
