"""The time limit: how it is shared out, and whether a training that is about to begin would end in time."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from statistics import fmean

from sweeper.core.events import ResultStored, SweepEvent, TrainingEvaluated
from sweeper.core.records import TrialResult, TrialSpec

SEARCH_SHARE = 0.6
"""Share of the time by which ladder and search must end; the rest is left for the confirmation."""
REPLICATION_SHARE = 0.7
REPORT_SHARE, REPORT_SECONDS = 0.1, 15.0
"""Time kept for evidence and report: a share of the limit or a number of seconds, whichever is less."""
REMEMBERED = 8
"""Number of recent trainings whose pace counts."""


class Timekeeper:
    """Observer that measures the pace of a sweep's trainings, and decides whether there is time for another.

    While no pace is known, a training may begin until its share is over.
    """

    def __init__(
        self, seconds: float, clock: Callable[[], float], *, before: Iterable[TrialResult] = (), final_cost: float = 1.0
    ) -> None:
        """Create a timekeeper for a session; `clock` returns the seconds since it began, `seconds` is its limit.

        The results of earlier sessions, `before`, count for their pace. A step of the final training takes `final_cost`
        times as long as one of the search, whose pace this is.
        """
        self.seconds, self._clock, self._final_cost = seconds, clock, final_cost
        self._paces: dict[str, float] = {}
        """Seconds per step, evaluations included, of each training, the latest last."""
        for result in before:
            self.notify(ResultStored(result))

    @property
    def pace(self) -> float | None:
        """Mean seconds per step of the recent trainings; None before the first evaluation."""
        recent = self._list_recent()
        return fmean(recent) if recent else None

    def _list_recent(self) -> list[float]:
        return list(self._paces.values())[-REMEMBERED:]

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
            gone, needed = self._clock(), steps * max(self._list_recent(), default=0.0)
            return gone < deadline and gone + needed <= deadline

        return admitted

    def notify(self, event: SweepEvent) -> None:
        """Record the pace of a training that is evaluated or has ended."""
        match event:
            case TrainingEvaluated(spec, evaluation):
                self._record_pace(spec, evaluation.seconds / evaluation.step)
            case ResultStored(TrialResult(spec=spec, evaluations=[*_, last], seconds=seconds)) if seconds > 0:
                self._record_pace(spec, seconds / last.step)

    def _record_pace(self, spec: TrialSpec, pace: float) -> None:
        self._paces.pop(spec.name, None)
        self._paces[spec.name] = pace / (self._final_cost if spec.purpose == "final" else 1.0)
