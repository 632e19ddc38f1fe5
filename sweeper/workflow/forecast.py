"""Forecast of a sweep's time: the trainings that a study still has to do, at the measured pace."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from math import inf

from sweeper import storage as studies
from sweeper.core.base import Record
from sweeper.core.events import ResultStored, SweepEvent
from sweeper.core.recipe import Recipe
from sweeper.core.text import format_count, format_duration, format_parallel_trainings, join_words
from sweeper.evidence.final_comparison import MOST_SEEDS
from sweeper.evidence.interim_analyses import FIRST_LOOK
from sweeper.space import count_floor_trials
from sweeper.study.budget_ladder import FACTORS
from sweeper.study.finalist import REPLICATED, REPLICATIONS, count_finalists
from sweeper.study.learning_rates import is_one_rate
from sweeper.study.search import count_possible_trials
from sweeper.study.successive_halving import estimate_trained_share
from sweeper.study.timekeeper import REPORT_SECONDS, Timekeeper
from sweeper.workflow.options import StudyRequest
from sweeper.workflow.phase_progress import NOT_KNOWN
from sweeper.workflow.settings import CPU_MINUTES, GPU_MINUTES
from sweeper.workflow.study_state import StudyState

PHASES = ("probe", "rate", "first", "search", "replicate", "confirm", "final")


BUSY = 2.0
"""Factor on a step's measured time from which other programs are said to slow the trainings down."""


class PlannedTrainings(Record):
    """Largest number, and length, of the trainings of one kind."""

    most: int
    first: int
    """Those that come before the first tested answer."""
    steps: int
    """Steps of each."""
    share: float = 1.0
    """Share of these steps that is trained: most trials stop early; above 1 where a step takes longer."""


def count_trainings_left(
    plan: studies.StudyPlan, request: StudyRequest, state: StudyState
) -> dict[str, PlannedTrainings]:
    """Count the trainings still to come, by phase (`PHASES`, but the ladder's); none of a finished study.

    The ladder is not counted: the search reuses its last trainings, and its height is not known before.
    """
    if state.finished:
        return {}
    recipe, space, analyses = plan.conditions.recipe, plan.space, request.analyses
    trials, families = count_possible_trials(space, request.trials), len(space.families)
    finalists = min(count_finalists(space), families, trials)
    rotation = plan.conditions.folds or 1
    looks = request.looks_first and families > 1 and not state.search.done
    to_search = 0 if state.searched else max(0, trials - state.trials)
    to_look = 2 * FIRST_LOOK.seeds - state.first.complete if looks else 0
    shared = min(2, finalists) * (state.first.complete + to_look) // 2
    confirmed = 0 if to_search else state.confirm.complete  # further trials may change the finalists
    rates = 0 if state.has_rates or is_one_rate(space.lr) else count_rate_trainings(plan, request)
    is_chosen = count_floor_trials(space, trials) <= 1 or state.confirm.done > 0
    near = 0 if is_chosen else (1 + REPLICATED) * REPLICATIONS - state.replicate.done
    first, last = (max(0, analyses[end].seeds * rotation * finalists - shared - confirmed) for end in (0, -1))

    def plan_trainings(most: int, steps: int, first: int) -> PlannedTrainings:
        return PlannedTrainings(most=max(0, most), first=max(0, first), steps=steps)

    steps, more_steps = recipe.steps, recipe.confirm_steps
    by_phase = {
        "rate": plan_trainings(rates, steps, rates),
        "first": plan_trainings(to_look, more_steps, to_look),
        "search": plan_trainings(to_search, steps, to_search).model_copy(
            update={"share": estimate_trained_share(trials, families)}
        ),
        "replicate": plan_trainings(near, more_steps, near),
        "confirm": plan_trainings(last, more_steps, first),
    }
    if request.final is not None and not state.has_final and finalists > 1:
        most = 2 * MOST_SEEDS - state.final.complete
        by_phase["final"] = plan_trainings(most, request.final.steps or recipe.final_steps, 0).model_copy(
            update={"share": recipe.final_cost}
        )
    if looks:  # its answer is the first
        later = {name: each for name, each in by_phase.items() if name not in ("rate", "first")}
        by_phase |= {name: each.model_copy(update={"first": 0}) for name, each in later.items()}
    phases = ["final"] if state.confirmed else list(by_phase)
    return {name: trainings for name, trainings in by_phase.items() if trainings.most and name in phases}


def count_rate_trainings(plan: studies.StudyPlan, request: StudyRequest) -> int:
    """Count the most trainings that find the learning rates, without the ladder's, which has those at the middle."""
    families = len(plan.space.families)
    tried = families if plan.conditions.recipe.command else min(2, families)
    return (3 - request.finds_steps) * tried


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


