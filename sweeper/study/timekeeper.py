"""The time limit: how it is shared out, and whether a training that is about to begin would end in time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

from sweeper.core.events import Dropped, Finished, Paused, Resumed, Started, SweepEvent
from sweeper.core.records import TrialResult, TrialSpec

PROBE_SHARE = 0.25
"""By this share of the time a probe of the budget must be over."""
SEARCH_SHARE = 0.6
"""And by this one the search: what is left is the confirmation's."""
RECHECK_SHARE = 0.7
REPORT_SHARE, REPORT_SECONDS = 0.1, 15.0
"""Evidence and report are left this much, whichever is less."""
REMEMBERED = 8
"""The next training is taken to be as slow as the slowest of so many before it."""


class Timekeeper:
    """Measures the trainings of a sweep, as one of its observers, and says what there is time for.

    Without a limit there is always time. As long as nothing was measured a training may begin before its share is over.
    """

    def __init__(
        self,
        seconds: float | None,
        clock: Callable[[], float],
        *,
        before: Iterable[TrialResult] = (),
        pace: Callable[[], float] | None = None,
    ) -> None:
        """Make one for a session.

        Args:
            seconds: the limit; None = none.
            clock: seconds since the session began.
            before: results of earlier sessions, for their speed.
            pace: seconds by which trainings are measured: those that this process ran, so that one during which it was
                stopped is not taken for slow; None = `clock`.
        """
        self.seconds, self._clock, self._pace = seconds, clock, pace or clock
        rates = [r.seconds / r.evaluations[-1].step for r in before if r.evaluations and r.seconds > 0]
        self._rates = deque(rates[-REMEMBERED:], REMEMBERED)
        self._starts: dict[tuple[str, int], tuple[float, int]] = {}

    def over(self) -> bool:
        """Whether what still runs must be given up."""
        return self.seconds is not None and self._clock() >= self._share(1.0)

    def admits(self, share: float) -> Callable[[int], bool]:
        """Whether a training of so many steps would end before `share` of the time is over."""

        def admitted(steps: int) -> bool:
            if self.seconds is None:
                return True
            gone, needed = self._clock(), steps * max(self._rates, default=0.0)
            return gone < self._share(share) and gone + needed <= self._share(share)

        return admitted

    def notify(self, event: SweepEvent) -> None:
        """Note when a training begins, and at its end or pause how long a step took, evaluations and all."""
        match event:
            case Started(spec):
                self._starts[spec.purpose, spec.number] = self._pace(), 0
            case Resumed(spec, result):
                self._starts[spec.purpose, spec.number] = self._pace(), result.evaluations[-1].step
            case Paused(spec, result) | Finished(spec, result):
                self._measure(spec, result)
            case Dropped(spec):
                self._starts.pop((spec.purpose, spec.number), None)

    def _measure(self, spec: TrialSpec, result: TrialResult) -> None:
        began, first = self._starts.pop((spec.purpose, spec.number), (None, 0))
        steps = result.evaluations[-1].step - first if result.evaluations else 0
        if began is not None and steps > 0:
            self._rates.append((self._pace() - began) / steps)

    def _share(self, share: float) -> float:
        assert self.seconds is not None
        return share * (self.seconds - min(REPORT_SHARE * self.seconds, REPORT_SECONDS))
