"""A study whose decoded images changed continues from their last check, as if nothing was trained since."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import optuna
import pytest

from sweeper import storage as studies
from sweeper.core.errors import DamagedError
from sweeper.core.records import BudgetProbe
from tests.support.faking import CrashError, FakeExecutor, new_plan, new_study, train

TRIALS = 10


def open_study(folder: Path) -> optuna.Study:
    """Open the study as a new process does."""
    storage = studies.open_storage(f"sqlite:///{folder}/study.db")
    if "s" in studies.list_study_names(storage):
        return studies.open_study(storage, "s")
    return studies.create_study(storage, "s", new_plan())


def list_results(study: optuna.Study) -> list[str]:
    return [result.model_dump_json(exclude={"run_id", "seconds"}) for result in studies.list_all_results(study)]


def train_study(study: optuna.Study, crash_after: int | None = None) -> None:
    try:
        train(study, FakeExecutor(crash_after=crash_after), trials=TRIALS)
    except CrashError:
        assert crash_after is not None


@pytest.fixture(scope="module")
def finished_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a study that was trained to its end."""
    train_study(open_study(folder := tmp_path_factory.mktemp("whole")))
    return folder


@pytest.fixture(scope="module")
def trainings() -> int:
    """Return how many trainings end, or are left at a rung, in that study."""
    train(new_study(), executor := FakeExecutor(), trials=TRIALS)
    return executor.ended


def copy_finished(finished_folder: Path, folder: Path) -> optuna.Study:
    """Return a copy of that study in a folder."""
    with (
        closing(sqlite3.connect(finished_folder / "study.db")) as one,
        closing(sqlite3.connect(folder / "study.db")) as other,
    ):
        one.backup(other)
    return open_study(folder)


@pytest.mark.parametrize(
    ("checked", "after"),
    [(None, 0.2), (0.1, None), (0.3, None), (0.6, 0.2), (0.9, None)],
    ids=["never", "amid the rates", "early in the search", "late in the search", "in the confirmation"],
)
@pytest.mark.slow
def test_trainings_since_the_last_check_are_repeated_with_the_same_results(
    tmp_path: Path, finished_folder: Path, trainings: int, checked: float | None, after: float | None
) -> None:
    study = open_study(tmp_path)
    if checked:
        train_study(study, int(checked * trainings))
        studies.reconcile_study(study)
    before = list_results(study)
    if checked is not None:
        studies.note_checked(study)
    train_study(open_study(tmp_path), after and int(after * trainings))
    trained = list_results(open_study(tmp_path))
    assert len(trained) > len(before)
    study = open_study(tmp_path)
    assert len(studies.drop_unchecked(study)) >= len(trained) - len(before)
    assert list_results(study) == list_results(open_study(tmp_path)) == before
    train_study(open_study(tmp_path))
    assert list_results(open_study(tmp_path)) == list_results(open_study(finished_folder))


@pytest.mark.slow
def test_conclusions_from_dropped_trainings_are_dropped(tmp_path: Path) -> None:
    study = open_study(tmp_path)
    studies.note_checked(study)
    train_study(study)
    study.set_user_attr(studies.PROBED, studies.pack(BudgetProbe(first=4, steps=16, sentence="nothing", learned=False)))
    assert {studies.RATES, "analyses_taken"} <= set(study.user_attrs)
    studies.drop_unchecked(study)
    attributes = open_study(tmp_path).user_attrs
    assert not {studies.RATES, studies.SAME, "analyses_taken"} & set(attributes)
    assert studies.read_budget_probe(attributes) == BudgetProbe(first=4)


def test_nothing_is_dropped_if_nothing_was_trained_since_the_check(tmp_path: Path, finished_folder: Path) -> None:
    study = copy_finished(finished_folder, tmp_path)
    before = list_results(study)
    studies.note_checked(study)
    assert studies.drop_unchecked(study) == []
    assert list_results(open_study(tmp_path)) == before


@pytest.mark.parametrize(
    ("statement", "missing"),
    [
        ("DELETE FROM trials WHERE number = 3", "search/00003"),
        ("DELETE FROM trials WHERE number = 9", "search/00009"),
        ("DELETE FROM trial_user_attributes WHERE key = 'result' AND trial_id = 5", "search/00004|result of trial 4"),
        ("DELETE FROM trial_intermediate_values WHERE trial_id = 7 AND step > 3", "search/00006"),
        ("DELETE FROM study_user_attributes WHERE key = 'confirm/00002'", "confirm/00002"),
    ],
)
@pytest.mark.slow
def test_a_missing_row_is_reported_as_damage(
    tmp_path: Path, finished_folder: Path, statement: str, missing: str
) -> None:
    studies.note_checked(copy_finished(finished_folder, tmp_path))
    storage = studies.open_storage(f"sqlite:///{tmp_path}/study.db")
    studies.load_sweep(storage, "s")
    with closing(sqlite3.connect(tmp_path / "study.db")) as connection, connection:
        connection.execute(statement)
    with pytest.raises(DamagedError, match=missing):
        studies.load_sweep(storage, "s")
    with pytest.raises(DamagedError, match=missing):
        studies.check_rows(open_study(tmp_path))


def test_a_missing_trial_between_others_is_reported_without_a_check(tmp_path: Path) -> None:
    train_study(open_study(tmp_path), 4)
    with closing(sqlite3.connect(tmp_path / "study.db")) as connection, connection:
        connection.execute("DELETE FROM trials WHERE number = 1")
    with pytest.raises(DamagedError, match="1 training is missing, or a part of it: search/00001"):
        studies.check_rows(open_study(tmp_path))
