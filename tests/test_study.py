"""Sampler, pruner, storage and the order of events, against real Optuna and SQLite."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from sweeper.errors import StudyError
from sweeper.records import Collapse, TrialResult, TrialSpec
from sweeper.space import load_space, suggest
from sweeper.study import storage as studies
from sweeper.study.confirm import Confirmation, confirm_seed, confirmed, finalists
from sweeper.study.drive import drive
from sweeper.study.executors import Died, Event, Finished, Reported
from sweeper.study.pruner import FAMILY, FamilyPruner
from sweeper.study.sampler import KeyedTPESampler
from sweeper.study.search import Search, enqueue_defaults
from tests import builders
from tests.sweeping import Recorder

SPACE = load_space("binary", "binary")


def new_study(seed: int = 0) -> optuna.Study:
    return optuna.create_study(direction="maximize", sampler=KeyedTPESampler(seed), pruner=FamilyPruner())


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


def test_suggestions_do_not_repeat() -> None:
    params = [tuple(sorted(p.items(), key=str)) for p in grow(new_study(), 20)]
    assert len(set(params)) == len(params)


def test_the_sampler_ignores_the_global_random_state() -> None:
    import random

    import numpy as np

    first = grow(new_study(), 12)
    np.random.seed(1)  # noqa: NPY002
    random.seed(1)
    assert grow(new_study(), 12) == first


# --- pruner ---


def reach(study: optuna.Study, family: str, values: list[float]) -> tuple[optuna.Trial, bool]:
    trial = study.ask()
    trial.set_user_attr(FAMILY, family)
    stopped = False
    for step, value in enumerate(values, 1):
        trial.report(value, step * 25)
        if trial.should_prune():
            stopped = True
            break
    return trial, stopped


def test_weak_trials_stop_and_strong_ones_go_on() -> None:
    study = new_study()
    for value in (0.60, 0.62, 0.64, 0.66, 0.68, 0.70):
        trial, _ = reach(study, "dice", [value] * 4)
        study.tell(trial, value)
    assert reach(study, "dice", [0.61])[1]
    assert not reach(study, "dice", [0.69])[1]


def test_the_best_of_a_family_never_stops_at_any_rung() -> None:
    study = new_study()
    for value in (0.60, 0.62, 0.64, 0.66, 0.68, 0.70):
        trial, _ = reach(study, "dice", [value] * 4)
        study.tell(trial, value)
    slow, stopped = reach(study, "cross_entropy", [0.1, 0.1, 0.1, 0.1])
    assert not stopped
    study.tell(slow, 0.1)
    assert reach(study, "cross_entropy", [0.09])[1]
    assert not reach(study, "cross_entropy", [0.11, 0.11, 0.11])[1]


def test_nothing_stops_before_there_is_something_to_compare_with() -> None:
    study = new_study()
    for value in (0.7, 0.6, 0.5, 0.4, 0.3):
        trial, stopped = reach(study, "dice", [value] * 4)
        assert not stopped
        study.tell(trial, value)


# --- the queue ---


def test_every_family_gets_its_defaults_first_and_its_floor() -> None:
    study = new_study()
    enqueue_defaults(study, SPACE, 30)
    grow(study, 30)
    families = [t.params["loss"] for t in study.trials]
    names = [f.family for f in SPACE.families]
    assert families[:7] == names
    assert all(families.count(name) >= 3 for name in names)


def test_fewer_trials_than_families_try_the_first_ones() -> None:
    study = new_study()
    enqueue_defaults(study, SPACE, 3)
    grow(study, 3)
    assert [t.params["loss"] for t in study.trials] == [f.family for f in SPACE.families][:3]


# --- the search as work ---


class FakeExecutor:
    """Answers every training at once; `script` may replace the events of a trial's number by others."""

    def __init__(self, script: dict[int, Any] | None = None) -> None:
        self._script, self._events, self._busy = script or {}, [], 0

    def free(self) -> int:
        return 1 - self._busy

    def submit(self, spec: TrialSpec) -> None:
        self._busy = 1
        made = self._script.get(spec.number, result_for)(spec)
        evaluations = made.evaluations if isinstance(made, TrialResult) else ()
        self._events: list[Event] = [Reported(spec, e, last=e is evaluations[-1]) for e in evaluations]
        self._events.append(Finished(spec, made) if isinstance(made, TrialResult) else made)

    def poll(self, timeout_seconds: float) -> list[Event]:
        event = self._events.pop(0)
        if not isinstance(event, Reported):
            self._busy = 0
        return [event]

    def answer(self, spec: TrialSpec, go_on: bool) -> None:
        if not go_on:
            done = self._events[-1]
            assert isinstance(done, Finished)
            self._events = [Finished(spec, done.result.model_copy(update={"state": "pruned"}))]


