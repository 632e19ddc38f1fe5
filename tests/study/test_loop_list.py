"""Lists of trainings: completed ones are not repeated, and a resume gives the numbers of an uninterrupted run."""

from __future__ import annotations

from typing import Any

import optuna

from sweeper import storage as studies
from sweeper.core.events import WorkerLost
from sweeper.core.records import StudyRates, TrialResult, TrialSpec
from sweeper.study.finalist import (
    Finalist,
    choose_finalists,
    collect_configurations,
    derive_confirmation_seed,
    make_confirmation_specs,
    select_confirmed,
)
from sweeper.study.loop import TrainingList, run_work
from tests.support import builders
from tests.support.faking import SPACE, FakeExecutor, fake_result, new_study
from tests.support.sweeping import Recorder


def make_complete(number: int, family: str, value: float, **changes: Any) -> TrialResult:
    spec = TrialSpec(
        purpose="search", number=number, family=family, params={"mix": float(number)}, lr=1e-3, seed=0, steps=100
    )
    return fake_result(spec).model_copy(update={"value": value, **changes})


def choose(*trials: TrialResult) -> list[Finalist]:
    rates = StudyRates(by_family=dict.fromkeys(SPACE.by_name, 1e-3))
    return choose_finalists(collect_configurations(trials, [], rates, SPACE, builders.conditions()), SPACE)


def make_batch(study: optuna.Study, *trials: TrialResult, seeds: int, recorder: Recorder | None = None) -> TrainingList:
    specs = make_confirmation_specs(choose(*trials), builders.conditions(), seeds)
    return TrainingList(study, specs, recorder=recorder or Recorder())


def list_specs(work: TrainingList) -> list[TrialSpec]:
    return [job.spec for job in iter(work.next, None)]


def test_a_confirmed_training_is_not_repeated() -> None:
    study = new_study()
    two = (make_complete(0, "cross_entropy", 0.9), make_complete(1, "dice", 0.8))
    assert run_work(FakeExecutor(), make_batch(study, *two, seeds=2), lambda: None)
    assert len(make_batch(study, *two, seeds=3)) == 2
    better = make_complete(9, "dice", 0.95)
    assert len(make_batch(study, two[0], better, seeds=2)) == 2
    results, conditions = studies.list_extra_results(study, "confirm"), builders.conditions()
    assert len(select_confirmed(results, choose(*two), conditions, 2)) == 4
    assert len(select_confirmed(results, choose(*two), conditions, 1)) == 2
    assert len(select_confirmed(results, choose(two[0], better), conditions, 2)) == 2


def test_a_batch_uses_the_free_numbers() -> None:
    study = new_study()
    two = (make_complete(0, "cross_entropy", 0.9), make_complete(1, "dice", 0.8))
    specs = list_specs(make_batch(study, *two, seeds=2))
    assert [spec.number for spec in specs] == [0, 1, 2, 3]
    for number in (0, 2):
        studies.store_extra(study, fake_result(specs[number]))
    assert list_specs(make_batch(study, *two, seeds=3))[:3] == [
        specs[1],
        specs[3],
        specs[0].model_copy(
            update={"number": 4, "seed": derive_confirmation_seed(0, 2), "keep_predictions": 0, "lr": 1.29e-3}
        ),
    ]


def test_a_training_whose_worker_dies_twice_is_stored_as_failed() -> None:
    study, recorder = new_study(), Recorder()
    failing = FakeExecutor(lambda spec: WorkerLost(spec, "worker killed by signal 9"))
    work = make_batch(study, make_complete(0, "dice", 0.9), seeds=1, recorder=recorder)
    assert run_work(failing, work, lambda: None)
    (result,) = studies.list_extra_results(study, "confirm")
    assert (result.state, len(failing.specs)) == ("failed", 2)
    assert "each of 2 attempts" in (result.reason or "")


def test_confirmation_seeds_are_paired_and_differ_from_those_of_the_search() -> None:
    finalists = choose(make_complete(0, "cross_entropy", 0.9), make_complete(1, "dice", 0.8))
    specs = make_confirmation_specs(finalists, builders.conditions(), 3)
    assert [(s.family, s.seed) for s in specs] == [
        (family, derive_confirmation_seed(0, n)) for n in range(3) for family in ("cross_entropy", "dice")
    ]
    assert {s.seed for s in make_confirmation_specs(finalists, builders.conditions(), 100)}.isdisjoint({0})
    assert {s.steps for s in specs} == {builders.conditions().recipe.confirm_steps}
    assert [s.keep_predictions > 0 for s in specs] == [True, True, False, False, False, False]
