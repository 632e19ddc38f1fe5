"""Sampler, pruner, storage and the order of events, against real Optuna and SQLite."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from sweeper import storage as studies
from sweeper.core.errors import StudyError
from sweeper.core.events import Answer, Lost
from sweeper.core.records import Collapse, TrialResult, TrialSpec
from sweeper.space import load_space, suggest
from sweeper.storage.record_format import ABANDONED, ATTEMPT_OF, PARAMETERS, PLAN, RESULT, RETRY_OF
from sweeper.storage.results import counted, present_trials, result_of
from sweeper.study.confirmation_rounds import confirm_seed, confirmations, confirmed
from sweeper.study.finalist import Finalist, choose_finalists
from sweeper.study.learning_check import probes
from sweeper.study.loop import drive
from sweeper.study.sampler import KeyedTPESampler
from sweeper.study.search import enqueue_defaults
from sweeper.study.training_list import Batch
from tests.support import builders
from tests.support.faking import SPACE, FakeExecutor, fake_result, new_plan, new_search, new_study
from tests.support.sweeping import Recorder


def going_on() -> None:
    """Nobody asks to stop."""


def value_of(family: str, params: dict[str, float], lr: float) -> float:
    """A made-up objective with its best inside the space."""
    return 0.5 + 0.1 * (family == "dice_ce") - 0.02 * abs(params.get("gamma", 2.0) - 2.0) - 5 * abs(lr - 0.002)


def grow(study: optuna.Study, trials: int) -> list[dict[str, Any]]:
    for _ in range(trials):
        trial = study.ask()
        choice = suggest(trial, SPACE, 60.0)
        study.tell(trial, value_of(choice.family, choice.params, choice.lr))
    return [t.params for t in study.trials]


# --- sampler ---


def test_the_same_seed_gives_the_same_parameters() -> None:
    assert grow(new_study(), 16) == grow(new_study(), 16)
    assert grow(new_study(1), 5) != grow(new_study(), 5)


def test_a_resumed_study_goes_on_as_if_it_had_not_stopped(tmp_path: Path) -> None:
    whole = grow(new_study(), 16)
    url = f"sqlite:///{tmp_path}/study.db"
    for upto in (7, 16):  # a fresh sampler each time, as in a new process
        study = optuna.create_study(
            storage=studies.open_storage(url), study_name="s", direction="maximize", load_if_exists=True
        )
        study.sampler = KeyedTPESampler(0)
        grow(study, upto - len(study.trials))
    assert [t.params for t in study.trials] == whole


def test_the_sampler_ignores_the_global_random_state() -> None:
    import random

    import numpy as np

    first = grow(new_study(), 12)
    np.random.seed(1)  # noqa: NPY002
    random.seed(1)
    assert grow(new_study(), 12) == first


# --- the queue ---


def test_fewer_trials_than_families_try_the_first_ones() -> None:
    study = new_study()
    enqueue_defaults(study, SPACE, 3)
    grow(study, 3)
    assert [t.params["loss"] for t in study.trials] == [f.family for f in SPACE.families][:3]


# --- the search as work ---


def scripted(script: dict[int, Any] | None) -> FakeExecutor:
    """Trainings of these numbers give something else."""
    return FakeExecutor(lambda spec: (script or {}).get(spec.number, fake_result)(spec))


def run(study: optuna.Study, trials: int, script: dict[int, Any] | None = None) -> Recorder:
    recorder = Recorder()
    enqueue_defaults(study, SPACE, trials)
    assert drive(scripted(script), new_search(study, trials, recorder), going_on)  # type: ignore[arg-type]
    return recorder


def test_the_search_ends_at_its_total_and_a_second_goes_on_to_a_larger_one() -> None:
    study = new_study()
    run(study, 9)
    assert sum(counted(t) for t in study.trials) == 9
    run(study, 12)
    assert sum(counted(t) for t in study.trials) == 12
    run(study, 12)
    assert len(study.trials) == 12


def test_a_dead_worker_costs_no_trial_but_is_tried_only_twice() -> None:
    left = [1]

    def dies(spec: TrialSpec) -> Answer | TrialResult:
        return Lost(spec, "worker killed by signal 9") if left and left.pop() else fake_result(spec)

    study = new_study()
    recorder = run(study, 4, {1: dies})
    assert abandoned(study) == {4: 1}
    assert sum(counted(t) for t in study.trials) == 4
    assert study.trials[1].params == study.trials[4].params
    assert [s.number for s in recorder.dropped] == [1]
    whole = new_study()
    run(whole, 4)
    assert [t.params for t in present_trials(study)] == [t.params for t in whole.trials]

    study = new_study()
    run(study, 4, {1: lambda spec: Lost(spec, "worker killed by signal 9")})
    assert abandoned(study) == {4: 1}
    failed = [t for t in study.trials if t.state == TrialState.FAIL and counted(t)]
    assert [t.number for t in failed] == [1]
    assert "each of 2 attempts" in (result_of(failed[0]).reason or "")


def abandoned(study: optuna.Study) -> dict[int, int]:
    """The records of attempts that were cut off, and of which trial."""
    attempts = [t for t in study.trials if ABANDONED in t.user_attrs]
    return {t.number: t.user_attrs[ATTEMPT_OF] for t in attempts}


@pytest.mark.parametrize("value", [float("inf"), float("nan"), -0.1, 1.5])
def test_a_value_outside_0_to_1_is_a_failed_trial_and_never_the_best(value: float) -> None:
    study = new_study()
    run(study, 4, {3: lambda spec: fake_result(spec).model_copy(update={"value": value})})
    assert study.trials[3].state == TrialState.FAIL
    assert 0 <= study.best_value <= 1
    assert "must lie in [0, 1]" in (result_of(study.trials[3]).reason or "")


def test_failed_trials_are_trained_again_by_a_resume_at_their_own_places() -> None:
    def fails(spec: TrialSpec) -> TrialResult:
        return fake_result(spec).model_copy(update={"state": "failed", "value": None, "reason": "OSError: no room"})

    def no_share(spec: TrialSpec) -> TrialResult:
        return fake_result(spec).model_copy(update={"value": 1.5})

    study, whole = new_study(), new_study()
    run(whole, 9)
    run(study, 6, {1: fails, 4: fails, 5: no_share})
    assert studies.reconcile(study) == 0
    again = studies.retry_failed(study)
    assert [(r.spec.number, r.reason) for r in again] == [(1, "OSError: no room"), (4, "OSError: no room")]
    assert studies.retry_failed(study) == []  # they are in the queue already
    run(study, 9, {6: fails})
    retried = {t.user_attrs[RETRY_OF]: t for t in study.trials if RETRY_OF in t.user_attrs}
    assert {number: study.trials[number].params for number in retried} == {n: t.params for n, t in retried.items()}
    results = {r.spec.number: r for r in studies.search_results(study)}
    assert len(results) == 9 and results.keys() == {0, 2, 3, 5, 6, 7, 8, 9, 10}
    assert [n for n, r in results.items() if r.state == "failed"] == [5, 6]
    assert [r.spec.number for r in studies.retry_failed(study)] == [6]  # at its next resume once more
    assert study.trials[8].params == whole.trials[6].params


def test_stopping_leaves_nothing_running_and_queues_what_was_cut_off() -> None:
    study = new_study()
    enqueue_defaults(study, SPACE, 7)
    work, asked = new_search(study, 7), []

    def stopping() -> str | None:
        asked.append(1)
        return "the sweep was stopped" if len(asked) > 3 else None

    assert not drive(FakeExecutor(), work, stopping)  # type: ignore[arg-type]
    states = [t.state for t in study.trials]
    assert TrialState.RUNNING not in states
    cut = next(t for t in study.trials if t.state == TrialState.WAITING and t.params)
    assert not abandoned(study)
    run(study, 7)
    assert sum(counted(t) for t in study.trials) == len(study.trials) == 7
    assert study.trials[cut.number].params == cut.params


def test_work_waits_for_room_where_there_is_none_yet() -> None:
    """A cluster that lost its nodes, and gets others."""

    class Slow(FakeExecutor):
        polls = 0

        def free(self) -> int:
            return super().free() if self.polls > 3 else 0

        def poll(self, timeout_seconds: float) -> list[Answer]:
            self.polls += 1
            return super().poll(timeout_seconds)

    study = new_study()
    assert drive(Slow(), new_search(study, 4), going_on)  # type: ignore[arg-type]
    assert sum(counted(t) for t in study.trials) == 4


# --- storage ---


def test_a_study_with_a_plan_knows_what_was_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Cut off right after its plan was stored, it is resumed with the same total."""
    storage = studies.open_storage(f"sqlite:///{tmp_path}/a.db")
    order: list[str] = []
    write = optuna.Study.set_user_attr

    def noting(study: optuna.Study, key: str, value: Any) -> None:
        order.append(key)
        write(study, key, value)

    monkeypatch.setattr(optuna.Study, "set_user_attr", noting)
    studies.create_study(storage, "s", new_plan(), {"trials": 7})
    assert order[:2] == [studies.OPTIONS, PLAN]
    assert studies.read_options(storage, "s") == {"trials": 7}


