"""What SQLite keeps in its log (`-wal`) is in the file itself, too, and a log that is taken away loses nothing."""

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


def begin(folder: Path) -> RetryingStorage:
    """Return an open storage with a new study."""
    storage = studies.open_storage(f"sqlite:///{folder}/sweeper.db")
    studies.create_study(storage, NAME, new_plan())
    return storage


def copied(folder: Path) -> SweepRecord:
    """Return what a copy of the database file has, without the files next to it."""
    place = folder / "copied"
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir()
    shutil.copy(folder / "sweeper.db", place)
    storage = studies.open_storage(f"sqlite:///{place}/sweeper.db", create=False)
    try:
        return studies.load_sweep(storage, NAME)
    finally:
        storage.engine.dispose()


def results_of(sweep: SweepRecord) -> list[TrialResult]:
    return [*sweep.trials, *sweep.probes, *sweep.rechecks, *sweep.confirmations]


def test_a_copy_of_the_file_has_the_study_from_its_begin_on_and_each_result_that_was_stored(tmp_path: Path) -> None:
    storage = begin(tmp_path)
    assert results_of(copied(tmp_path)) == []

    class Copying(Recorder):
        def keep(self, result: TrialResult) -> None:
            super().keep(result)
            if len(self.results) % 5 == 0:
                kept = results_of(copied(tmp_path))
                assert len(kept) == len(self.results) and result in kept

    display = Copying()
    train(studies.load_study(storage, NAME), display=display)
    whole = studies.load_sweep(storage, NAME)
    assert len(display.results) > 15 and len(whole.trials) == 9
    assert copied(tmp_path).model_copy(update={"storage": whole.storage}) == whole
    assert (tmp_path / "sweeper.db-wal").exists()  # nobody closed it
    del display
    storage.engine.dispose()
    assert sorted(path.name for path in tmp_path.glob("sweeper.db*")) == ["sweeper.db"]


def delete(path: Path) -> None:
    path.unlink()


def replace(path: Path) -> None:
    shutil.copy(path, path.with_name("other"))
    path.with_name("other").replace(path)


@pytest.mark.parametrize("end", ["-wal", "-shm"])
@pytest.mark.parametrize(("how", "word"), [(delete, "was deleted"), (replace, "was replaced by another file")])
@pytest.mark.slow
def test_a_log_or_its_index_that_is_taken_away_ends_the_sweep_and_nothing_is_lost(
    tmp_path: Path, end: str, how: Callable[[Path], None], word: str, undisturbed: list[TrialResult]
) -> None:
    class Taking(Recorder):
        def keep(self, result: TrialResult) -> None:
            super().keep(result)
            if len(self.results) == 6:
                how(tmp_path / f"sweeper.db{end}")

    storage, display = begin(tmp_path), Taking()
    with pytest.raises(SweeperError, match=rf"sweeper.db{end} {word}.*What .*sweeper.db holds is kept") as caught:
        train(studies.load_study(storage, NAME), display=display)
    assert f"sweeper run --study {NAME} --resume --storage sqlite:///" in str(caught.value)
    assert "disk is full" not in str(caught.value)
    storage.engine.dispose()
    assert len(results_of(copied(tmp_path))) == len(display.results) == 6
    assert resumed(tmp_path) == undisturbed


def resumed(folder: Path) -> list[TrialResult]:
    """Return all results once the study was led to its end by another session."""
    storage = studies.open_storage(f"sqlite:///{folder}/sweeper.db", create=False)
    train(studies.load_study(storage, NAME))
    return results_of(studies.load_sweep(storage, NAME))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[TrialResult]:
    """Return the same of a study that nothing disturbed."""
    storage = begin(tmp_path_factory.mktemp("undisturbed"))
    train(studies.load_study(storage, NAME))
    return results_of(studies.load_sweep(storage, NAME))


@pytest.mark.parametrize("share", [0.0, 0.3, 0.8])
def test_a_log_that_is_cut_while_it_holds_what_the_file_does_not_is_named_and_the_file_stays_whole(
    tmp_path: Path, share: float, undisturbed: list[TrialResult]
) -> None:
    storage = begin(tmp_path)
    study, log = studies.load_study(storage, NAME), tmp_path / "sweeper.db-wal"
    storage.checkpoint("TRUNCATE")
    study.ask()  # is in the log
    assert study.get_trials()
    os.truncate(log, int(log.stat().st_size * share))
    for _ in range(2):
        with pytest.raises(SweeperError, match=r"sweeper.db-wal was truncated while the study was stored in it"):
            studies.read_plan(storage, NAME)
    storage.engine.dispose()
    assert resumed(tmp_path) == undisturbed


def test_a_log_that_is_cut_when_the_file_has_all_of_it_disturbs_nothing(
    tmp_path: Path, undisturbed: list[TrialResult]
) -> None:
    class Cutting(Recorder):
        def keep(self, result: TrialResult) -> None:
            super().keep(result)
            storage.checkpoint()
            os.truncate(tmp_path / "sweeper.db-wal", 0)

    storage = begin(tmp_path)
    train(studies.load_study(storage, NAME), display=Cutting())
    assert results_of(studies.load_sweep(storage, NAME)) == undisturbed


def test_a_backup_that_is_put_in_the_place_of_an_open_database_is_not_spoiled_by_the_log_of_that(
    tmp_path: Path,
) -> None:
    storage, path = begin(tmp_path), tmp_path / "sweeper.db"
    backup = tmp_path / "backup"
    shutil.copy(path, backup)
    before = backup.read_bytes()
    study = studies.load_study(storage, NAME)
    for _ in range(3):
        study.ask()
    backup.replace(path)
    with pytest.raises(SweeperError, match="was replaced by another file"):
        study.get_trials()
    assert (tmp_path / "sweeper.db-wal").stat().st_size == 0 and path.read_bytes() == before
    assert studies.load_sweep(studies.open_storage(f"sqlite:///{path}", create=False), NAME).trials == ()
