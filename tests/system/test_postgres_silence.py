"""PostgreSQL through a network that swallows packets, forgets connections, or fails over; and servers that are full."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path

import psycopg
import pytest
from mlflow.tracking import MlflowClient
from sqlalchemy import create_engine

from sweeper import storage as studies
from sweeper.core.errors import LostStudyError, StudyError
from sweeper.core.records import TrialResult
from sweeper.system import leases
from sweeper.system import postgres as server_side
from sweeper.system.leases import Lease
from sweeper.tracking.mlflow_connection import connect_to_mlflow as connect_mlflow
from tests.support.postgres_server import Server
from tests.support.proxy import Proxy, proxied
from tests.support.sweeping import TWO_LOSSES, Recorder, sweep_in
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow  # each waits for what does not come


@pytest.fixture
def through(postgres: Server) -> Iterator[tuple[Proxy, str, str]]:
    """Yield a proxy, the address of an empty database through it, and that past it."""
    direct = postgres.fresh()
    with proxied(direct) as (proxy, url):
        yield proxy, url, direct


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten half a minute to seconds; one alone is too few for making tables on a crowded machine."""
    monkeypatch.setattr(leases, "RENEW_SECONDS", 0.1)
    monkeypatch.setattr(server_side, "ANSWER_SECONDS", 3.0)
    monkeypatch.setitem(server_side.SOCKET, "connect_timeout", 2)


def holder(direct: str, purpose: str) -> str | None:
    """Token of who holds a lease, at the server."""
    with psycopg.connect(direct, autocommit=True) as connection:
        row = connection.execute("SELECT token FROM sweeper_leases WHERE purpose = %s", [purpose]).fetchone()
    return None if row is None else str(row[0])


def leave_a_ghost(proxy: Proxy, url: str, purpose: str) -> None:
    """Leave the lease of a process that is gone without the server's knowledge."""
    dead = Lease(url, purpose)
    dead.acquire(wait=False)
    dead._end.set()
    proxy.forget()


# --- Connections ---


