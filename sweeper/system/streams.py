"""Standard output and standard error for readers that may be gone: writes never raise, and losses are recorded."""

from __future__ import annotations

import io
import os
import sys
import time
from typing import BinaryIO, TextIO, cast

from sweeper.core.errors import OutputError


class TolerantDescriptor(io.RawIOBase):
    """A file descriptor that accepts every write, and drops unwritable data.

    Examples are pipes without a reader (EPIPE), closed terminals (EIO) and full disks (ENOSPC). It has no buffer, so
    that a signal's handler may write during a write.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.error: OSError | None = None
        """Error of the first loss; None = nothing was lost."""

    def writable(self) -> bool:
        """Return True."""
        return True

    def fileno(self) -> int:
        """Return the descriptor itself."""
        return self._descriptor

    def isatty(self) -> bool:
        """Return whether it is a terminal that still exists."""
        return os.isatty(self._descriptor)

    def write(self, data: object, /) -> int:
        """Write as many bytes as possible; always return the number of all bytes."""
        whole = memoryview(data).cast("B")  # type: ignore[arg-type]
        unwritten = whole
        while unwritten:
            try:
                unwritten = unwritten[os.write(self._descriptor, unwritten) :]
            except BlockingIOError:
                time.sleep(0.01)  # another program made it non-blocking, and it is full
            except OSError as error:
                self.error = self.error or error
                break
        return len(whole)


def make_streams_tolerant() -> None:
    r"""Make writes to this process's standard output and standard error never raise.

    Characters missing in their encoding are written as `\\u2026` and the like. Closed descriptors 0 to 2 are opened on
    /dev/null, so that no file gets their numbers and the terminal's output. Replaced streams, as in tests, stay
    unchanged.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDONLY)  # gets the lowest free number; failing writes are recorded
    if sys.stdout in (None, sys.__stdout__):
        sys.stdout = _make_tolerant(sys.stdout, 1)
    if sys.stderr in (None, sys.__stderr__):
        sys.stderr = _make_tolerant(sys.stderr, 2, write_through=True)


def check_output() -> None:
    """Check that standard output accepted all writes.

    Raises:
        OutputError: if data written to it were lost.
    """
    sys.stdout.flush()
    raw = getattr(sys.stdout, "buffer", None)
    if isinstance(raw, TolerantDescriptor) and raw.error is not None:
        error, raw.error = raw.error, None  # reported once
        raise OutputError(f"standard output does not take the result: {error.strerror}") from error


def _make_tolerant(before: TextIO | None, descriptor: int, *, write_through: bool = False) -> TextIO:
    is_buffered = before is not None and bool(getattr(before, "line_buffering", False))
    return io.TextIOWrapper(
        cast(BinaryIO, TolerantDescriptor(descriptor)),
        encoding="utf-8" if before is None else before.encoding,
        errors="backslashreplace",
        line_buffering=is_buffered,
        write_through=write_through,
    )
