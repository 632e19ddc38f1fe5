"""Forecast of a sweep's time: the trainings that a study still has to do, at the measured pace."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import inf

from sweeper import storage as studies
from sweeper.core.base import Record
from sweeper.core.events import (
    ResultStored,
    SweepEvent,
    TrainingDropped,
    TrainingEvaluated,
    TrainingPaused,
    TrainingResumed,
)
from sweeper.core.recipe import Recipe
from sweeper.core.records import TrialResult, TrialSpec
from sweeper.core.text import format_count, format_duration, format_parallel_trainings, join_words
from sweeper.evidence.interim_analyses import FIRST_LOOK
from sweeper.evidence.longer_look import MOST_SEEDS
from sweeper.study.budget_ladder import FACTORS
from sweeper.study.finalist import count_finalists
from sweeper.study.learning_rates import is_one_rate
from sweeper.study.timekeeper import REPORT_SECONDS
from sweeper.workflow.options import StudyRequest
from sweeper.workflow.phase_progress import NOT_KNOWN
from sweeper.workflow.settings import CPU_MINUTES, GPU_MINUTES
from sweeper.workflow.study_state import StudyState

SEARCH_SHARE = 0.6
"""Share of the search's steps that is trained, as trials stop at their rungs (docs/performance.md)."""
PHASES = ("probe", "first", "search", "recheck", "confirm", "longer")
MAX_LONGER_LOSSES = 3
"""Losses that are trained longer at most: the recommended one, the present one and the runner-up."""
RECENT = 8
"""Number of the latest trainings whose mean is the pace."""


class PlannedTrainings(Record):
    """Largest number, and length, of the trainings of one kind."""

    most: int
    first: int
    """Those that come before the first tested answer."""
    steps: int
    """Steps of each."""


def count_trainings_left(
    plan: studies.StudyPlan, request: StudyRequest, state: StudyState
) -> dict[str, PlannedTrainings]:
    """Count the trainings still to come, by phase (`PHASES`, but the ladder's); none of a finished study.

    The ladder is not counted: the search reuses its last trainings, and its height is not known before.
    """
    if state.finished:
        return {}
    trials, done, analyses = request.trials, state.trials, request.analyses
    recipe, families = plan.conditions.recipe, len(plan.space.families)
    finalists = min(count_finalists(plan.space), families, trials)
    rotation = plan.conditions.folds or 1
    to_search = 0 if state.searched else max(0, trials - done)
    first, last = (analyses[end].seeds * rotation for end in (0, -1))
    confirmed = state.confirm.complete
    rechecks = 0 if is_one_rate(plan.space.lr) else finalists
    of_these = 0 if to_search else confirmed  # further trials may change the finalists

    pair = 2 * FIRST_LOOK.seeds if request.looks_first and families > 1 and not state.search.done else 0
    to_look = max(0, pair - state.first.complete)
    by_phase = {
        "first": PlannedTrainings(most=to_look, first=to_look, steps=recipe.confirm_steps),
        "search": PlannedTrainings(most=to_search, first=to_search, steps=recipe.steps),
        "recheck": PlannedTrainings(most=rechecks, first=rechecks, steps=recipe.steps),
        "confirm": PlannedTrainings(
            most=max(0, last * finalists - of_these),
            first=max(0, first * finalists - of_these),
            steps=recipe.confirm_steps,
        ),
    }
    if request.longer is not None and not state.looked and finalists > 1:
        most = MAX_LONGER_LOSSES + 2 * (MOST_SEEDS - 1) - state.longer.complete
        steps = request.longer * recipe.confirm_steps
        by_phase["longer"] = PlannedTrainings(most=max(0, most), first=0, steps=steps)
    if pair:  # its answer is the first
        by_phase |= {name: each.model_copy(update={"first": 0}) for name, each in by_phase.items() if name != "first"}
    phases = ["longer"] if state.confirmed else list(by_phase)
    return {name: trainings for name, trainings in by_phase.items() if trainings.most and name in phases}


def format_steps(plan: studies.StudyPlan, request: StudyRequest) -> str:
    """Describe how the steps of a trial will be found; empty if they are known."""
    first = plan.conditions.recipe.steps
    if not request.finds_steps:
        return ""
    usual = "{} min, or in up to {} where the classes need it (GPU {}, {})".format(*CPU_MINUTES, *GPU_MINUTES)
    time = usual if request.time is None else format_duration(request.time)
    return (
        f"steps: {first:,} to {FACTORS[-1] * first:,}, as the classes need; if {first:,} are too few, fewer "
        f"losses, trials and seeds are compared, to end in {time}"
    )


class SecondsLeft(Record):
    """Time that a sweep still takes at most."""

    first_answer: float
    """Until the first tested answer."""
    most: float
    """Until the last answer."""


