"""How long a sweep still takes: the trainings that are to come, at the pace that was measured."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, NamedTuple

from sweeper import storage as studies
from sweeper.core.events import Dropped, Evaluated, Job, Lost, Paused, Resumed, Stored, SweepEvent
from sweeper.core.records import TrialResult
from sweeper.core.text import at_a_time, count, listed, time_range, time_text
from sweeper.study.learning_check import probes
from sweeper.study.timekeeper import REPORT_SECONDS
from sweeper.workflow.planned_trainings import Trainings

if TYPE_CHECKING:
    from sweeper.executors.protocol import Executor

SEARCH_SHARE = 0.525
"""Of the search's steps, what is trained, as trials stop at their rungs (docs/performance.md)."""
PHASES = ("probe", "search", "recheck", "confirm")
MEASURED_STEPS, MEASURED_PART = 12, 20
"""Steps that are trained to measure their time: so many, or this part of a trial's, if that is more."""
MEASURING_SECONDS = 120.0
RECENT = 8
"""The pace is that of so many trainings, the last that were heard of."""

Key = tuple[str, int]


class Left(NamedTuple):
    """Seconds that a sweep still takes."""

    least: float
    first: float
    """Until the first tested answer, at most; it needs `least` at least."""
    most: float
    """Until the last."""


def seconds_left(
    trainings: Mapping[str, Trainings], pace: float, workers: int, trained: Mapping[str, int] | None = None
) -> Left:
    """Seconds that trainings and report still take.

    Args:
        trainings: by phase.
        pace: seconds of a training by the step.
        workers: trainings at a time.
        trained: steps of them that were taken already, by phase.
    """
    ends = [0.0, 0.0, 0.0]
    for phase, each in trainings.items():
        share = SEARCH_SHARE if phase == "search" else 1.0
        for end, number in enumerate((each.least, each.first, each.most)):
            ends[end] += max(0.0, number * each.steps * share - (trained or {}).get(phase, 0))
    return Left(*(steps * pace / max(1, workers) + REPORT_SECONDS for steps in ends))


def answers_text(left: Left) -> str:
    """When the first tested answer comes, and when the last, for people."""
    last = "" if left.most <= left.first else f", last within {time_text(left.most)}"
    return f"first tested answer in {time_range(left.least, left.first)}{last}"


def plan_text(trainings: Mapping[str, Trainings]) -> str:
    """What is to come, in one sentence for people; empty where nothing is."""
    said = {
        "search": "{n} of at most {steps} steps",
        "recheck": "{n} for the finalists' learning rates",
        "confirm": "{n} of {steps} steps to confirm them",
    }
    parts = []
    for phase, each in trainings.items():
        noun = "trial" if phase == "search" else "training"
        number = count(each.most, noun) if each.least == each.most else f"{each.least} to {count(each.most, noun)}"
        parts.append(said[phase].format(n=number, steps=each.steps))
    return listed(parts)