def result_for(spec: TrialSpec, value: float | None = None) -> TrialResult:
    value = value_of(spec.family, spec.params, spec.lr) if value is None else value
    shown = value if 0 <= value <= 1 else 0.5
    evaluations = tuple(builders.evaluation(s, shown) for s in (25, 50, 75, 100))
    return TrialResult(
        spec=spec,
        state="complete",
        value=value,
        evaluations=evaluations,
        collapse=Collapse.NONE,
        collapse_at_default=Collapse.NONE,
        seconds=1.0,
        seconds_per_step=0.01,
        device="cpu",
    )


def search(study: optuna.Study, trials: int, recorder: Recorder | None = None) -> Search:
    return Search(study, SPACE, builders.conditions(), imbalance=60.0, trials=trials, watcher=recorder or Recorder())


def run(study: optuna.Study, trials: int, script: dict[int, Any] | None = None) -> Recorder:
    recorder = Recorder()
    assert drive(FakeExecutor(script), search(study, trials, recorder), lambda: False)  # type: ignore[arg-type]
    return recorder


def test_the_search_ends_at_its_total_and_a_second_goes_on_to_a_larger_one() -> None:
    study = new_study()
    run(study, 9)
    assert sum(studies.counted(t) for t in study.trials) == 9
    run(study, 12)
    assert sum(studies.counted(t) for t in study.trials) == 12
    run(study, 12)
    assert len(study.trials) == 12


def test_results_are_stored_with_their_trials() -> None:
    study = new_study()
    run(study, 4)
    stored = studies.search_results(study)
    assert [r.spec.number for r in stored] == [0, 1, 2, 3]
    assert [r.value for r in stored] == [t.value for t in study.trials]


def test_a_dead_worker_costs_no_trial_but_is_tried_only_twice() -> None:
    def dies(spec: TrialSpec) -> Event:
        return Died(spec, "worker killed by signal 9")

    study = new_study()
    recorder = run(study, 4, {1: dies})
    assert abandoned_numbers(study) == [1]
    assert sum(studies.counted(t) for t in study.trials) == 4
    assert study.trials[1].params.items() <= study.trials[2].params.items()
    assert [s.number for s in recorder.dropped] == [1]

    study = new_study()
    run(study, 4, {1: dies, 2: dies})
    assert abandoned_numbers(study) == [1]
    failed = [t for t in study.trials if t.state == TrialState.FAIL and studies.counted(t)]
    assert [t.number for t in failed] == [2]
    assert "each of 2 attempts" in (studies.result_of(failed[0]).reason or "")


def abandoned_numbers(study: optuna.Study) -> list[int]:
    return [t.number for t in study.trials if studies.ABANDONED in t.user_attrs]


@pytest.mark.parametrize("value", [float("inf"), float("nan"), -0.1, 1.5])
def test_a_value_outside_0_to_1_is_a_failed_trial_and_never_the_best(value: float) -> None:
    study = new_study()
    run(study, 4, {2: lambda spec: result_for(spec, value=0.5).model_copy(update={"value": value})})
    assert study.trials[2].state == TrialState.FAIL
    assert 0 <= study.best_value <= 1
    assert "must lie in [0, 1]" in (studies.result_of(study.trials[2]).reason or "")


def test_a_failed_training_counts_and_the_search_goes_on() -> None:
    def fails(spec: TrialSpec) -> TrialResult:
        update = {"state": "failed", "value": None, "reason": "ValueError: no"}
        return result_for(spec).model_copy(update=update)

    study = new_study()
    run(study, 4, {0: fails})
    assert [t.state.name for t in study.trials] == ["FAIL", "COMPLETE", "COMPLETE", "COMPLETE"]


def test_stopping_leaves_nothing_running_and_queues_what_was_cut_off() -> None:
    study = new_study()
    enqueue_defaults(study, SPACE, 7)
    work, asked = search(study, 7), []

    def stopping() -> bool:
        asked.append(1)
        return len(asked) > 3

    assert not drive(FakeExecutor(), work, stopping)  # type: ignore[arg-type]
    states = [t.state for t in study.trials]
    assert TrialState.RUNNING not in states
    cut = study.trials[abandoned_numbers(study)[0]]
    assert study.trials[-1].state == TrialState.WAITING
    run(study, 7)
    assert sum(studies.counted(t) for t in study.trials) == 7
    retried = [t for t in study.trials if t.user_attrs.get("retry_of") == cut.number]
    assert retried[0].params == cut.params


