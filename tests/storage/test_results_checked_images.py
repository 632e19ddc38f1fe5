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
from tests.support.faking import CrashError, FakeExecutor, new_plan, train

TRIALS = 10


def opened(folder: Path) -> optuna.Study:
    """Open the study as a new process does."""
    storage = studies.open_storage(f"sqlite:///{folder}/study.db")
    if "s" in studies.list_study_names(storage):
        return studies.load_study(storage, "s")
    return studies.create_study(storage, "s", new_plan())


def results(study: optuna.Study) -> list[str]:
    return [result.model_dump_json(exclude={"run_id", "seconds"}) for result in studies.list_all_results(study)]


def go(study: optuna.Study, crash_after: int | None = None) -> None:
    try:
        train(study, FakeExecutor(crash_after=crash_after), trials=TRIALS)
    except CrashError:
        assert crash_after is not None


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a study that was trained to its end."""
    go(opened(folder := tmp_path_factory.mktemp("whole")))
    return folder


def copy_whole(whole: Path, folder: Path) -> optuna.Study:
    """Return a copy of that study in a folder."""
    with closing(sqlite3.connect(whole / "study.db")) as one, closing(sqlite3.connect(folder / "study.db")) as other:
        one.backup(other)
    return opened(folder)


@pytest.mark.parametrize(
    ("checked", "after"),
    [(None, 4), (3, None), (9, 4), (14, None)],
    ids=["never", "early in the search", "late in the search", "in the confirmation"],
)
@pytest.mark.slow
def test_what_was_trained_since_the_last_check_is_trained_again_to_the_same_numbers(
    tmp_path: Path, whole: Path, checked: int | None, after: int | None
) -> None:
    study = opened(tmp_path)
    if checked:
        go(study, checked)
        studies.reconcile_study(study)
    before = results(study)
    if checked is not None:
        studies.note_checked(study)
    go(opened(tmp_path), after)
    there = results(opened(tmp_path))
    assert len(there) > len(before)
    study = opened(tmp_path)
    assert len(studies.drop_unchecked(study)) >= len(there) - len(before)
    assert results(study) == results(opened(tmp_path)) == before
    go(opened(tmp_path))
    assert results(opened(tmp_path)) == results(opened(whole))


@pytest.mark.slow
def test_what_followed_from_dropped_trainings_is_found_again(tmp_path: Path) -> None:
    study = opened(tmp_path)
    studies.note_checked(study)
    go(study)
    study.set_user_attr(studies.PROBED, studies.pack(BudgetProbe(first=4, steps=16, sentence="nothing", learned=False)))
    assert {studies.RATES, "analyses_taken"} <= set(study.user_attrs)
    studies.drop_unchecked(study)
    left = opened(tmp_path).user_attrs
    assert not {studies.RATES, studies.SAME, "analyses_taken"} & set(left)
    assert studies.read_budget_probe(left) == BudgetProbe(first=4)


def test_nothing_is_dropped_where_nothing_was_trained_since(tmp_path: Path, whole: Path) -> None:
    study = copy_whole(whole, tmp_path)
    before = results(study)
    studies.note_checked(study)
    assert studies.drop_unchecked(study) == []
    assert results(opened(tmp_path)) == before


@pytest.mark.parametrize(
    ("statement", "named"),
    [
        ("DELETE FROM trials WHERE number = 3", "search/00003"),
        ("DELETE FROM trials WHERE number = 9", "search/00009"),
        (
            "DELETE FROM trial_user_attributes WHERE key = 'result' AND trial_id = 5",
            "search/00004|result of trial 4",
        ),
        ("DELETE FROM trial_intermediate_values WHERE trial_id = 7 AND step > 3", "search/00006"),
        ("DELETE FROM study_user_attributes WHERE key = 'confirm/00002'", "confirm/00002"),
    ],
)
@pytest.mark.slow
def test_a_row_that_is_missing_is_damage(tmp_path: Path, whole: Path, statement: str, named: str) -> None:
    studies.note_checked(copy_whole(whole, tmp_path))
    storage = studies.open_storage(f"sqlite:///{tmp_path}/study.db")
    studies.load_sweep(storage, "s")
    with closing(sqlite3.connect(tmp_path / "study.db")) as connection, connection:
        connection.execute(statement)
    with pytest.raises(DamagedError, match=named):
        studies.load_sweep(storage, "s")
    with pytest.raises(DamagedError, match=named):
        studies.check_rows(opened(tmp_path))


def test_a_trial_in_the_midst_is_missed_without_a_note_too(tmp_path: Path) -> None:
    go(opened(tmp_path), 4)
    with closing(sqlite3.connect(tmp_path / "study.db")) as connection, connection:
        connection.execute("DELETE FROM trials WHERE number = 1")
    with pytest.raises(DamagedError, match="1 training is missing, or a part of it: search/00001"):
        studies.check_rows(opened(tmp_path))