def test_names_that_exist_and_names_that_do_not_are_refused_with_the_remedy(tmp_path: Path) -> None:
    storage = studies.open_storage(f"sqlite:///{tmp_path}/a.db")
    studies.create_study(storage, "s", new_plan())
    with pytest.raises(StudyError, match="--resume"):
        studies.create_study(storage, "s", new_plan())
    with pytest.raises(StudyError, match="the newest are: s"):
        studies.read_plan(storage, "other")


@pytest.mark.parametrize("url", ["mysql://user:secret@x/db", "sweeper.db"])
def test_other_storages_are_refused(url: str) -> None:
    with pytest.raises(StudyError, match="sqlite:///") as caught:
        studies.open_storage(url)
    assert "secret" not in str(caught.value)


def test_differences_name_what_changed() -> None:
    old = new_plan()
    recipe = old.conditions.recipe.model_copy(update={"steps": 999})
    dataset = old.conditions.dataset.model_copy(update={"digest": "sha256:other"})
    new = old.model_copy(
        update={"conditions": old.conditions.model_copy(update={"recipe": recipe, "dataset": dataset, "seed": 5})}
    )
    text = "\n".join(studies.differences(old, new))
    assert f"recipe.steps: {old.conditions.recipe.steps} → 999" in text
    assert "data set" in text and "seed: " in text
    fewer = SPACE.model_copy(update={"families": SPACE.families[1:]})
    assert "space.cross_entropy" in studies.differences(old, old.model_copy(update={"space": fewer}))[0]
    assert studies.differences(old, old) == []


