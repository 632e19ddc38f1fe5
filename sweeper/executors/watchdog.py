"""When a training is taken to hang: the rule alone, without processes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable
from statistics import median
from typing import Literal

from sweeper.system.clocks import running_seconds

Stage = Literal["rung", "last"]
"""What a training is waited for: an evaluation at a rung, or its last one with its result."""

LEAST_SECONDS = 60.0
FACTOR = 20.0
"""So many times the median of the same wait in this session is no longer slow, but stuck."""
UNKNOWN_SECONDS = 3600.0
"""For a wait that nobody has had yet: scoring the test split may take much longer than an evaluation."""


class Watchdog:
    """Knows since when each worker is waited for, and how long such waits usually take.

    A worker without a job is not watched; nor is one that starts (that has a limit of its own).
    Seconds are those that this process itself ran: where all are stopped, as on a laptop that sleeps, no worker hangs.
    """

    def __init__(self, least_seconds: float = LEAST_SECONDS, clock: Callable[[], float] = running_seconds) -> None:
        self._least, self._clock = least_seconds, clock
        self._since: dict[Hashable, tuple[float, str, Stage]] = {}
        self._known: defaultdict[tuple[str, Stage], list[float]] = defaultdict(list)

    def wait(self, worker: Hashable, purpose: str, stage: Stage) -> None:
        """From now on the worker is waited for; `purpose` of its training."""
        self._since[worker] = (self._clock(), purpose, stage)

    def answered(self, worker: Hashable) -> None:
        """It said something; it is not watched until the next `wait`."""
        if (waited := self._since.pop(worker, None)) is not None:
            since, purpose, stage = waited
            self._known[purpose, stage].append(self._clock() - since)

    def forget(self, worker: Hashable) -> None:
        """It is gone: how long it was waited for says nothing."""
        self._since.pop(worker, None)

    def limit(self, purpose: str, stage: Stage) -> float:
        """Seconds after which such a wait is taken for a hang."""
        if own := self._known.get((purpose, stage)):
            return max(self._least, FACTOR * median(own))
        return max(self._least, UNKNOWN_SECONDS)

    def hangs(self, worker: Hashable) -> str | None:
        """Why the worker is taken to hang; None while it is not."""
        if (waited := self._since.get(worker)) is None:
            return None
        since, purpose, stage = waited
        gone, limit = self._clock() - since, self.limit(purpose, stage)
        if gone <= limit:
            return None
        return f"worker hung: nothing came from it for {gone:.0f} s, and {limit:.0f} s is the most that is waited"