# --- storage ---


def plan() -> studies.Plan:
    return studies.Plan(
        created="2026-11-20T07:00:00+00:00",
        conditions=builders.conditions(),
        profile=builders.profile(),
        space=SPACE,
        imbalance=60.0,
        versions={"sweeper": "0"},
    )


def test_a_plan_round_trips_through_the_storage(tmp_path: Path) -> None:
    storage = studies.open_storage(f"sqlite:///{tmp_path}/a.db")
    studies.create_study(storage, "s", plan())
    assert studies.read_plan(studies.open_storage(f"sqlite:///{tmp_path}/a.db"), "s") == plan()


def test_names_that_exist_and_names_that_do_not_are_refused_with_the_remedy(tmp_path: Path) -> None:
    storage = studies.open_storage(f"sqlite:///{tmp_path}/a.db")
    studies.create_study(storage, "s", plan())
    with pytest.raises(StudyError, match="--resume"):
        studies.create_study(storage, "s", plan())
    with pytest.raises(StudyError, match="the newest are: s"):
        studies.read_plan(storage, "other")


@pytest.mark.parametrize("url", ["postgresql://host/db", "mysql://x", "sweeper.db"])
def test_other_storages_are_refused(url: str) -> None:
    with pytest.raises(StudyError, match="sqlite:///"):
        studies.open_storage(url)


def test_differences_name_what_changed() -> None:
    old = plan()
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
    work = search(study, 3)
    spec = work.next()
    assert spec is not None
    study._storage.set_trial_user_attr(
        study.trials[0]._trial_id, studies.RESULT, result_for(spec).model_dump(mode="json")
    )
    other = work.next()
    assert other is not None
    assert studies.reconcile(study) == 2
    assert study.trials[0].state == TrialState.COMPLETE
    assert abandoned_numbers(study) == [1]
    assert study.trials[2].state == TrialState.WAITING


# --- confirmation ---


def complete(number: int, family: str, value: float, **changes: Any) -> TrialResult:
    spec = TrialSpec(
        purpose="search", number=number, family=family, params={}, lr=1e-3 * (number + 1), seed=0, steps=100
    )
    return result_for(spec, value).model_copy(update=changes)


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
    assert [t.spec.number for t in finalists(trials)] == [2, 5, 3, 0]


def test_a_leading_baseline_is_not_confirmed_twice() -> None:
    trials = [complete(0, "cross_entropy", 0.9), complete(1, "dice", 0.8)]
    assert [t.spec.family for t in finalists(trials)] == ["cross_entropy", "dice"]
    assert finalists([]) == []


def test_confirmation_seeds_are_paired_and_never_the_searches() -> None:
    study = new_study()
    chosen = [complete(0, "cross_entropy", 0.9), complete(1, "dice", 0.8)]
    work = Confirmation(study, chosen, builders.conditions(), seeds=3, watcher=Recorder())
    specs = []
    while (spec := work.next()) is not None:
        specs.append(spec)
    assert [(s.family, s.seed) for s in specs] == [
        (family, confirm_seed(0, n)) for n in range(3) for family in ("cross_entropy", "dice")
    ]
    assert {s.seed for s in specs}.isdisjoint({0})
    assert {s.steps for s in specs} == {builders.conditions().recipe.confirm_steps}


def test_what_was_confirmed_is_not_repeated() -> None:
    study = new_study()
    chosen = [complete(0, "cross_entropy", 0.9), complete(1, "dice", 0.8)]
    first = Confirmation(study, chosen, builders.conditions(), seeds=2, watcher=Recorder())
    assert drive(FakeExecutor(), first, lambda: False)  # type: ignore[arg-type]
    again = Confirmation(study, chosen, builders.conditions(), seeds=3, watcher=Recorder())
    assert len(again) == 2
    better = complete(9, "dice", 0.95)
    changed = Confirmation(study, [chosen[0], better], builders.conditions(), seeds=2, watcher=Recorder())
    assert len(changed) == 2
    results = studies.confirmation_results(study)
    assert len(confirmed(results, chosen, builders.conditions().recipe.confirm_steps)) == 4
    assert len(confirmed(results, [chosen[0], better], builders.conditions().recipe.confirm_steps)) == 2
