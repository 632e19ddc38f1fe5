"""Files that tell whether they are what was written: each holds the digest of all its other bytes.

Torch and safetensors both take a file in which single bits turned for what was written.
"""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import BinaryIO

BLANK = b"0" * 64
"""Stands in a file where its digest will be."""
_CHUNK = 1 << 24


def write_seal(path: Path, place: int) -> None:
    """Put the digest of a file where `BLANK` stands in it: BLAKE2b of 256 bits, as hexadecimal digits.

    Args:
        path: the file, which is written but for its seal.
        place: of `BLANK`, in bytes from the beginning.

    Raises:
        OSError: if it cannot be written.
    """
    with path.open("r+b") as file:
        digest = _digest(file, place)
        file.seek(place)
        file.write(digest)


def check_seal(path: Path, place: int) -> None:
    """Read a whole file, and compare it with its seal at `place`.

    Raises:
        ValueError: if it is not what was sealed.
        OSError: if it cannot be read.
    """
    with path.open("rb") as file:
        found = _digest(file, place)
        file.seek(place)
        kept = file.read(len(BLANK))
    if found != kept:
        raise ValueError(
            f"its checksum is {found[:12].decode()}…, and {kept[:12].decode('ascii', 'replace')}… was written"
        )


def _digest(file: BinaryIO, place: int) -> bytes:
    """Of all bytes but the seal's."""
    found = hashlib.blake2b(digest_size=len(BLANK) // 2)
    while part := file.read(min(_CHUNK, place - file.tell())):
        found.update(part)
    file.seek(len(BLANK), os.SEEK_CUR)
    while part := file.read(_CHUNK):
        found.update(part)
    return found.hexdigest().encode()
