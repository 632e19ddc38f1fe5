"""Which trials a search makes, which families it drops, when it ends, and how it handles failures and lost workers."""

from __future__ import annotations

import math
from collections import Counter
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from optuna.storages import RDBStorage
from optuna.trial import TrialState

from sweeper import storage as studies
from sweeper.core.events import Reply, WorkerLost
from sweeper.core.records import Collapse, FamilyStart, TrialResult, TrialSpec
from sweeper.storage.record_format import ABANDONED, ATTEMPT_OF, PARAMETERS, RESULT, RETRY_OF
from sweeper.storage.results import is_counted, list_present_trials, read_result
from sweeper.study.budget_ladder import make_probe_specs
from sweeper.study.learning_check import SINGLE_SKILL, SKILL, compute_skill, is_task_learned
from sweeper.study.learning_rates import choose_drawn_range
from sweeper.study.loop import run_work
from sweeper.study.search import GENERATION, enqueue_defaults, has_search_settled
from sweeper.study.successive_halving import MAX_LAG
from tests.support import builders
from tests.support.faking import (
    DATA,
    LEVELS,
    SPACE,
    CrashError,
    FakeExecutor,
    fake_result,
    new_plan,
    new_search,
    new_study,
    train,
)
from tests.support.sweeping import Recorder

FAMILIES = [family.family for family in SPACE.families]

FLOORS = sum(3 if family.is_searched else 1 for family in SPACE.families)
"""Trials of the first generation: a family without a parameter to search has one."""


def make_executor(**levels: float) -> FakeExecutor:
    """Return an executor whose trainings reach these levels at any learning rate."""

    def train_one(spec: TrialSpec) -> TrialResult:
        result = fake_result(spec)
        value = {**LEVELS, **levels}[spec.family] + 0.001 * (spec.number % 7)
        evaluations = tuple(e.model_copy(update={"value": value * e.step / spec.steps}) for e in result.evaluations)
        return result.model_copy(update={"value": value, "evaluations": evaluations})

    return FakeExecutor(train_one)


# --- what was trained before ---


def test_probe_trainings_become_trials_and_are_not_repeated() -> None:
    study, executor = new_study(), FakeExecutor()
    probes = [fake_result(spec) for spec in make_probe_specs(SPACE, builders.conditions(), 60.0, 100)]
    numbers = [FAMILIES.index(result.spec.family) for result in probes]
    enqueue_defaults(study, SPACE, 9)
    assert run_work(executor, new_search(study, 9, reusable=probes), lambda: None)
    assert [spec.number for spec in executor.specs] == [n for n in range(9) if n not in numbers]
    for trial, before in zip([studies.search_results(study)[n] for n in numbers], probes, strict=True):
        assert (trial.spec.purpose, trial.value, trial.evaluations) == ("search", before.value, before.evaluations)
        assert sorted(study.trials[trial.spec.number].intermediate_values) == [e.step for e in before.evaluations]


# --- floors ---


def test_every_family_gets_its_defaults_and_minimum_of_trials() -> None:
    study, executor = new_study(), FakeExecutor()
    train(study, executor, trials=30)
    trials = [r.spec for r in studies.search_results(study)]
    assert [spec.family for spec in trials[: len(FAMILIES)]] == FAMILIES
    tried = Counter(spec.family for spec in trials[:FLOORS])
    assert tried == {family.family: 3 if family.is_searched else 1 for family in SPACE.families}
    rates = studies.read_rates(study.user_attrs)
    assert rates is not None
    drawn = choose_drawn_range(rates.by_family["dice"], SPACE.lr)
    assert all(spec.lr in drawn for spec in trials)
    assert len({spec.loss for spec in trials}) == len(trials)  # none is trained twice


def test_families_begin_in_the_order_of_the_starts() -> None:
    mixes = [{"dice_ce.mix": 0.2, "dice_ce.pos_weight_power": power} for power in (0.25, 0.75)]
    default = {"dice_ce.mix": 0.5, "dice_ce.pos_weight_power": 0.0}
    starts = [FamilyStart(family="dice_ce", params=params) for params in (mixes[0], default, mixes[1])]
    space = SPACE.model_copy(update={"starts": (*starts, FamilyStart(family="dice", params={}))})
    study = new_study()
    train(study, FakeExecutor(), trials=30, plan=new_plan(space))
    trials = sorted(study.trials, key=lambda trial: trial.number)[:FLOORS]
    order = ["dice_ce", "dice", *(family for family in FAMILIES if family not in ("dice_ce", "dice"))]
    assert [trial.params["loss"] for trial in trials[: len(order)]] == order
    tried = [trial.params for trial in trials if trial.params["loss"] == "dice_ce"]
    shown = [{name: value for name, value in params.items() if name in default} for params in tried]
    assert shown == [mixes[0], default, mixes[1]]