def forecast_seconds_left(
    trainings: Mapping[str, PlannedTrainings],
    pace: float,
    workers: int,
    trained: Mapping[str, int] = {},
    *,
    limit: float,
) -> SecondsLeft:
    """Forecast the seconds, `limit` at most, that trainings (by phase) and report still take, at `pace` seconds a step.

    `trained` are the steps that were already taken, by phase.
    """
    ends = [0.0, 0.0]
    for phase, each in trainings.items():
        share = SEARCH_SHARE if phase == "search" else 1.0
        for end, number in enumerate((each.first, each.most)):
            ends[end] += max(0.0, number * each.steps * share - trained.get(phase, 0))
    first_answer, most = (min(limit, steps * pace / max(1, workers) + REPORT_SECONDS) for steps in ends)
    return SecondsLeft(first_answer=first_answer, most=most)


def format_answer_times(times: SecondsLeft) -> str:
    """Format when the first tested answer is expected, and when the last."""
    last = "" if times.most <= times.first_answer else f", last within {format_duration(times.most)}"
    return f"first tested answer within {format_duration(times.first_answer)}{last}"


def plan_text(trainings: Mapping[str, PlannedTrainings], recipe: Recipe) -> str:
    """Describe the planned trainings as part of a sentence; empty if there are none."""
    phrases = {
        "first": "{n} of {steps} for a first look",
        "search": "{n} of {steps}",
        "recheck": "{n} for the finalists' learning rates",
        "confirm": "{n} of {steps} to confirm them",
        "longer": "{n} of {steps} for the longer look",
    }
    parts = []
    for phase, each in trainings.items():
        number = format_count(each.most, "trial" if phase == "search" else "training")
        parts.append(phrases[phase].format(n=number, steps=recipe.format_steps(each.steps)))
    return "at most " * bool(parts) + join_words(parts)


class Forecast:
    """Observer that forecasts how long the sweep still takes, once a training was evaluated."""

    def __init__(
        self,
        trainings: Mapping[str, PlannedTrainings],
        workers: Callable[[], int],
        limit: Callable[[], float] = lambda: inf,
        log: Callable[[str], None] = lambda _: None,
        *,
        step: str = "a step",
    ) -> None:
        """Create the forecast of a session: `workers` trainings at a time, `limit` seconds left.

        `log` receives the total time once it is known.
        """
        self.trainings, self._workers, self._limit, self._log = dict(trainings), workers, limit, log
        self._step = step
        self._trained: dict[str, int] = {}
        self._steps: dict[str, int] = {}
        """Last step of each training in this session."""
        self._paces: dict[str, float] = {}
        self._phase = PHASES[0]

    def estimate_seconds_left(self) -> SecondsLeft | None:
        """Return the seconds that the sweep still takes; None while nothing was measured."""
        if (pace := self.pace) is None:
            return None
        to_come = {p: t for p, t in self.trainings.items() if PHASES.index(p) >= PHASES.index(self._phase)}
        return forecast_seconds_left(to_come, pace, self._workers(), self._trained, limit=self._limit())

    def format_times(self) -> str:
        """Format when the first and the last tested answer are expected; or that it is not known yet."""
        forecast = self.estimate_seconds_left()
        if forecast is None:
            return NOT_KNOWN
        if forecast.first_answer <= REPORT_SECONDS:  # the first answer has come
            return f"at most {format_duration(forecast.most)} left in all"
        return format_answer_times(forecast)

    @property
    def pace(self) -> float | None:
        """Seconds per training step, including evaluations."""
        recent = list(self._paces.values())[-RECENT:]
        return sum(recent) / len(recent) if recent else None

    def notify(self, event: SweepEvent) -> None:
        """Count and time the steps that were trained."""
        first = self.pace is None
        self._count_steps(event)
        if first and self.pace is not None:
            self._log(
                f"time: {self.format_times()}, as {self._step} takes {format_duration(self.pace)}, "
                f"evaluations included, and {format_parallel_trainings(self._workers())}"
            )

    def _count_steps(self, event: SweepEvent) -> None:
        match event:
            case TrainingResumed(spec, result):
                self._steps.setdefault(spec.name, result.evaluations[-1].step)
            case TrainingEvaluated(spec, evaluation):
                self._record_pace(spec, evaluation.step, evaluation.seconds)
            case TrainingPaused(spec, result) | ResultStored(TrialResult(spec=spec) as result) if result.evaluations:
                self._record_pace(spec, result.evaluations[-1].step, result.seconds)
            case TrainingDropped(spec):
                self._steps.pop(spec.name, None)

    def _record_pace(self, spec: TrialSpec, step: int, seconds: float) -> None:
        phase, before = spec.purpose, self._steps.get(spec.name, 0)
        self._phase = max(self._phase, phase, key=PHASES.index)
        self._trained[phase] = self._trained.get(phase, 0) + max(0, step - before)
        self._steps[spec.name] = max(step, before)
        self._paces.pop(spec.name, None)
        self._paces[spec.name] = seconds / step