def plan_text(trainings: Mapping[str, PlannedTrainings], recipe: Recipe) -> str:
    """Describe the planned trainings as part of a sentence; empty if there are none."""
    phrases = {
        "rate": "{n} of {steps} to find the learning rate",
        "first": "{n} of {steps} for a first look",
        "search": "{n} of {steps}",
        "replicate": "{n} of {steps} to find the finalists",
        "confirm": "{n} of {steps} to confirm them",
        "final": "{n} of {steps} in the final training",
    }
    parts = []
    for phase, each in trainings.items():
        number = format_count(each.most, "trial" if phase == "search" else "training")
        parts.append(phrases[phase].format(n=number, steps=recipe.format_steps(each.steps)))
    return "at most " * bool(parts) + join_words(parts)


class Forecast:
    """Observer that forecasts how long the sweep still takes, once its pace is known."""

    def __init__(
        self,
        trainings: Mapping[str, PlannedTrainings],
        time: Timekeeper,
        workers: Callable[[], int],
        log: Callable[[str], None] = lambda _: None,
        *,
        step: str = "a step",
        usual: float | None = None,
        condition: str = "",
    ) -> None:
        """Create the forecast of a session with this time and pace, and `workers` trainings at a time.

        `log` receives the total time once it is known, with the `condition` under which it holds. `usual` are the
        seconds of a step as measured on this machine; None = not known.
        """
        self._time, self._workers, self._log, self._step, self._usual = time, workers, log, step, usual
        self.use_trainings(trainings, condition)
        self._ended = Counter[str]()
        """Trainings of this session that have ended, by phase."""
        self._phase, self._is_announced = PHASES[0], False

    def use_trainings(self, trainings: Mapping[str, PlannedTrainings], condition: str = "") -> None:
        """Forecast these trainings from now on, which are planned under a condition."""
        self.trainings, self._condition, self._climbed = dict(trainings), condition, 0

    def estimate_seconds_left(self) -> tuple[float, float] | None:
        """Return the seconds at most until the first tested answer, infinite if the time is up before, and the last.

        None while nothing was measured, or the ladder tries more steps than these trainings have.
        """
        pace, search = self._time.pace, self.trainings.get("search")
        is_beyond = search is not None and self._climbed > search.steps
        if pace is None or is_beyond:
            return None
        ends = [0.0, 0.0]
        for phase in PHASES[PHASES.index(self._phase) :]:
            if (each := self.trainings.get(phase)) is not None:
                seconds = pace * each.steps * each.share / max(1, self._workers())
                for end, number in enumerate((each.first, each.most)):
                    ends[end] += seconds * max(0, number - self._ended[phase])
        left, (first_answer, most) = self._time.compute_seconds_left(), (end + REPORT_SECONDS for end in ends)
        return first_answer if first_answer <= left else inf, min(left, most)

    def format_times(self) -> str:
        """Format when the first and the last tested answer are expected; or that it is not known yet."""
        if (forecast := self.estimate_seconds_left()) is None:
            return NOT_KNOWN
        first_answer, most = forecast
        if not REPORT_SECONDS < first_answer < inf:  # the first answer has come, or does not
            return f"at most {format_duration(most)} left in all"
        last = f", last within {format_duration(most)}" if most > first_answer else ""
        return f"first tested answer within {format_duration(first_answer)}{last}"

    def notify(self, event: SweepEvent) -> None:
        """Count the trainings that have ended, and announce the time once the pace is known."""
        if event.spec.purpose == "probe":
            self._climbed = max(self._climbed, event.spec.steps)
        if isinstance(event, ResultStored):
            purpose = event.result.spec.purpose
            self._phase = max(self._phase, purpose, key=PHASES.index)
            self._ended[purpose] += 1
        if not self._is_announced and self._time.pace is not None and self.estimate_seconds_left() is not None:
            self._is_announced = True
            self._log(
                f"time{self._condition}: {self.format_times()}, as {self._step} takes "
                f"{format_duration(self._time.pace)}, evaluations included, and "
                f"{format_parallel_trainings(self._workers())}{self._explain_pace(self._time.pace)}"
            )

    def _explain_pace(self, pace: float) -> str:
        """Return why a step takes several times what it took before; "" if it does not."""
        if self._usual is None or pace < BUSY * self._usual:
            return ""
        return (
            f". It took {format_duration(self._usual)} when this machine was measured: other programs slow it down, "
            "and what is trained fits the time that is left"
        )