def test_a_family_far_behind_gets_only_its_minimum_of_trials() -> None:
    study = new_study()
    train(study, make_executor(focal=LEVELS["dice"] - 3 * MAX_LAG, weighted_ce=LEVELS["dice"] - 3 * MAX_LAG), trials=45)
    tried = Counter(r.spec.family for r in studies.search_results(study))
    assert (tried["focal"], tried["weighted_ce"], tried["dice"]) == (3, 3, 1)
    assert tried["dice_ce"] + tried["tversky"] > 9


# --- its end ---


def test_a_search_has_settled_without_a_gain_in_the_last_trials() -> None:
    def is_settled(values: dict[int, float], started: int = 20, gain: float = 0.01) -> bool:
        trials = [builders.trial("dice", value, number) for number, value in values.items()]
        return has_search_settled(trials, 10, gain, waiting=set(range(started)) - values.keys())

    values = {0: 0.5, 5: 0.6, 11: 0.605}
    assert is_settled(values)
    assert not is_settled(values, 17)  # seven trials beyond the floors
    assert not is_settled({**values, 13: 0.62})
    assert is_settled({**values, 13: 0.62}, 30)
    assert is_settled({}, gain=0.0)


def test_a_search_ends_when_settled_or_at_its_total() -> None:
    study, display, fifty = new_study(), Recorder(), new_study()
    train(study, make_executor(), display, trials=50, settles=True)
    assert len(studies.search_results(study)) == FLOORS + GENERATION
    assert any(f"ended after {FLOORS + GENERATION} trials" in line for line in display.lines)
    assert study.user_attrs[studies.CUT] == []
    train(fifty, make_executor(), trials=50)
    assert len(studies.search_results(fifty)) == 50


@pytest.mark.parametrize("after", [5, 22, 27, 30])
def test_an_interrupted_search_ends_like_an_uninterrupted_one(after: int) -> None:
    study = new_study()
    executor = make_executor()
    executor._left = after
    with pytest.raises(CrashError):
        train(study, executor, trials=50, settles=True)
    train(study, make_executor(), trials=50, settles=True)
    assert len(studies.search_results(study)) == FLOORS + GENERATION


# --- nothing learned ---


def train_at_skill(skill: float, spec: TrialSpec) -> TrialResult:
    """Return a training with this skill (0: a constant answer, 1: a perfect one), by its counts on validation."""
    return fake_result(spec).model_copy(update={"val": builders.counts_from_iou([find_iou(skill)] * 8)})


@cache
def find_iou(skill: float) -> float:
    """Return the foreground IoU of eight images at which a training has this skill."""
    result, low, high = builders.trial(), 0.0, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        counts = builders.counts_from_iou([middle] * 8)
        is_below = compute_skill(result.model_copy(update={"val": counts})) < skill
        low, high = (middle, high) if is_below else (low, middle)
    return high


def test_a_task_is_learned_after_two_skilled_trainings_or_one_far_ahead() -> None:
    assert is_task_learned([SKILL, -math.inf, SKILL]) and is_task_learned([SINGLE_SKILL, 0.0])
    assert not is_task_learned([SINGLE_SKILL - 0.01, SKILL - 0.01]) and not is_task_learned([])


def test_a_training_that_predicts_a_single_class_has_no_skill() -> None:
    spec = make_probe_specs(SPACE, builders.conditions(DATA), 60.0, 100)[0]
    assert compute_skill(train_at_skill(0.3, spec)) == pytest.approx(0.3, abs=0.02)
    constant = train_at_skill(0.3, spec).model_copy(update={"collapse": Collapse.ALL_BACKGROUND})
    assert compute_skill(constant) == -math.inf


def test_a_search_that_learned_nothing_ends_early_with_a_warning() -> None:
    """By chance the first two probes are above the threshold, and no later training is."""
    lucky = iter([1, 1])

    def train_one(spec: TrialSpec) -> TrialResult:
        return train_at_skill(0.06 if spec.purpose == "probe" and next(lucky, 0) else 0.02, spec)

    study, display, executor = new_study(), Recorder(), FakeExecutor(train_one)
    train(study, executor, display, trials=50, finds_steps=True)
    assert FLOORS <= len(studies.search_results(study)) <= FLOORS + 1
    assert not studies.list_extra_results(study, "confirm")
    assert any("no loss clearly beats a constant answer in 100 steps" in line for line in display.warnings)
    second_executor = FakeExecutor(train_one)
    train(study, second_executor, trials=50, finds_steps=True)
    assert second_executor.specs == []