def measured_pace(executor: Executor, plan: studies.Plan, warn: Callable[[str], None]) -> float | None:
    """Seconds of a training by the step, evaluations and all, from a short one on each worker.

    Args:
        executor: open, with nothing to train.
        plan: what would be trained.
        warn: is told why there is none.

    Returns:
        The mean of the workers; None where a training failed or took too long.
    """
    steps = plan.conditions.recipe.steps
    short = min(steps, max(MEASURED_STEPS, steps // MEASURED_PART))
    spec = probes(plan.space, plan.conditions, plan.imbalance, short)[0]
    end = time.monotonic() + MEASURING_SECONDS
    while not (free := executor.free()) and time.monotonic() < end:
        executor.poll(0.1)
    for number in range(free):
        executor.submit(Job(spec.model_copy(update={"number": number}), until=short))
    results: list[TrialResult] = []
    while len(results) < free and time.monotonic() < end:
        for told in executor.poll(0.1):
            if isinstance(told, Lost) or told.result.state == "failed":
                reason = told.reason if isinstance(told, Lost) else told.result.reason
                warn(f"a training of {short} steps, to measure their time, failed: {reason}")
                return None
            results.append(told.result)
    if not results:
        warn(
            f"a training of {short} steps took more than {MEASURING_SECONDS:.0f} s; how long a sweep takes is not known"
        )
        return None
    return sum(_pace(result, steps) for result in results) / len(results)


def _pace(result: TrialResult, steps: int) -> float:
    """The pace of a training of `steps` steps, by a shorter one: what it did besides steps it does as often."""
    if result.seconds_per_step is None:
        return result.seconds / result.spec.steps
    step = result.seconds_per_step
    return step + max(0.0, result.seconds - step * result.spec.steps) / steps


class Forecast:
    """An observer that knows, once a training was evaluated, how long the sweep still takes."""

    def __init__(
        self,
        trainings: Mapping[str, Trainings],
        workers: Callable[[], int],
        left: Callable[[], float | None] = lambda: None,
        log: Callable[[str], None] = lambda _: None,
    ) -> None:
        """Make one for a session.

        Args:
            trainings: what is to come, by phase.
            workers: trainings that run at a time, on all machines.
            left: seconds up to the time limit; None = none.
            log: is told the whole time once it is known.
        """
        self.trainings, self._workers, self._limit, self._log = dict(trainings), workers, left, log
        self._trained: dict[str, int] = {}
        self._steps: dict[Key, int] = {}
        """Where each training is that was heard of in this session."""
        self._paces: dict[Key, float] = {}
        self._phase = PHASES[0]

    def left(self) -> Left | None:
        """Seconds that the sweep still takes; None while nothing was measured."""
        if (pace := self.pace) is None:
            return None
        to_come = {p: t for p, t in self.trainings.items() if PHASES.index(p) >= PHASES.index(self._phase)}
        left, limit = seconds_left(to_come, pace, self._workers(), self._trained), self._limit()
        return left if limit is None else Left(*(min(seconds, limit) for seconds in left))

    def text(self) -> str:
        """When the first tested answer comes, and when the last at the latest; empty while nothing was measured."""
        left = self.left()
        if left is None:
            return ""
        if left.first <= REPORT_SECONDS:  # it is there
            return f"at most {time_text(left.most)} left in all"
        return answers_text(left)

    @property
    def pace(self) -> float | None:
        """Seconds of a training by the step, evaluations and all."""
        recent = list(self._paces.values())[-RECENT:]
        return sum(recent) / len(recent) if recent else None

    def notify(self, event: SweepEvent) -> None:
        """Count the steps that were trained, and measure them."""
        first = self.pace is None
        self._count(event)
        if first and (found := self.left()) is not None and self.pace is not None:
            self._log(
                f"time: {answers_text(found)}, as a step takes {time_text(self.pace)}, evaluations included, and "
                f"{at_a_time(self._workers())}"
            )

    def _count(self, event: SweepEvent) -> None:
        match event:
            case Resumed(spec, result):
                self._steps.setdefault((spec.purpose, spec.number), result.evaluations[-1].step)
            case Evaluated(spec, evaluation):
                self._see((spec.purpose, spec.number), evaluation.step, evaluation.seconds)
            case Paused(spec, result) | Stored(TrialResult(spec=spec) as result) if result.evaluations:
                self._see((spec.purpose, spec.number), result.evaluations[-1].step, result.seconds)
            case Dropped(spec):
                self._steps.pop((spec.purpose, spec.number), None)

    def _see(self, key: Key, step: int, seconds: float) -> None:
        self._phase = max(self._phase, key[0], key=PHASES.index)
        self._trained[key[0]] = self._trained.get(key[0], 0) + max(0, step - self._steps.get(key, 0))
        self._steps[key] = max(step, self._steps.get(key, 0))
        self._paces.pop(key, None)
        self._paces[key] = seconds / step
