"""Damaged databases are reported with what to do, and backups are complete."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from click.testing import CliRunner

from sweeper import storage as studies
from sweeper.cli.main import cli
from sweeper.core.errors import DamagedError, StudyError, SweeperError, UsageError
from sweeper.core.records import SweepRecord
from sweeper.storage.database import back_up_database
from tests.support import builders
from tests.support.faking import fake_result, new_plan, train

NAME = "study"


def make_url(folder: Path) -> str:
    return f"sqlite:///{folder}/sweeper.db"


@pytest.fixture(scope="module")
def finished_study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a finished study with trainings of all phases, closed so that its file is complete."""
    folder = tmp_path_factory.mktemp("whole")
    storage = studies.open_storage(make_url(folder))
    study = studies.create_study(storage, NAME, new_plan())
    train(study, trials=9)
    for key in ("trials", "margin"):
        study.set_user_attr(key, studies.pack_value(9 if key == "trials" else 0.01))
    storage.engine.dispose()
    back_up_database(make_url(folder), NAME, folder / "copy.db")
    return folder / "copy.db"


@pytest.fixture
def folder(finished_study: Path, tmp_path: Path) -> Path:
    (tmp_path / "sweeper.db").write_bytes(finished_study.read_bytes())
    return tmp_path


def execute(folder: Path, statement: str, *values: object) -> None:
    with closing(sqlite3.connect(folder / "sweeper.db")) as connection, connection:
        assert connection.execute(statement, values).rowcount > 0


def load(folder: Path) -> SweepRecord:
    storage = studies.open_storage(make_url(folder), create=False)
    try:
        return studies.load_sweep(storage, NAME)
    finally:
        storage.engine.dispose()


def resume(folder: Path) -> None:
    """Resume with trainings that cost nothing."""
    storage = studies.open_storage(make_url(folder), create=False)
    plan = studies.read_plan(storage, NAME)
    train(studies.open_study(storage, NAME), plan=plan, trials=9)
    storage.engine.dispose()


def test_a_changed_record_is_reported_when_it_is_read(folder: Path) -> None:
    changed = "replace(value_json, '\"seconds\": 1.0', '\"seconds\": 9.0')"
    execute(folder, f"UPDATE trial_user_attributes SET value_json = {changed} WHERE key = 'result' AND trial_id = 4")
    with pytest.raises(DamagedError, match=r"the result of trial 3 is damaged: its checksum.*Restore a backup"):
        load(folder)


@pytest.mark.parametrize("value", ["replace(value_json, '\"spec\":', '\"spec\"')", "CAST(x'7b22ff227d' AS TEXT)"])
def test_a_value_that_optuna_cannot_read_is_reported_as_damage(folder: Path, value: str) -> None:
    execute(folder, f"UPDATE trial_user_attributes SET value_json = {value} WHERE key = 'result' AND trial_id = 4")
    with pytest.raises(SweeperError, match=r"must be whole, and it is damaged.*sqlite3 FILE \.recover"):
        load(folder)


def test_a_torn_file_is_reported_with_what_to_do(folder: Path) -> None:
    path = folder / "sweeper.db"
    with closing(sqlite3.connect(path)) as connection:
        size = connection.execute("PRAGMA page_size").fetchone()[0]
        roots = {row[1]: row[0] for row in connection.execute("SELECT rootpage, name FROM sqlite_master")}
    data = bytearray(path.read_bytes())
    start = (roots["ix_trials_study_id"] - 1) * size
    data[start : start + size] = bytes(size)
    path.write_bytes(data)
    with pytest.raises(SweeperError, match=r"must be whole, and it is damaged: .*malformed.*restore a backup"):
        load(folder)
    with pytest.raises(SweeperError, match=r"must be whole, and it is damaged"):
        back_up_database(make_url(folder), NAME, folder / "copy.db")
    assert not (folder / "copy.db").exists()
    arguments = ["doctor", "--storage", make_url(folder), "--tracking-uri", f"sqlite:///{folder}/none.db"]
    result = CliRunner().invoke(cli, arguments, standalone_mode=False)
    assert "BROKEN" in result.stdout and "restore a backup" in result.stdout and ".recover" in result.stdout


def count_trials(path: Path) -> int:
    with closing(sqlite3.connect(path)) as connection:
        return int(connection.execute("SELECT count(*) FROM trials").fetchone()[0])


def test_a_backup_during_writing_has_what_a_copy_of_the_file_lacks(tmp_path: Path) -> None:
    storage = studies.open_storage(make_url(tmp_path))  # stays open: unfinished work is in the log next to the file
    study = studies.create_study(storage, NAME, new_plan())
    result = fake_result(builders.spec("dice", purpose="confirm", steps=4))
    studies.store_extra(study, result)
    study.ask()
    (tmp_path / "plain.db").write_bytes((tmp_path / "sweeper.db").read_bytes())
    back_up_database(make_url(tmp_path), NAME, tmp_path / "copy.db")
    assert [p.name for p in tmp_path.glob("copy.db*")] == ["copy.db"]
    assert count_trials(tmp_path / "plain.db") == 0
    assert count_trials(tmp_path / "copy.db") == 1
    # Restored elsewhere, under the old name, it is the study.
    restored = tmp_path / "restored"
    restored.mkdir()
    (restored / "sweeper.db").write_bytes((tmp_path / "copy.db").read_bytes())
    assert load(restored).confirmations == (result,)
    resume(restored)
    assert len(load(restored).trials) == 9
    storage.engine.dispose()


def test_a_backup_of_a_missing_study_or_to_an_existing_file_is_refused(folder: Path) -> None:
    with pytest.raises(UsageError, match="exists already"):
        back_up_database(make_url(folder), NAME, folder / "sweeper.db")
    with pytest.raises(StudyError, match="no study 'other'"):
        back_up_database(make_url(folder), "other", folder / "copy.db")
    assert not (folder / "copy.db").exists()
    with pytest.raises(UsageError, match="pg_dump"):
        back_up_database("postgresql://me@host/db", NAME, folder / "copy.db")