def test_the_search_reaches_its_total_if_the_user_sets_the_steps() -> None:
    study = new_study()
    train(study, FakeExecutor(lambda spec: train_at_skill(0.02, spec)), trials=30)
    assert len(studies.search_results(study)) == 30 and studies.list_extra_results(study, "confirm")


# --- trials as work ---


def run_search(study: optuna.Study, trials: int, script: dict[int, Any] | None = None) -> Recorder:
    """Run a search in which the trainings of these numbers return something else."""
    recorder = Recorder()
    executor = FakeExecutor(lambda spec: (script or {}).get(spec.number, fake_result)(spec))
    enqueue_defaults(study, SPACE, trials)
    assert run_work(executor, new_search(study, trials, recorder), lambda: None)
    return recorder


def test_the_last_of_too_few_trials_is_of_cross_entropy() -> None:
    starts = tuple(FamilyStart(family=family, params={}) for family in FAMILIES[::-1])  # cross-entropy comes last
    space, order = SPACE.model_copy(update={"starts": starts}), FAMILIES[::-1]

    def queue(study: optuna.Study, trials: int) -> list[str]:
        enqueue_defaults(study, space, trials)
        return [trial.system_attrs["fixed_params"]["loss"] for trial in study.trials]

    assert queue(new_study(), 3) == [*order[:2], "cross_entropy"]
    assert queue(study := new_study(), 1) == order[:1]
    assert queue(study, 2) == [order[0], "cross_entropy"]
    assert queue(study, 4) == [order[0], "cross_entropy", *order[1:3]]
    assert queue(new_study(), 50) == order


def test_the_second_trial_under_a_time_limit_is_of_cross_entropy() -> None:
    """Whenever the time ends, the other losses can be compared with it."""
    starts = tuple(FamilyStart(family=family, params={}) for family in FAMILIES[::-1])  # cross-entropy comes last
    space, order = SPACE.model_copy(update={"starts": starts}), FAMILIES[::-1]

    def queue(study: optuna.Study, trials: int) -> list[str]:
        enqueue_defaults(study, space, trials, is_limited=True)
        return [trial.system_attrs["fixed_params"]["loss"] for trial in study.trials]

    assert queue(new_study(), 50) == [order[0], "cross_entropy", *order[1:-1]]
    assert queue(study := new_study(), 1) == order[:1]
    assert queue(study, 2) == [order[0], "cross_entropy"]


def test_a_second_search_continues_to_a_larger_total() -> None:
    study = new_study()
    run_search(study, 3)
    assert [t.params["loss"] for t in study.trials] == FAMILIES[:3]
    run_search(study, 9)
    assert sum(is_counted(t) for t in study.trials) == 9
    run_search(study, 12)
    assert sum(is_counted(t) for t in study.trials) == 12
    run_search(study, 12)
    assert len(study.trials) == 12


def test_a_lost_worker_costs_no_trial_and_a_trial_has_two_attempts() -> None:
    losses_left = [1]

    def lose_once(spec: TrialSpec) -> Reply | TrialResult:
        return WorkerLost(spec, "worker killed by signal 9") if losses_left and losses_left.pop() else fake_result(spec)

    study = new_study()
    recorder = run_search(study, 4, {1: lose_once})
    assert list_abandoned(study) == {4: 1}
    assert sum(is_counted(t) for t in study.trials) == 4
    assert study.trials[1].params == study.trials[4].params
    assert [s.number for s in recorder.dropped] == [1]
    uninterrupted = new_study()
    run_search(uninterrupted, 4)
    assert [t.params for t in list_present_trials(study)] == [t.params for t in uninterrupted.trials]

    study = new_study()
    run_search(study, 4, {1: lambda spec: WorkerLost(spec, "worker killed by signal 9")})
    assert list_abandoned(study) == {4: 1}
    failed = [t for t in study.trials if t.state == TrialState.FAIL and is_counted(t)]
    assert [t.number for t in failed] == [1]
    assert "each of 2 attempts" in (read_result(failed[0]).reason or "")


def list_abandoned(study: optuna.Study) -> dict[int, int]:
    """Return the records of attempts that were cut off, and of which trial."""
    attempts = [t for t in study.trials if ABANDONED in t.user_attrs]
    return {t.number: t.user_attrs[ATTEMPT_OF] for t in attempts}


