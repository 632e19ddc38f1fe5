"""A database is created completely or not at all, even if its process is killed or several create it."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from sweeper import storage as studies
from sweeper.system.locks import lock_database_creation
from sweeper.tracking.mlflow_connection import check_mlflow_schema, connect_to_mlflow
from tests.cli.test_run import QUICK
from tests.support.faking import new_plan
from tests.support.marks import rest_slow
from tests.support.waiting import wait_until

KILLED = """
import os, signal, sys
from sqlalchemy import event
from sqlalchemy.engine import Engine
from sweeper import storage as studies

for last in range(1, 200, 6):
    done = 0
    folder = f"killed-{last}"
    os.mkdir(folder)
    child = os.fork()
    if child == 0:
        def execute(*_):
            global done
            done += 1
            if done == last:
                os.kill(os.getpid(), signal.SIGKILL)
        event.listen(Engine, "before_cursor_execute", execute)
        studies.open_storage(f"sqlite:///{folder}/sweeper.db")
        os._exit(0)
    if os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0:
        break
print(last)
"""


@pytest.mark.slow
def test_a_storage_is_whole_or_absent_if_its_creation_is_killed_at_any_statement(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED], cwd=tmp_path, capture_output=True, text=True, check=True)
    last = int(done.stdout)
    assert last > 20
    complete = 0
    for number in range(1, last, 6):
        path = tmp_path / f"killed-{number}" / "sweeper.db"
        if path.exists():  # the kill came when it was opened
            complete += 1
            with closing(sqlite3.connect(path)) as connection:
                assert connection.execute("SELECT count(*) FROM alembic_version").fetchone() == (1,)
        else:
            assert list(path.parent.glob(".sweeper-sweeper.db.part*"))
        storage = studies.open_storage(f"sqlite:///{path}")
        studies.create_study(storage, "s", new_plan())
        storage.engine.dispose()
        assert sorted(p.name for p in path.parent.iterdir()) == [".sweeper", "sweeper.db"]
    assert 0 < complete < last // 6


def has_table(path: Path) -> bool:
    try:
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=0)) as connection:
            return connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'datasets'").fetchone() is not None
    except sqlite3.Error:
        return False


def wait_until_half_made(folder: Path, process: subprocess.Popen[str]) -> None:
    """Wait until a part of MLflow's tables exists, under either name."""
    files = (folder / "mlflow.db", folder / ".sweeper-mlflow.db.part")
    wait_until(lambda: any(map(has_table, files)), 300, process)


@pytest.mark.parametrize(
    ("sent_signal", "status"),
    rest_slow([(signal.SIGKILL, -signal.SIGKILL), (signal.SIGINT, 130), (signal.SIGTERM, 143)], 0, 2),
)
def test_a_first_start_that_ends_while_mlflow_creates_tables_leaves_no_partial_store(
    tmp_path: Path, sent_signal: signal.Signals, status: int
) -> None:
    command = [sys.executable, "-m", "sweeper", "run", *QUICK, "--workers", "1", "--precision", "float32", "-q"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True)
    wait_until_half_made(tmp_path, process)
    process.send_signal(sent_signal)
    messages = process.communicate(timeout=60)[1]
    assert process.returncode == status, messages
    if (tmp_path / "mlflow.db").exists():  # the signal came when all tables were made
        check_mlflow_schema(f"sqlite:///{tmp_path}/mlflow.db")
    if sent_signal != signal.SIGKILL:
        assert "stopped before the first result" in messages and "must be an MLflow store" not in messages
        assert not list(tmp_path.glob(".sweeper-*"))
    client = connect_to_mlflow(f"sqlite:///{tmp_path}/mlflow.db")
    assert [e.name for e in client.search_experiments()] == ["Default"]
    assert not list(tmp_path.glob(".sweeper-*")) and not list(tmp_path.glob("mlflow.db-*"))


@pytest.mark.slow
def test_concurrent_first_starts_complete_the_store_of_a_killed_one(tmp_path: Path) -> None:
    code = "from sweeper.tracking.mlflow_connection import check_mlflow_schema, connect_to_mlflow; connect_to_mlflow('sqlite:///mlflow.db')"
    starts = [
        subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    wait_until_half_made(tmp_path, starts[0])
    part = tmp_path / ".sweeper-mlflow.db.part"
    maker = next(s for s in starts if any(p.resolve() == part for p in Path(f"/proc/{s.pid}/fd").iterdir()))
    maker.kill()
    outcomes = [(start.communicate(timeout=200)[1], start.returncode) for start in starts]
    assert sorted(status for _, status in outcomes) == [-signal.SIGKILL, 0, 0], outcomes
    assert sorted(path.name for path in tmp_path.iterdir()) == [".sweeper", "mlflow.db"]


def create_table(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute("CREATE TABLE made (x INTEGER)")


def list_tables(path: Path) -> list[str]:
    with closing(sqlite3.connect(path)) as connection:
        return [name for (name,) in connection.execute("SELECT name FROM sqlite_master")]


def test_a_file_without_tables_is_filled_and_one_with_tables_is_not_changed(tmp_path: Path) -> None:
    new, empty, bare, other, link = (tmp_path / name for name in ("new", "empty", "b?re #1", "other", "link"))
    empty.touch()
    with closing(sqlite3.connect(bare)) as connection:
        connection.execute("PRAGMA journal_mode=WAL")
    with closing(sqlite3.connect(other)) as connection:
        connection.execute("CREATE TABLE mine (x INTEGER)")
    link.symlink_to(tmp_path / "target")
    assert bare.stat().st_size > 0
    for path in (new, empty, bare, other, link):
        with lock_database_creation(path, create_table):
            assert list_tables(path) == (["mine"] if path is other else ["made"])
    assert link.is_symlink() and (tmp_path / "target").exists()
    assert not list(tmp_path.glob("*.part*")) and not list(tmp_path.glob("*-wal"))


def test_the_log_of_a_deleted_file_is_not_applied_to_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "sweeper.db"
    old = sqlite3.connect(path)
    old.execute("PRAGMA journal_mode=WAL")
    old.execute("CREATE TABLE old (x INTEGER)")
    log = path.with_name("sweeper.db-wal").read_bytes()
    old.close()
    path.unlink()
    path.with_name("sweeper.db-wal").write_bytes(log)
    with lock_database_creation(path, create_table):
        assert list_tables(path) == ["made"]


def test_a_database_that_another_program_creates_meanwhile_is_not_changed(tmp_path: Path) -> None:
    def create_late(part: Path) -> None:
        create_table(part)
        with closing(sqlite3.connect(tmp_path / "mlflow.db")) as connection:
            connection.execute("CREATE TABLE mine (x INTEGER)")

    with lock_database_creation(tmp_path / "mlflow.db", create_late):
        assert list_tables(tmp_path / "mlflow.db") == ["mine"]
