"""Stores of another version, partial ones, and deleted experiments: the printed command repairs them."""

from __future__ import annotations

import re
import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest
from alembic import command
from mlflow.store.db import utils
from sqlalchemy import create_engine, event, text

from sweeper import storage as studies
from sweeper.cli.doctor import DoctorCheck, describe_store, examine
from sweeper.core.errors import SweeperError, UsageError
from sweeper.system.postgres import make_sqlalchemy_url
from sweeper.system.store_versions import store_fault
from sweeper.tracking import MlflowTracker
from sweeper.tracking.mlflow_connection import connect_to_mlflow
from tests.support import mlflow_template
from tests.support.faking import new_plan
from tests.support.marks import rest_slow
from tests.support.pasting import paste
from tests.support.postgres_server import Server
from tests.support.tracked import begin_tracking

PRINTED = re.compile(r"(?:then|delete it|To restore it|restore it): (.+)")


def write_mlflow_store(folder: Path) -> Path:
    """Write MLflow's file to a new folder."""
    folder.mkdir(parents=True)
    mlflow_template.write_store(folder)
    return folder / "mlflow.db"


def create_study(url: str) -> str:
    """Create a storage with a study, and return its address."""
    storage = studies.open_storage(url)
    studies.create_study(storage, "my study", new_plan())
    storage.engine.dispose()
    return url


