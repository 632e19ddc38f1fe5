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
from functools import cache

TICK_SECONDS = 1.0
GAP_SECONDS = 5.0
"""A process that runs ticks at least so often, on a busy machine too; what is beyond that is a stop."""


class RunningClock:
    """Seconds that this process ran, from an arbitrary zero: a stop, however long, counts for `GAP_SECONDS` at most.

    It must be called more often than that, so that a stop shows as a gap.
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


def get_running_seconds() -> float:
    """Return the seconds that this process ran, from an arbitrary zero; see `RunningClock`. Thread-safe."""
    return _start_clock(os.getpid())()


@cache
def _start_clock(process: int) -> RunningClock:
    """Return the clock of the process of this number, with a thread that ticks: a fork has none of its parent's."""
    clock = RunningClock()

    def tick() -> None:
        while True:
            time.sleep(TICK_SECONDS)
            clock()

    threading.Thread(target=tick, name="sweeper-clock", daemon=True).start()
    return clock