@pytest.mark.parametrize("value", [float("inf"), float("nan"), -0.1, 1.5])
def test_a_value_outside_0_to_1_is_a_failed_trial_and_never_the_best(value: float) -> None:
    study = new_study()
    run_search(study, 4, {3: lambda spec: fake_result(spec).model_copy(update={"value": value})})
    assert study.trials[3].state == TrialState.FAIL
    assert 0 <= study.best_value <= 1
    assert "must be in [0, 1]" in (read_result(study.trials[3]).reason or "")


def test_a_resume_repeats_failed_trials_with_their_parameters() -> None:
    def fail(spec: TrialSpec) -> TrialResult:
        return fake_result(spec).model_copy(update={"state": "failed", "value": None, "reason": "OSError: no room"})

    def train_out_of_range(spec: TrialSpec) -> TrialResult:
        return fake_result(spec).model_copy(update={"value": 1.5})

    study, uninterrupted = new_study(), new_study()
    run_search(uninterrupted, 9)
    run_search(study, 6, {3: fail, 4: fail, 5: train_out_of_range})
    assert studies.reconcile_study(study) == 0
    repeated = studies.retry_failed(study)
    assert [(r.spec.number, r.reason) for r in repeated] == [(3, "OSError: no room"), (4, "OSError: no room")]
    assert studies.retry_failed(study) == []  # they are in the queue already
    run_search(study, 9, {6: fail})
    retried = {t.user_attrs[RETRY_OF]: t for t in study.trials if RETRY_OF in t.user_attrs}
    assert {number: study.trials[number].params for number in retried} == {n: t.params for n, t in retried.items()}
    results = {r.spec.number: r for r in studies.search_results(study)}
    assert len(results) == 9 and results.keys() == {0, 1, 2, 5, 6, 7, 8, 9, 10}
    assert [n for n, r in results.items() if r.state == "failed"] == [5, 6]
    assert [r.spec.number for r in studies.retry_failed(study)] == [6]  # and again by the next resume
    assert study.trials[8].params == uninterrupted.trials[6].params


def test_work_waits_until_an_executor_has_free_workers() -> None:
    """A cluster that lost its nodes, and gets others."""

    class SlowExecutor(FakeExecutor):
        polls = 0

        def free(self) -> int:
            return super().free() if self.polls > 3 else 0

        def poll(self, timeout_seconds: float) -> list[Reply]:
            self.polls += 1
            return super().poll(timeout_seconds)

    study = new_study()
    assert run_work(SlowExecutor(), new_search(study, 4), lambda: None)
    assert sum(is_counted(t) for t in study.trials) == 4


def test_a_result_missing_in_optuna_is_reported_at_the_next_start() -> None:
    study = new_study()
    work = new_search(study, 3)
    job = work.next()
    study._storage.set_trial_user_attr(study.trials[0]._trial_id, RESULT, studies.pack(fake_result(job.spec)))
    work.next()
    assert studies.reconcile_study(study) == 3  # the generation was asked for
    assert study.trials[0].state == TrialState.COMPLETE
    assert {trial.state for trial in study.trials[1:]} == {TrialState.WAITING} and len(study.trials) == 3


def test_a_trial_stores_the_parameters_that_it_is_trained_with() -> None:
    """Optuna's own parameter of the weight is an exponent of the imbalance."""
    study = new_study()
    study.enqueue_trial({"loss": "weighted_ce", "weighted_ce.pos_weight_power": 0.5})
    job = new_search(study, 9).next()
    assert job.spec.params["pos_weight"] == pytest.approx(60**0.5)
    assert study.trials[0].user_attrs[PARAMETERS] == "pos_weight 7.75"


# --- many trials: what grows with their number, counted and not timed (bench/overhead.py times it) ---


@pytest.mark.slow
def test_a_trial_reads_no_more_rows_in_a_larger_study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, row_counts = 0, list[int]()
    get_trials = RDBStorage._get_trials

    def count_rows(*arguments: Any, **settings: Any) -> Any:
        nonlocal rows
        trials = get_trials(*arguments, **settings)
        rows += len(trials)
        return trials

    class CountingRecorder(Recorder):
        def keep(self, result: TrialResult) -> None:
            row_counts.append(rows)

    monkeypatch.setattr(RDBStorage, "_get_trials", count_rows)
    study = studies.create_study(studies.open_storage(f"sqlite:///{tmp_path}/sweeper.db"), "s", new_plan())
    enqueue_defaults(study, SPACE, 120)
    assert run_work(FakeExecutor(), new_search(study, 120, CountingRecorder()), lambda: None)
    rows_of_trials = np.diff(row_counts)
    assert rows_of_trials[-30:].mean() <= 1.5 * rows_of_trials[30:60].mean() + 5