@pytest.mark.parametrize("kind", ["lease", "engine"])
def test_an_address_that_asks_to_connect_without_end_has_a_limit(
    postgres: Server, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    limits: list[int] = []
    monkeypatch.setattr(psycopg.Connection, "connect", lambda *_, **options: limits.append(options["connect_timeout"]))
    url = f"{postgres.fresh()}&connect_timeout=0"
    with suppress(AttributeError):  # None is no connection
        if kind == "lease":
            server_side.connect_to_server(url, "x")
        else:
            create_engine(server_side.make_named_url(url, "x")).connect()
    assert limits == [2]


def test_a_silent_server_is_an_error_and_the_connection_is_closed(through: tuple[Proxy, str, str]) -> None:
    proxy, url, _ = through
    with closing(server_side.connect_to_server(url, "sweeper test")) as connection:
        proxy.silent()
        with pytest.raises(psycopg.OperationalError, match="did not answer within 3 s"):
            connection.execute("SELECT 1")
        assert connection.closed


def test_a_long_answer_that_comes_is_waited_for(
    through: tuple[Proxy, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit is one on silence: 8 MB that arrive bit by bit take longer than it."""
    proxy, url, _ = through
    monkeypatch.setattr(server_side, "ANSWER_SECONDS", 5.0)
    with closing(server_side.connect_to_server(url, "sweeper test")) as connection:
        proxy.delay = 0.05
        row = connection.execute("SELECT repeat('x', 8000000)").fetchone()
        assert row is not None and len(row[0]) == 8_000_000


def test_both_ends_of_every_connection_have_timeouts(
    through: tuple[Proxy, str, str], postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Optuna's and MLflow's engines make theirs by themselves."""
    monkeypatch.setattr(server_side, "ANSWER_SECONDS", 30.0)  # making all their tables waits for the disk
    _, url, _ = through
    with proxied(postgres.fresh()) as (_, other):
        tracking = connect_mlflow(other)
        engines = [studies.open_storage(url).engine, tracking._tracking_client.store.engine]  # type: ignore[attr-defined]
        for engine in engines:
            with engine.connect() as connection:
                raw = connection.connection.driver_connection
                assert type(raw).__name__ == "BoundedConnection"
                given = raw.info.get_parameters()
                ours = {name: given[name] for name in ("tcp_user_timeout", "keepalives_idle", "keepalives_count")}
                assert ours == {"tcp_user_timeout": "25000", "keepalives_idle": "10", "keepalives_count": "3"}
                shown = connection.exec_driver_sql("SHOW idle_in_transaction_session_timeout").scalar()
                assert shown == "1min"
            engine.dispose()


def test_what_the_address_says_goes_before_our_own(through: tuple[Proxy, str, str]) -> None:
    _, url, _ = through
    with closing(server_side.connect_to_server(f"{url}&keepalives_idle=77", "sweeper test")) as connection:
        assert connection.info.get_parameters()["keepalives_idle"] == "77"


# --- The lease of a study ---


def test_a_leader_keeps_its_study_when_its_connection_is_forgotten(through: tuple[Proxy, str, str]) -> None:
    proxy, url, direct = through
    with studies.hold_study(url, "s") as lost:
        mine = holder(direct, "study.s")
        proxy.forget()
        time.sleep(0.5)
        assert not lost()
        with (
            pytest.raises(StudyError, match=r"being run by another process \(process \d+ on "),
            studies.hold_study(direct, "s"),
        ):
            raise AssertionError("two at once")
        assert holder(direct, "study.s") == mine
    wait_until(lambda: holder(direct, "study.s") is None)


def test_the_lease_of_a_process_that_is_gone_runs_out(
    through: tuple[Proxy, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy, url, direct = through
    monkeypatch.setattr(leases, "LEASE_SECONDS", 2.0)
    for purpose in ("create", "study.s"):
        leave_a_ghost(proxy, url, purpose)
        told = list[str]()
        with leases.hold_lease(direct, purpose, wait=purpose == "create", warn=told.append) as mine:
            assert not mine.lost
        assert "gives no sign of life" in told[0]


# --- The storage ---


@pytest.mark.exhaustive
def test_sigterm_ends_a_real_sweep_whose_database_is_silent(through: tuple[Proxy, str, str], tmp_path: Path) -> None:
    proxy, url, direct = through
    # In the process itself: workers may take minutes to start on a busy machine.
    arguments = "run --data synthetic:cracks?images=15&size=64 --trials 60 --steps 4 --size 32 --batch-size 2"
    options = ["--executor", "inline", "--device", "cpu", "--study", "s", "--storage", url]
    command = [sys.executable, "-m", "sweeper", *arguments.split(), *options]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, env=dict(os.environ))
    try:

        def begun() -> bool:
            try:
                with psycopg.connect(direct) as connection:
                    row = connection.execute("SELECT count(*) FROM trials WHERE state = 'COMPLETE'").fetchone()
                return row is not None and row[0] > 1
            except psycopg.Error:
                return False

        wait_until(begun, 280, process)
        proxy.silent()
        time.sleep(1)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=120)  # it took minutes, one wait after another
    finally:
        process.kill()
    assert process.returncode == 143, err
    assert "stopping: what is finished is kept" in err
    assert "Traceback" not in err and "mistake in sweeper" not in err


# --- A leader that lost the study ---


def test_a_leader_that_lost_the_study_says_what_is_left_and_leaves_the_sweeps_run_to_the_other(
    postgres: Server, tmp_path: Path
) -> None:
    url = postgres.fresh()
    other = Lease(url, "study.study")

    class Losing(Recorder):
        """Another process takes the study after three trainings, as if this one had been stopped for a minute."""

        def keep(self, result: TrialResult) -> None:
            super().keep(result)
            if len(self.results) == 3:
                with psycopg.connect(url, autocommit=True) as connection:
                    connection.execute("DELETE FROM sweeper_leases WHERE purpose = 'study.study'")
                    connection.execute(leases._TAKE, ["study.study", other._token, "another", 60])
                time.sleep(0.5)

    with pytest.raises(LostStudyError, match=r"another process runs it now.*sweeper run --study study --resume"):
        sweep_in(tmp_path, Losing(), storage=url, trials=60, space=TWO_LOSSES)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DELETE FROM sweeper_leases WHERE purpose = 'study.study'")
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    experiment = client.get_experiment_by_name("study")
    assert experiment is not None
    statuses = {r.data.tags["sweeper.kind"]: r.info.status for r in client.search_runs([experiment.experiment_id])}
    assert statuses["sweep"] == "RUNNING"  # it is the other's
    outcome = sweep_in(tmp_path, storage=url, resume=True, trials=7, data=None)
    assert outcome.sweep.trials


# --- Servers without connections ---


def test_a_server_without_connections_is_waited_for_with_advice(postgres: Server) -> None:
    url = postgres.fresh()
    taken = list[psycopg.Connection]()
    try:
        with pytest.raises(psycopg.OperationalError, match="too many clients"):
            while True:
                taken.append(psycopg.connect(url))
        told = list[str]()

        def free() -> None:
            wait_until(lambda: told)
            for connection in taken[:10]:
                connection.close()

        freeing = threading.Thread(target=free)
        freeing.start()
        storage = studies.open_storage(url, warn=told.append)
        freeing.join()
        with studies.hold_study(url, "s"):
            assert studies.list_study_names(storage) == []
    finally:
        for connection in taken:
            connection.close()
    assert "too many clients" in told[0] and "max_connections" in told[0] and "4 connections or more" in told[0]
