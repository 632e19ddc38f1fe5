"""Durations, by clocks that nobody sets.

The time of day may be set back or forward while a sweep runs: it is for names and records alone. What is measured, or
waited for, goes by the monotonic clock; and where it is another process that is judged by how long it takes, by the
time that this process itself ran (`get_running_seconds`): both are stopped when a laptop sleeps, or a job is suspended.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

TICK_SECONDS = 1.0
GAP_SECONDS = 5.0
"""A process that runs ticks at least so often, on a busy machine too; what is beyond that is a stop."""


class RunningClock:
    """Seconds that this process ran, from an arbitrary zero: a stop, however long, counts for `GAP_SECONDS` at most.

    A thread reads the clock every second, so that a stop shows as a gap. Without that thread (`start_ticking`) the
    clock must be called as often.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock, self._lock = clock, threading.Lock()
        self._last, self._sum = clock(), 0.0

    def __call__(self) -> float:
        """Return the seconds so far."""
        with self._lock:
            now = self._clock()
            self._sum += min(now - self._last, GAP_SECONDS)
            self._last = now
            return self._sum

    def start_ticking(self) -> None:
        """Read the clock from a thread, for as long as this process lives.

        Raises:
            RuntimeError: if no thread can be started.
        """
        threading.Thread(target=self._keep_ticking, name="sweeper-clock", daemon=True).start()

    def _keep_ticking(self) -> None:
        while True:
            time.sleep(TICK_SECONDS)
            self()


_clocks: dict[int, RunningClock] = {}
"""This process's, by its number: a fork has no thread of its parent's."""
_making = threading.Lock()


def get_running_seconds() -> float:
    """Return the seconds that this process ran, from an arbitrary zero; see `RunningClock`. Thread-safe."""
    clock = _clocks.get(os.getpid())
    if clock is None:
        with _making:
            clock = _clocks.setdefault(os.getpid(), RunningClock())
            clock.start_ticking()
    return clock()
