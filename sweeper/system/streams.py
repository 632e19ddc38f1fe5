"""Standard output and standard error whose readers may be gone or asleep: a write never raises, and what was lost is
known. Results wait for their reader; what is said meanwhile is dropped where nobody takes it."""

from __future__ import annotations

import io
import os
import select
import sys
import time
from typing import BinaryIO, TextIO, cast

from sweeper.core.errors import OutputError

PIECE = getattr(select, "PIPE_BUF", 4096)
"""Bytes that a pipe that takes any takes without a wait."""
WAIT_SECONDS = 1.0
"""So long a reader that takes nothing is waited for; then each line is dropped until it takes something again."""


class Descriptor(io.RawIOBase):
    """A file descriptor that takes every write: what cannot be written is dropped.

    Pipes without a reader (EPIPE), terminals that were closed (EIO), full disks (ENOSPC) and the like. Written to
    without a buffer of its own, so that a signal's handler may write during a write.
    """

    def __init__(self, descriptor: int, *, waits: bool) -> None:
        """`waits`: for a reader that takes nothing, without end; else what it does not take is dropped."""
        self._descriptor, self._waits = descriptor, waits
        self._dropped = False
        """Whether the last write was not taken."""
        self.error: OSError | None = None
        """Why something was lost, the first time; None = nothing was."""

    def writable(self) -> bool:
        """Yes."""
        return True

    def fileno(self) -> int:
        """The descriptor itself."""
        return self._descriptor

    def isatty(self) -> bool:
        """Whether it is a terminal that is still there."""
        return os.isatty(self._descriptor)

    def write(self, data: object, /) -> int:
        """Write all of the bytes, or as many as are taken in time; their number, in any case."""
        whole = memoryview(data).cast("B")  # type: ignore[arg-type]
        left = whole
        until = None if self._waits else time.monotonic() + (0 if self._dropped else WAIT_SECONDS)
        while left:
            try:
                self._dropped = not self._takes_some(until)
                if self._dropped:
                    break
                left = left[os.write(self._descriptor, left[:PIECE]) :]
            except BlockingIOError:
                time.sleep(0.01)  # somebody else wrote between
            except OSError as error:
                self.error = self.error or error
                break
        return len(whole)

    def _takes_some(self, until: float | None) -> bool:
        """Whether a piece can be written without a wait, before the clock says `until`."""
        if not hasattr(select, "PIPE_BUF"):  # Windows, where sockets alone can be asked
            return True
        left = None if until is None else max(0.0, until - time.monotonic())
        return bool(select.select([], [self._descriptor], [], left)[1])


def steady_streams(*, results: bool = True) -> None:
    """Make this process's standard output and standard error such that writing to them never raises.

    What is printed to standard output waits for a slow reader where it is `results`.

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
        sys.stdout = _steady(sys.stdout, 1, waits=results)
    if sys.stderr is sys.__stderr__:
        sys.stderr = _steady(sys.stderr, 2, waits=False, write_through=True)


def check_output() -> None:
    """Refuse to call done what standard output did not take.

    Raises:
        OutputError: if something that was written there is lost.
    """
    sys.stdout.flush()
    raw = getattr(sys.stdout, "buffer", None)
    if isinstance(raw, Descriptor) and raw.error is not None:
        error, raw.error = raw.error, None  # told once
        raise OutputError(f"standard output does not take the result: {error.strerror}") from error


def _steady(before: TextIO | None, descriptor: int, *, waits: bool, write_through: bool = False) -> TextIO:
    return io.TextIOWrapper(
        cast(BinaryIO, Descriptor(descriptor, waits=waits)),
        encoding="utf-8" if before is None else before.encoding,
        errors="backslashreplace",
        line_buffering=before is not None and bool(getattr(before, "line_buffering", False)),
        write_through=write_through,
    )
