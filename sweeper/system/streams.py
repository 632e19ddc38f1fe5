"""Standard output and standard error whose readers may be gone: a write never raises, and what was lost is known."""

from __future__ import annotations

import io
import os
import sys
import time
from typing import BinaryIO, TextIO, cast

from sweeper.core.errors import OutputError


class TolerantDescriptor(io.RawIOBase):
    """A file descriptor that takes every write: what cannot be written is dropped.

    Pipes without a reader (EPIPE), terminals that were closed (EIO), full disks (ENOSPC) and the like. Written to
    without a buffer of its own, so that a signal's handler may write during a write.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.error: OSError | None = None
        """Why something was lost, the first time; None = nothing was."""

    def writable(self) -> bool:
        """Return that it takes writes, always."""
        return True

    def fileno(self) -> int:
        """Return the descriptor itself."""
        return self._descriptor

    def isatty(self) -> bool:
        """Return whether it is a terminal that still exists."""
        return os.isatty(self._descriptor)

    def write(self, data: object, /) -> int:
        """Write all of the bytes that are taken; the number of all, in any case."""
        whole = memoryview(data).cast("B")  # type: ignore[arg-type]
        unwritten = whole
        while unwritten:
            try:
                unwritten = unwritten[os.write(self._descriptor, unwritten) :]
            except BlockingIOError:
                time.sleep(0.01)  # another program made it so, and it is full
            except OSError as error:
                self.error = self.error or error
                break
        return len(whole)


def make_streams_tolerant() -> None:
    r"""Make this process's standard output and standard error such that writing to them never raises.

    Characters that their encoding lacks are written as `\\u2026` and the like. Descriptors 0 to 2 that are closed are
    opened on /dev/null, so that no file gets their numbers and with it what is meant for the terminal. Streams that
    somebody replaced, say a test, are left as they are.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDONLY)  # gets the lowest free number; a write to it fails, and is noted
    if sys.stdout is sys.__stdout__:
        sys.stdout = _make_tolerant(sys.stdout, 1)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _make_tolerant(sys.stderr, 2, write_through=True)


def check_output() -> None:
    """Refuse to call done what standard output did not take.

    Raises:
        OutputError: if something that was written there is lost.
    """
    sys.stdout.flush()
    raw = getattr(sys.stdout, "buffer", None)
    if isinstance(raw, TolerantDescriptor) and raw.error is not None:
        error, raw.error = raw.error, None  # reported once
        raise OutputError(f"standard output does not take the result: {error.strerror}") from error


def _make_tolerant(before: TextIO | None, descriptor: int, *, write_through: bool = False) -> TextIO:
    return io.TextIOWrapper(
        cast(BinaryIO, TolerantDescriptor(descriptor)),
        encoding="utf-8" if before is None else before.encoding,
        errors="backslashreplace",
        line_buffering=before is not None and bool(getattr(before, "line_buffering", False)),
        write_through=write_through,
    )