def test_a_result_that_was_stored_but_not_told_is_told_at_the_next_start() -> None:
    study = new_study()
    work = new_search(study, 3)
    job = work.next()
    assert job is not None
    study._storage.set_trial_user_attr(study.trials[0]._trial_id, RESULT, studies.pack(fake_result(job.spec)))
    other = work.next()
    assert other is not None
    assert studies.reconcile(study) == 2
    assert study.trials[0].state == TrialState.COMPLETE
    assert study.trials[1].state == TrialState.WAITING and len(study.trials) == 2


# --- trainings that are known beforehand ---


def complete(number: int, family: str, value: float, **changes: Any) -> TrialResult:
    spec = TrialSpec(
        purpose="search", number=number, family=family, params={}, lr=1e-3 * (number + 1), seed=0, steps=100
    )
    return fake_result(spec).model_copy(update={"value": value, **changes})


def chosen(*trials: TrialResult) -> list[Finalist]:
    return choose_finalists(trials, [], None, SPACE, builders.conditions())


def test_finalists_are_the_best_of_three_families_and_the_baseline() -> None:
    trials = [
        complete(0, "cross_entropy", 0.50),
        complete(1, "dice", 0.60),
        complete(2, "dice", 0.70),
        complete(3, "focal", 0.65),
        complete(4, "tversky", 0.64),
        complete(5, "dice_ce", 0.66),
        complete(6, "weighted_ce", 0.99, state="pruned"),
        complete(7, "dice_focal", 0.0, collapse=Collapse.DIVERGED),
    ]
    assert [f.trial.spec.number for f in chosen(*trials)] == [2, 5, 3, 0]


