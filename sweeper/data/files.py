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
    descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0))
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is not a regular file", str(path))
    return os.fdopen(descriptor, "rb")


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
