"""Trainings that cost nothing, for tests of which trainings a sweep requests, in which order, and what it stores."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from math import inf
from pathlib import Path
from typing import Any

import numpy as np
import optuna

from sweeper import storage as studies
from sweeper.core.events import JobResult, Observers, Reply, TrainingJob, WorkerLost
from sweeper.core.records import (
    Conditions,
    Coordinate,
    InterimAnalysis,
    SearchSpace,
    StudyRates,
    SweepRecord,
    TrialResult,
    TrialSpec,
)
from sweeper.core.text import format_resume_command
from sweeper.data import divide_images
from sweeper.space import get_middle_rate, load_space
from sweeper.storage.results import read_analyses, read_planned_analyses
from sweeper.study.same_loss import EquivalenceQuestion, Measure
from sweeper.study.sampler import KeyedTPESampler
from sweeper.study.search import LossSearch
from sweeper.study.timekeeper import Timekeeper
from sweeper.workflow.lead import InterimReporter
from sweeper.workflow.options import StudyRequest, read_request
from sweeper.workflow.phases import train_all
from sweeper.workflow.run_context import RunContext
from sweeper.workflow.settings import FinalOptions
from sweeper.workflow.status import Heartbeat
from tests.support import builders
from tests.support.sweeping import Recorder

SPACE = load_space("binary", "binary").model_copy(update={"lr": Coordinate(kind="log", low=3e-4, high=1e-2)})
LEVELS = {
    "cross_entropy": 0.50,
    "weighted_ce": 0.56,
    "focal": 0.52,
    "dice": 0.60,
    "tversky": 0.585,
    "dice_ce": 0.59,
    "dice_focal": 0.58,
}
"""The value of each family in these trainings, apart from chance and learning rate."""
DATA = builders.dataset(images=60)
ANALYSES = (InterimAnalysis(seeds=2, error=0.02), InterimAnalysis(seeds=3, error=0.03))


class CrashError(Exception):
    """Stands for a power failure."""


def fake_result(spec: TrialSpec, levels: Mapping[str, float] = LEVELS) -> TrialResult:
    """Return the result of a training: better near lr 0.005, the same for the same loss, seed and learning rate."""
    luck = np.random.default_rng([spec.seed, *spec.family.encode(), round(spec.lr * 1e6)]).normal(0, 0.002)
    value = levels[spec.family] + float(luck) - 2 * abs(spec.lr - 0.005)
    rng = np.random.default_rng([spec.seed, 7])
    images = divide_images(DATA, test_seed=0, seed=0).test
    test = (
        builders.counts_from_iou(np.clip(value + rng.normal(0, 0.1, len(images)), 0.05, 0.95))
        if spec.is_tested or spec.purpose == "final"
        else None
    )
    changes: dict[str, Any] = {"test": test, "predictions": None, "run_id": None, "seconds": 1.0, "spec": spec}
    evaluations = tuple(
        builders.evaluation(max(1, spec.steps * part // 4), value * (0.7 + 0.075 * part)) for part in (1, 2, 3, 4)
    )
    return builders.trial(spec.family, value, spec.number, evaluations=evaluations, **changes)


class FakeExecutor:
    """Does `workers` jobs at a time; they end in the order they began, or `backwards`.

    `train` gives the answer to a spec (a result, or that its worker is lost). After `crash_after` trainings that ended
    or were left at a rung, it fails with the next one that does.
    """

    def __init__(
        self,
        train: Callable[[TrialSpec], TrialResult | WorkerLost] = fake_result,
        *,
        workers: int = 1,
        backwards: bool = False,
        crash_after: int | None = None,
        began: Callable[[TrialSpec], None] = lambda _: None,
    ) -> None:
        self._train, self.workers, self._backwards, self._left = train, workers, backwards, crash_after
        self._tell = began
        self._jobs: list[TrainingJob] = []
        self._between: set[str] = set()
        """Trainings that have a next rung, and no job."""
        self._made: dict[str, TrialResult | WorkerLost] = {}
        """The answers of trainings that can continue."""
        self.specs: list[TrialSpec] = []
        self.ended = 0
        """Trainings that ended or were left at a rung."""

    def free(self) -> int:
        return self.workers - len(self._jobs)

    def submit(self, job: TrainingJob) -> None:
        spec = job.spec
        self._between.discard(spec.name)
        if spec.name not in self._made:  # all of its time is counted when it begins
            self._tell(spec)
            self.specs.append(spec)
            self._made[spec.name] = self._train(spec)
        self._jobs.append(job)

    def poll(self, timeout_seconds: float) -> list[Reply]:
        if not self._jobs or timeout_seconds == 0:
            time.sleep(min(timeout_seconds, 0.01))
            return []
        job = self._jobs.pop(-1 if self._backwards else 0)
        key = job.spec.name
        final = self._made[key]
        answer = final if isinstance(final, WorkerLost) else JobResult(cut_after(final, job.until))
        completed = len(self._between)
        self._between.clear()
        if isinstance(answer, WorkerLost) or answer.finished:
            del self._made[key]
            completed += 1
        else:
            self._between.add(key)
        self.ended += completed
        if self._left is not None and self.ended > self._left:
            raise CrashError
        return [answer]


def cut_after(result: TrialResult, until: int) -> TrialResult:
    """Return the result of a training at its first evaluation from this step on."""
    count = [e.step < until for e in result.evaluations].count(True) + 1
    if count >= len(result.evaluations):
        return result
    evaluations = result.evaluations[:count]
    return result.model_copy(update={"state": "pruned", "evaluations": evaluations, "value": evaluations[-1].value})


def new_study(seed: int = 0) -> optuna.Study:
    """Return an empty study in memory."""
    return optuna.create_study(direction="maximize", sampler=KeyedTPESampler(seed))


def new_search(
    study: optuna.Study,
    trials: int,
    recorder: Recorder | None = None,
    checkpoints: Path = Path("nowhere"),
    space: SearchSpace = SPACE,
    **more: Any,
) -> LossSearch:
    """Return a search for the small literal data set of the builders."""
    places: dict[str, Any] = {"recorder": recorder or Recorder(), "checkpoints": checkpoints}
    rates = StudyRates(by_family=dict.fromkeys(space.by_name, get_middle_rate(space.lr)))
    conditions = builders.conditions()
    return LossSearch(study, space, conditions, imbalance=60.0, trials=trials, rates=rates, **places, **more)


def new_plan(space: SearchSpace = SPACE, conditions: Conditions | None = None) -> studies.StudyPlan:
    """Return a plan for the small literal data set of the builders."""
    return studies.StudyPlan(
        created="2026-11-20T07:00:00+00:00",
        conditions=conditions or builders.conditions(DATA),
        profile=builders.profile(),
        space=space,
        imbalance=60.0,
        versions={"sweeper": "0"},
    )


ONE_RATE = new_plan(SPACE.model_copy(update={"lr": Coordinate(kind="fixed", low=2e-3, high=2e-3)}))
"""A plan without rates to try."""


def measure_no_equivalence(questions: Sequence[EquivalenceQuestion], conditions: Conditions) -> list[float]:
    """Return distances at which no loss is equivalent to another one."""
    return [1.0] * len(questions)


def train(
    study: optuna.Study,
    executor: FakeExecutor | None = None,
    display: Recorder | None = None,
    *,
    trials: int = 9,
    analyses: Sequence[InterimAnalysis] = ANALYSES,
    plan: studies.StudyPlan | None = None,
    time: float | None = None,
    clock: Callable[[], float] = lambda: 0.0,
    heartbeat: Heartbeat | None = None,
    measure: Measure = measure_no_equivalence,
    finds_steps: bool = False,
    settles: bool = False,
    lost: Callable[[], bool] = lambda: False,
    so_far: InterimReporter | None = None,
    final: FinalOptions | None = None,
    looks_first: bool = False,
    options: Mapping[str, Any] | None = None,
) -> RunContext:
    """Run all phases of one session, as `run_sweep` does, and return the context at its end.

    `options` are those of all sessions so far, in place of the arguments that they stand for.
    """
    display, plan = display or Recorder(), plan or new_plan()
    executor = executor or FakeExecutor()
    studies.reconcile_study(study)
    studies.retry_failed(study)
    keeper = Timekeeper(time or inf, clock, before=studies.list_all_results(study))
    request = StudyRequest(
        trials, tuple(analyses), margin=0.01, finds_steps=finds_steps, confirm_steps=None, time=time, settles=settles
    )
    seeds = None if settles else (analyses[0].seeds, analyses[-1].seeds)
    request = request._replace(seeds=seeds, final=final, looks_first=looks_first)
    if options is not None:
        request = read_request(study, options)
    observers = Observers(tuple(one for one in (keeper, display, heartbeat, so_far) if one is not None))
    context = RunContext(
        study,
        plan,
        request,
        executor,
        Path("nowhere"),
        observers,
        display,
        display,  # type: ignore[arg-type]
        keeper,
        read_sweep=lambda: record_sweep(study, context.plan),
        heartbeat=heartbeat,
    )
    context.measure, context.is_taken_over = measure, lost
    context.resume_command = format_resume_command(study.study_name)
    if so_far is not None:
        context.publish_answer = so_far.publish
    train_all(context, on_plan_final=lambda _: None)
    return context


def record_sweep(study: optuna.Study, plan: studies.StudyPlan | None = None, **changes: Any) -> SweepRecord:
    """Return the study as the report reads it."""
    plan, attributes = plan or new_plan(), study.user_attrs
    same = studies.read_equivalent_losses(attributes)
    return builders.sweep(
        trials=studies.search_results(study),
        confirmations=tuple(studies.list_extra_results(study, "confirm")),
        conditions=plan.conditions,
        space=plan.space,
        probes=tuple(studies.list_extra_results(study, "probe")),
        at_rates=tuple(studies.list_extra_results(study, "rate")),
        replications=tuple(studies.list_extra_results(study, "replicate")),
        first=tuple(studies.list_extra_results(study, "first")),
        final=tuple(studies.list_extra_results(study, "final")),
        same_losses=() if same is None else same.found,
        rates=studies.read_rates(attributes),
        analyses_planned=read_planned_analyses(attributes),
        analyses_taken=read_analyses(attributes).analyses,
        cut=tuple(attributes[studies.CUT]),
        **changes,
    )