def revise(path: Path, revision: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", [revision])


def check_file(option: str, url: str) -> DoctorCheck:
    """Return what the doctor says of a SQLite file, which it does not change."""
    path = Path(url.removeprefix("sqlite:///"))
    before = path.read_bytes()
    check = examine("store", partial(describe_store, option, url))
    assert path.read_bytes() == before
    return check


def test_stores_of_the_installed_versions_have_no_fault(tmp_path: Path) -> None:
    tracking, storage = (
        f"sqlite:///{write_mlflow_store(tmp_path / 'a b?')}",
        create_study(f"sqlite:///{tmp_path}/sweeper.db"),
    )
    assert store_fault("--tracking-uri", tracking) is None and store_fault("--storage", storage) is None
    assert check_file("--tracking-uri", tracking).ok and check_file("--storage", storage).ok
    for nothing in ("http://127.0.0.1:9", f"sqlite:///{tmp_path}/none.db", "sqlite://", "mysql://h/d"):
        assert store_fault("--tracking-uri", nothing) is None and store_fault("--storage", nothing) is None


@pytest.mark.parametrize("revision", ["v9.0.0.a", "ffffffffffff", "x"])
def test_a_newer_store_is_refused_with_the_option_of_another_store(tmp_path: Path, revision: str) -> None:
    path, storage = write_mlflow_store(tmp_path / "m"), create_study(f"sqlite:///{tmp_path}/sweeper.db")
    revise(path, revision)
    revise(tmp_path / "sweeper.db", revision)
    with pytest.raises(
        UsageError, match=r"mlflow.db has the tables of a newer MLflow.*--tracking-uri sqlite:///mlflow-2"
    ):
        connect_to_mlflow(f"sqlite:///{path}")
    for create in (True, False):
        with pytest.raises(UsageError, match=r"a newer Optuna than the installed.*--storage sqlite:///optuna-2.db"):
            studies.open_storage(storage, create=create)
    checks = check_file("--storage", storage), check_file("--tracking-uri", f"sqlite:///{path}")
    assert all(not check.ok and "newer" in check.found for check in checks)


@pytest.mark.parametrize("place", rest_slow(["el se/s'1.db", "sweeper.db"], 1, 0))
def test_an_older_study_is_opened_after_the_printed_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    monkeypatch.chdir(tmp_path)
    storage = create_study(f"sqlite:///{place}")
    revise(tmp_path / place, "v3.0.0.d")
    with pytest.raises(UsageError, match="older Optuna") as caught:
        studies.open_storage(storage, create=False)
    printed = PRINTED.findall(str(caught.value))[-1]
    check = examine("storage", partial(describe_store, "--storage", storage))
    assert PRINTED.findall(check.found)[-1] == printed
    (tmp_path / "any").mkdir()
    done = paste(printed, tmp_path / "any")
    assert done.returncode == 0, done.stderr
    assert studies.list_study_names(studies.open_storage(storage, create=False)) == ["my study"]


@pytest.mark.slow
def test_an_older_study_on_a_server_is_opened_after_the_printed_command(postgres: Server, tmp_path: Path) -> None:
    plain = create_study(postgres.fresh())
    with create_engine(make_sqlalchemy_url(plain)).begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = 'v3.0.0.d'"))
    for url in (plain, plain.replace("postgres@", "postgres:Pässw%40rd@")):
        with pytest.raises(UsageError, match="older Optuna") as caught:
            studies.open_storage(url, create=False)
        printed = PRINTED.findall(str(caught.value))[-1]
        assert "ssw" not in printed
        check = examine("storage", partial(describe_store, "--storage", url))
        assert PRINTED.findall(check.found)[-1] == printed
    done = paste(printed, tmp_path, SWEEPER_STORAGE=url)
    assert done.returncode == 0, done.stderr
    assert studies.list_study_names(studies.open_storage(plain, create=False)) == ["my study"]


@pytest.mark.parametrize("place", rest_slow(["m d", "m"], 0, 1))
def test_an_older_mlflow_store_is_migrated_by_the_command_of_the_doctor(tmp_path: Path, place: str) -> None:
    path = write_mlflow_store(tmp_path / place)
    engine = create_engine(f"sqlite:///{path}")
    command.downgrade(utils._get_alembic_config(str(engine.url)), "-1")
    engine.dispose()
    check = check_file("--tracking-uri", f"sqlite:///{path}")
    assert not check.ok and "older MLflow than the installed MLflow" in check.found
    done = paste(PRINTED.findall(check.found)[-1], tmp_path)
    assert done.returncode == 0, done.stderr
    assert check_file("--tracking-uri", f"sqlite:///{path}").ok
    assert connect_to_mlflow(f"sqlite:///{path}").search_experiments()


class KilledError(Exception):
    pass


@pytest.mark.parametrize("statement", ["CREATE TABLE datasets", "CREATE TABLE input_tags", "CREATE TABLE trace_info"])
def test_a_partial_store_of_an_older_sweeper_is_deleted_by_the_printed_command(tmp_path: Path, statement: str) -> None:
    path = tmp_path / "a b" / "mlflow.db"
    path.parent.mkdir()

    def stop_at_statement(_1: object, _2: object, executed: str, *_: object) -> None:
        if executed.strip().startswith(statement):
            raise KilledError

    engine = create_engine(f"sqlite:///{path}")
    event.listen(engine, "after_cursor_execute", stop_at_statement)
    with pytest.raises(KilledError):
        utils._initialize_tables(engine)
    engine.dispose()
    with pytest.raises(
        UsageError, match=r"was left half made by a process that was killed, and holds nothing"
    ) as caught:
        connect_to_mlflow(f"sqlite:///{path}")
    printed = PRINTED.findall(str(caught.value))[-1]
    check = check_file("--tracking-uri", f"sqlite:///{path}")
    assert not check.ok and PRINTED.findall(check.found)[-1] == printed
    assert paste(printed, tmp_path).returncode == 0 and not path.exists()


@pytest.mark.parametrize("place", rest_slow(["el se/m.db", "mlflow.db", "postgresql"], 0, 1))
def test_a_deleted_experiment_is_restored_by_the_printed_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str, request: pytest.FixtureRequest
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    uri = request.getfixturevalue("postgres").fresh() if place == "postgresql" else f"sqlite:///{place}"
    tracker = begin_tracking(uri, "my study")
    assert tracker.wait_until_written() is None
    tracker.close()
    tracker.mirror.client.delete_experiment(tracker.mirror.experiment_id)
    with pytest.raises(SweeperError, match="was deleted there, and its name is still taken") as caught:
        begin_tracking(uri, "my study")
    printed = PRINTED.findall(str(caught.value))[-1]
    (tmp_path / "any").mkdir()
    done = paste(printed, tmp_path / "any")
    assert done.returncode == 0, done.stderr
    again = begin_tracking(uri, "my study")
    assert again.mirror.parent_run_id == tracker.mirror.parent_run_id
    again.close()


@pytest.mark.parametrize("content", [b"nothing but text", b"SQLite format 3\0" + bytes(4080)])
def test_a_file_that_is_not_a_store_is_moved_away_by_the_printed_command(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "it's.db"
    path.write_bytes(content)
    with pytest.raises(UsageError, match="must be an MLflow store that answers, got: file is not a database") as caught:
        MlflowTracker(f"sqlite:///{path}", warn=pytest.fail)
    done = paste(str(caught.value).split("for a new one: ")[1], tmp_path)
    assert done.returncode == 0 and not path.exists() and path.with_name("it's.db.old").read_bytes() == content