def test_confirmation_seeds_are_paired_and_never_the_searches() -> None:
    finalists = chosen(complete(0, "cross_entropy", 0.9), complete(1, "dice", 0.8))
    specs = confirmations(finalists, builders.conditions(), 3)
    assert [(s.family, s.seed) for s in specs] == [
        (family, confirm_seed(0, n)) for n in range(3) for family in ("cross_entropy", "dice")
    ]
    assert {s.seed for s in confirmations(finalists, builders.conditions(), 100)}.isdisjoint({0})
    assert {s.steps for s in specs} == {builders.conditions().recipe.confirm_steps}
    assert [s.keep_predictions > 0 for s in specs] == [True, True, False, False, False, False]


def batch(study: optuna.Study, *trials: TrialResult, seeds: int, recorder: Recorder | None = None) -> Batch:
    specs = confirmations(chosen(*trials), builders.conditions(), seeds)
    return Batch(study, specs, recorder=recorder or Recorder())


def drained(work: Batch) -> list[TrialSpec]:
    return [job.spec for job in iter(work.next, None)]


def test_what_was_confirmed_is_not_repeated() -> None:
    study = new_study()
    two = (complete(0, "cross_entropy", 0.9), complete(1, "dice", 0.8))
    assert drive(FakeExecutor(), batch(study, *two, seeds=2), going_on)  # type: ignore[arg-type]
    assert len(batch(study, *two, seeds=3)) == 2
    better = complete(9, "dice", 0.95)
    assert len(batch(study, two[0], better, seeds=2)) == 2
    results, conditions = studies.extra_results(study, "confirm"), builders.conditions()
    assert len(confirmed(results, chosen(*two), conditions, 2)) == 4
    assert len(confirmed(results, chosen(*two), conditions, 1)) == 2
    assert len(confirmed(results, chosen(two[0], better), conditions, 2)) == 2


def test_a_batch_fills_the_numbers_that_were_left_open() -> None:
    study = new_study()
    two = (complete(0, "cross_entropy", 0.9), complete(1, "dice", 0.8))
    whole = drained(batch(study, *two, seeds=2))
    assert [spec.number for spec in whole] == [0, 1, 2, 3]
    for number in (0, 2):
        studies.store_extra(study, fake_result(whole[number]))
    assert drained(batch(study, *two, seeds=3))[:3] == [
        whole[1],
        whole[3],
        whole[0].model_copy(update={"number": 4, "seed": confirm_seed(0, 2), "keep_predictions": 0}),
    ]


def test_a_batch_dead_twice_is_a_failed_training_that_is_kept() -> None:
    study, recorder = new_study(), Recorder()
    dies = FakeExecutor(lambda spec: Lost(spec, "worker killed by signal 9"))
    work = batch(study, complete(0, "dice", 0.9), seeds=1, recorder=recorder)
    assert drive(dies, work, going_on)  # type: ignore[arg-type]
    (result,) = studies.extra_results(study, "confirm")
    assert (result.state, len(dies.specs)) == ("failed", 2)
    assert "each of 2 attempts" in (result.reason or "")


# --- the trainings that show whether a loss learns ---


def test_probes_are_the_literature_defaults_at_the_middle_learning_rate() -> None:
    specs = {spec.family: spec for spec in probes(SPACE, builders.conditions(), 60.0, 50)}
    study = new_study()
    enqueue_defaults(study, SPACE, 7)
    grow(study, 7)
    for trial in study.trials:
        choice = suggest(optuna.trial.FixedTrial(trial.params), SPACE, 60.0)
        assert specs[choice.family].lr == choice.lr
        assert specs[choice.family].params == choice.params
    full = load_space("full_multiclass", "multiclass")
    assert len(probes(full, builders.conditions(), 60.0, 50)) == len(full.families)


def test_a_trial_shows_the_numbers_it_is_trained_with() -> None:
    """Optuna's own parameter of the weight is an exponent of the imbalance."""
    study = new_study()
    study.enqueue_trial({"loss": "weighted_ce", "weighted_ce.pos_weight_power": 0.5, "weighted_ce.lr": 0.003})
    job = new_search(study, 9).next()
    assert job is not None and job.spec.params["pos_weight"] == pytest.approx(60**0.5)
    assert study.trials[0].user_attrs[PARAMETERS] == "pos_weight 7.75, lr 0.003"
