"""The private names of Optuna that sweeper uses exist, and only one module uses them."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path

import optuna
import pytest
from optuna.storages import BaseStorage, RDBStorage
from optuna.trial import TrialState

from sweeper.storage import optuna_internals as internals

SWEEPER = Path(internals.__file__).parent.parent
NAMES = [
    (optuna.Trial, "_suggest", ["name", "distribution"]),
    (optuna.Trial, "_is_fixed_param", ["name", "distribution"]),
    (optuna.Trial, "_is_relative_param", ["name", "distribution"]),
    (optuna.Trial, "_get_latest_trial", []),
    (optuna.Study, "_get_trials", ["deepcopy", "states", "use_cache"]),
    *[(RDBStorage, name, None) for name in internals.CACHE_CALLS],
]


def explain_change(name: str) -> str:
    return f"Optuna {optuna.__version__} changed {name}: adapt sweeper/storage/optuna_internals.py to it"


@pytest.mark.parametrize(("owner", "name", "parameters"), NAMES, ids=lambda value: str(value)[:40])
def test_the_private_methods_exist_with_their_parameters(owner: type, name: str, parameters: list[str] | None) -> None:
    method = getattr(owner, name, None)
    assert method is not None, explain_change(name)
    if parameters is not None:
        assert list(inspect.signature(method).parameters)[1:] == parameters, explain_change(name)


def test_ids_and_storage_are_those_of_the_database(tmp_path: Path) -> None:
    storage = RDBStorage(f"sqlite:///{tmp_path}/study.db")
    optuna.create_study(storage=storage, study_name="first").ask()
    study = optuna.create_study(storage=storage, study_name="second")
    trial = study.ask()
    assert isinstance(internals.get_base_storage(study), BaseStorage), explain_change("Study._storage")
    assert internals.get_trial_id(trial) == internals.get_id_of_number(study, 0) == 2, explain_change(
        "Trial._trial_id, Study._study_id"
    )
    assert internals.get_trial_id(study.trials[0]) == 2, explain_change("FrozenTrial._trial_id")


def test_a_replayed_trial_keeps_stored_parameters_and_draws_the_rest() -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=3))
    uninterrupted = study.ask()
    expected = uninterrupted.suggest_float("a", 0, 1), uninterrupted.suggest_float("b", 0, 1)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=3))
    interrupted = study.ask()
    first = interrupted.suggest_float("a", 0, 1)
    study.sampler = optuna.samplers.RandomSampler(seed=3)
    again = internals.ReplayedTrial(study, internals.get_trial_id(interrupted))
    assert (again.suggest_float("a", 0, 1), again.suggest_float("b", 0, 1)) == expected
    assert first == expected[0]
    assert study.trials[0].state == TrialState.RUNNING


@pytest.mark.parametrize("fixed", [{}, {"a": 0.25}])
def test_a_trial_that_skips_the_queue_equals_one_of_ask(fixed: dict[str, float], tmp_path: Path) -> None:
    outcomes = []
    for number, begin in enumerate((optuna.Study.ask, lambda study: internals.ask_skipping_queue(study, fixed))):
        storage = RDBStorage(f"sqlite:///{tmp_path}/{number}.db")
        study = optuna.create_study(storage=storage, sampler=optuna.samplers.RandomSampler(seed=3))
        if fixed and begin is optuna.Study.ask:
            study.enqueue_trial(fixed)
        trial = begin(study)
        values = trial.suggest_float("a", 0, 1), trial.suggest_float("b", 0, 1)
        study.tell(trial, 0.5)
        [stored] = study.trials
        outcomes.append((values, stored.params, stored.system_attrs, stored.state, stored.value, stored.number))
        assert stored.datetime_start is not None
    assert outcomes[0] == outcomes[1], explain_change("Study.ask")


def test_frozen_trials_include_what_was_written_before_the_last_trial() -> None:
    study = optuna.create_study()
    first = internals.ask_skipping_queue(study, {})
    with internals.freeze_trials(study):
        study.get_trials(deepcopy=False)
    first.set_user_attr("x", 1)
    internals.ask_skipping_queue(study, {})
    with internals.freeze_trials(study):
        assert study.get_trials(deepcopy=False)[0].user_attrs == {"x": 1}
    assert "_get_trials" not in vars(study)


def test_no_other_module_uses_a_private_name_of_optuna() -> None:
    module = SWEEPER / "storage" / "optuna_internals.py"
    tree = ast.parse(module.read_text())
    private = {node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and node.attr[0] == "_"}
    assert {"_trial_id", "_study_id", "_storage", "_get_trials"} <= private
    problems = []
    for path in sorted(SWEEPER.rglob("*.py")):
        if path == module:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("optuna") and "._" in node.module:
                problems.append(f"{path}:{node.lineno}: from {node.module}")
            elif isinstance(node, ast.Attribute) and node.attr in private:
                holder = node.value
                is_sweepers = isinstance(holder, ast.Name) and holder.id == "self" and node.attr == "_storage"
                if not is_sweepers:
                    problems.append(f"{path}:{node.lineno}: {ast.unparse(node)}")
    assert problems == []
