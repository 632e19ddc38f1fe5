"""Stores of another version of MLflow, deleted experiments, and files that are no store."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from alembic import command
from mlflow.exceptions import MlflowException
from mlflow.store.db import utils
from sqlalchemy import create_engine

from sweeper.core.errors import SweeperError, UsageError
from sweeper.tracking import MlflowTracker
from sweeper.tracking.mlflow_connection import check_mlflow_schema, connect_to_mlflow
from tests.support import mlflow_template
from tests.support.marks import rest_slow
from tests.support.pasting import paste
from tests.support.tracked import begin_tracking


def write_mlflow_store(folder: Path) -> Path:
    """Write MLflow's file to a new folder."""
    folder.mkdir(parents=True)
    mlflow_template.write_store(folder)
    return folder / "mlflow.db"


@pytest.mark.parametrize("revision", ["ffffffffffff", "x"])
def test_a_store_of_another_version_is_refused_with_the_advice_of_mlflow(tmp_path: Path, revision: str) -> None:
    path = write_mlflow_store(tmp_path / "m d")
    check_mlflow_schema(f"sqlite:///{path}")
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", [revision])
    before = path.read_bytes()
    with pytest.raises(MlflowException, match="mlflow db upgrade"):
        check_mlflow_schema(f"sqlite:///{path}")
    assert path.read_bytes() == before
    with pytest.raises(UsageError, match="mlflow db upgrade"):
        connect_to_mlflow(f"sqlite:///{path}")


def test_an_older_store_is_opened_after_the_printed_command(tmp_path: Path) -> None:
    path = write_mlflow_store(tmp_path / "m")
    engine = create_engine(f"sqlite:///{path}")
    command.downgrade(utils._get_alembic_config(str(engine.url)), "-1")
    engine.dispose()
    with pytest.raises(MlflowException, match="run 'mlflow db upgrade"):
        check_mlflow_schema(f"sqlite:///{path}")
    assert paste(f"mlflow db upgrade sqlite:///{path}", tmp_path).returncode == 0
    assert connect_to_mlflow(f"sqlite:///{path}").search_experiments()


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
    printed = str(caught.value).split("or restore it: ")[1]
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
