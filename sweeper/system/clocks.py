"""Durations, by clocks that cannot be set.

The time of day may be changed while a sweep runs, so it is only for names and records. Measurements and waits use the
monotonic clock. Deadlines for another process use the time that this process ran (`get_running_seconds`), because both
processes stop when a laptop sleeps or a job is suspended.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

TICK_SECONDS = 1.0
GAP_SECONDS = 5.0
"""Longest gap between two ticks of a running process, even on a busy machine; a longer gap is a stop."""


class RunningClock:
    """Seconds that this process ran, from an arbitrary zero; a stop of any length counts as at most `GAP_SECONDS`.

    A thread (`start_ticking`) reads the clock every second, so that a stop shows as a gap. Without the thread, call the
    clock as often.
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
        """Start a thread that reads the clock until this process ends.

        Raises:
            RuntimeError: if no thread can be started.
        """
        threading.Thread(target=self._keep_ticking, name="sweeper-clock", daemon=True).start()

    def _keep_ticking(self) -> None:
        while True:
            time.sleep(TICK_SECONDS)
            self()


_clocks: dict[int, RunningClock] = {}
"""Clock by process id: a forked process does not have its parent's thread."""
_making = threading.Lock()


def get_running_seconds() -> float:
    """Return the seconds that this process ran, from an arbitrary zero; see `RunningClock`. Thread-safe."""
    clock = _clocks.get(os.getpid())
    if clock is None:
        with _making:
            clock = _clocks.setdefault(os.getpid(), RunningClock())
            clock.start_ticking()
    return clock()
