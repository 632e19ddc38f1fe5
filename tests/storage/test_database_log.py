"""The database file itself has what SQLite keeps in its log (`-wal`), and a deleted log loses nothing."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from sweeper import storage as studies
from sweeper.core.errors import SweeperError
from sweeper.core.records import SweepRecord, TrialResult
from sweeper.storage.resilient_storage import RetryingStorage
from tests.support.faking import new_plan, train
from tests.support.sweeping import Recorder

NAME = "study"


def open_new_study(folder: Path) -> RetryingStorage:
    """Return an open storage with a new study."""
    storage = studies.open_storage(f"sqlite:///{folder}/sweeper.db")
    studies.create_study(storage, NAME, new_plan())
    return storage


def load_copy(folder: Path) -> SweepRecord:
    """Return the study in a copy of the database file, without the files next to it."""
    place = folder / "copied"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    shutil.copy(folder / "sweeper.db", place)
    storage = studies.open_storage(f"sqlite:///{place}/sweeper.db", create=False)
    try:
        return studies.load_sweep(storage, NAME)
    finally:
        storage.engine.dispose()


def list_results(sweep: SweepRecord) -> list[TrialResult]:
    return list(sweep.trainings)


def test_a_copy_of_the_file_has_the_study_and_each_stored_result(tmp_path: Path) -> None:
    storage = open_new_study(tmp_path)
    assert list_results(load_copy(tmp_path)) == []

    class Copying(Recorder):
        def keep(self, result: TrialResult) -> None:
            super().keep(result)
            if len(self.results) % 5 == 0:
                stored = list_results(load_copy(tmp_path))
                assert len(stored) == len(self.results) and result in stored

    display = Copying()
    train(studies.open_study(storage, NAME), display=display)
    finished = studies.load_sweep(storage, NAME)
    assert len(display.results) > 15 and len(finished.trials) == 9
    assert load_copy(tmp_path).model_copy(update={"storage": finished.storage}) == finished
    assert (tmp_path / "sweeper.db-wal").exists()  # nobody closed it
    del display
    storage.engine.dispose()
    assert sorted(path.name for path in tmp_path.glob("sweeper.db*")) == ["sweeper.db"]


def delete_file(path: Path) -> None:
    path.unlink()


def replace_file(path: Path) -> None:
    shutil.copy(path, path.with_name("other"))
    path.with_name("other").replace(path)


@pytest.mark.parametrize("end", ["-wal", "-shm"])
@pytest.mark.parametrize(
    ("damage", "words"), [(delete_file, "was deleted"), (replace_file, "was replaced by another file")]
)
@pytest.mark.slow
def test_a_removed_log_or_index_ends_the_sweep_and_loses_no_result(
    tmp_path: Path, end: str, damage: Callable[[Path], None], words: str, undisturbed: list[TrialResult]
) -> None:
    class Taking(Recorder):
        def keep(self, result: TrialResult) -> None:
            super().keep(result)
            if len(self.results) == 6:
                damage(tmp_path / f"sweeper.db{end}")

    storage, display = open_new_study(tmp_path), Taking()
    with pytest.raises(SweeperError, match=rf"sweeper.db{end} {words}.*What .*sweeper.db holds is kept") as caught:
        train(studies.open_study(storage, NAME), display=display)
    assert f"sweeper run --study {NAME} --resume --storage sqlite:///" in str(caught.value)
    assert "disk is full" not in str(caught.value)
    storage.engine.dispose()
    assert len(list_results(load_copy(tmp_path))) == len(display.results) == 6
    assert resume_study(tmp_path) == undisturbed


def resume_study(folder: Path) -> list[TrialResult]:
    """Finish the study in another session, and return all results."""
    storage = studies.open_storage(f"sqlite:///{folder}/sweeper.db", create=False)
    train(studies.open_study(storage, NAME))
    return list_results(studies.load_sweep(storage, NAME))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[TrialResult]:
    """Return the results of a study that nothing disturbed."""
    storage = open_new_study(tmp_path_factory.mktemp("undisturbed"))
    train(studies.open_study(storage, NAME))
    return list_results(studies.load_sweep(storage, NAME))


@pytest.mark.parametrize("share", [0.0, 0.3, 0.8])
def test_a_log_that_is_truncated_before_its_changes_are_in_the_file_is_reported(
    tmp_path: Path, share: float, undisturbed: list[TrialResult]
) -> None:
    storage = open_new_study(tmp_path)
    study, log = studies.open_study(storage, NAME), tmp_path / "sweeper.db-wal"
    storage.checkpoint("TRUNCATE")
    study.ask()  # is in the log
    assert study.get_trials()
    os.truncate(log, int(log.stat().st_size * share))
    for _ in range(2):
        with pytest.raises(SweeperError, match=r"sweeper.db-wal was truncated while the study was stored in it"):
            studies.read_plan(storage, NAME)
    storage.engine.dispose()
    assert resume_study(tmp_path) == undisturbed


def test_a_log_that_is_truncated_after_its_changes_are_in_the_file_disturbs_nothing(
    tmp_path: Path, undisturbed: list[TrialResult]
) -> None:
    class Cutting(Recorder):
        def keep(self, result: TrialResult) -> None:
            super().keep(result)
            storage.checkpoint()
            os.truncate(tmp_path / "sweeper.db-wal", 0)

    storage = open_new_study(tmp_path)
    train(studies.open_study(storage, NAME), display=Cutting())
    assert list_results(studies.load_sweep(storage, NAME)) == undisturbed


def test_a_backup_that_replaces_an_open_database_is_not_changed_by_its_log(tmp_path: Path) -> None:
    storage, path = open_new_study(tmp_path), tmp_path / "sweeper.db"
    backup = tmp_path / "backup"
    shutil.copy(path, backup)
    before = backup.read_bytes()
    study = studies.open_study(storage, NAME)
    for _ in range(3):
        study.ask()
    backup.replace(path)
    with pytest.raises(SweeperError, match="was replaced by another file"):
        study.get_trials()
    assert (tmp_path / "sweeper.db-wal").stat().st_size == 0 and path.read_bytes() == before
    assert studies.load_sweep(studies.open_storage(f"sqlite:///{path}", create=False), NAME).trials == ()
