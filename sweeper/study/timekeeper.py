"""The time limit: how it is shared out, and whether a training that is about to begin would end in time."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable

from sweeper.core.events import ResultStored, SweepEvent, TrainingPaused
from sweeper.core.records import TrialResult

SEARCH_SHARE = 0.6
"""Share of the time by which ladder and search must end; the rest is left for the confirmation."""
RECHECK_SHARE = 0.7
REPORT_SHARE, REPORT_SECONDS = 0.1, 15.0
"""Time kept for evidence and report: a share of the limit or a number of seconds, whichever is less."""
REMEMBERED = 8
"""Number of recent trainings whose slowest pace is assumed for the next one."""


class Timekeeper:
    """Observer that measures the pace of a sweep's trainings, and decides whether there is time for another.

    While no pace is known, a training may begin until its share is over.
    """

    def __init__(self, seconds: float, clock: Callable[[], float], *, before: Iterable[TrialResult] = ()) -> None:
        """Create a timekeeper for a session; `clock` returns the seconds since it began, `seconds` is its limit.

        The results of earlier sessions, `before`, count for their pace.
        """
        self.seconds, self._clock = seconds, clock
        self._rates = deque[float](maxlen=REMEMBERED)
        for result in before:
            self._record_pace(result)

    def compute_seconds_left(self) -> float:
        """Return the seconds until the session must have ended."""
        return max(0.0, self.seconds - self._clock())

    def is_over(self) -> bool:
        """Return whether all running trainings must be given up."""
        return not self.make_admission(1.0)(0)

    def make_admission(self, share: float) -> Callable[[int], bool]:
        """Return a function of steps: whether such a training would end before `share` of the time is over."""

        def admitted(steps: int) -> bool:
            deadline = share * (self.seconds - min(REPORT_SHARE * self.seconds, REPORT_SECONDS))
            gone, needed = self._clock(), steps * max(self._rates, default=0.0)
            return gone < deadline and gone + needed <= deadline

        return admitted

    def notify(self, event: SweepEvent) -> None:
        """Record the seconds per step, evaluations included, of a training that ends or waits."""
        match event:
            case TrainingPaused(_, result) | ResultStored(result):
                self._record_pace(result)

    def _record_pace(self, result: TrialResult) -> None:
        if result.evaluations and result.seconds > 0:
            self._rates.append(result.seconds / result.evaluations[-1].step)
