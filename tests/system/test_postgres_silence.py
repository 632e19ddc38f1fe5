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
from tests.support.proxy import Proxy, run_proxy
from tests.support.sweeping import TWO_LOSSES, Recorder, run_small_sweep
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow  # each waits for a timeout


@pytest.fixture
def proxied_database(postgres: Server) -> Iterator[tuple[Proxy, str, str]]:
    """Yield a proxy, the address of an empty database through it, and that past it."""
    direct = postgres.fresh()
    with run_proxy(direct) as (proxy, url):
        yield proxy, url, direct


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten half a minute to seconds; one second is too short for making tables on a crowded machine."""
    monkeypatch.setattr(leases, "RENEW_SECONDS", 0.1)
    monkeypatch.setattr(server_side, "ANSWER_SECONDS", 3.0)
    monkeypatch.setitem(server_side.SOCKET, "connect_timeout", 2)


def read_holder(direct: str, purpose: str) -> str | None:
    """Return the token of the process that holds a lease, from the server."""
    with psycopg.connect(direct, autocommit=True) as connection:
        row = connection.execute("SELECT token FROM sweeper_leases WHERE purpose = %s", [purpose]).fetchone()
    return None if row is None else str(row[0])


def leave_dead_lease(proxy: Proxy, url: str, purpose: str) -> None:
    """Leave the lease of a process that ended without the server noticing."""
    dead = Lease(url, purpose)
    dead.acquire(wait=False)
    dead._end.set()
    proxy.forget()


# --- Connections ---


@pytest.mark.parametrize("kind", ["lease", "engine"])
def test_an_unlimited_connect_timeout_in_an_address_is_limited(
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


def test_a_silent_server_raises_an_error_and_closes_the_connection(proxied_database: tuple[Proxy, str, str]) -> None:
    proxy, url, _ = proxied_database
    with closing(server_side.connect_to_server(url, "sweeper test")) as connection:
        proxy.silent()
        with pytest.raises(psycopg.OperationalError, match="did not answer within 3 s"):
            connection.execute("SELECT 1")
        assert connection.closed


def test_a_long_answer_is_awaited_while_it_arrives(
    proxied_database: tuple[Proxy, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limit is one on silence: 8 MB that arrive bit by bit take longer than it."""
    proxy, url, _ = proxied_database
    monkeypatch.setattr(server_side, "ANSWER_SECONDS", 5.0)
    with closing(server_side.connect_to_server(url, "sweeper test")) as connection:
        proxy.delay = 0.05
        row = connection.execute("SELECT repeat('x', 8000000)").fetchone()
        assert row is not None and len(row[0]) == 8_000_000


def test_both_ends_of_every_connection_have_timeouts(
    proxied_database: tuple[Proxy, str, str], postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engines of Optuna and MLflow open their connections themselves."""
    monkeypatch.setattr(server_side, "ANSWER_SECONDS", 30.0)  # making all their tables waits for the disk
    _, url, _ = proxied_database
    with run_proxy(postgres.fresh()) as (_, other):
        tracking = connect_mlflow(other)
        engines = [studies.open_storage(url).engine, tracking._tracking_client.store.engine]  # type: ignore[attr-defined]
        for engine in engines:
            with engine.connect() as connection:
                raw = connection.connection.driver_connection
                assert type(raw).__name__ == "BoundedConnection"
                parameters = raw.info.get_parameters()
                ours = {name: parameters[name] for name in ("tcp_user_timeout", "keepalives_idle", "keepalives_count")}
                assert ours == {"tcp_user_timeout": "25000", "keepalives_idle": "10", "keepalives_count": "3"}
                idle_timeout = connection.exec_driver_sql("SHOW idle_in_transaction_session_timeout").scalar()
                assert idle_timeout == "1min"
            engine.dispose()


def test_settings_in_the_address_override_defaults(proxied_database: tuple[Proxy, str, str]) -> None:
    _, url, _ = proxied_database
    with closing(server_side.connect_to_server(f"{url}&keepalives_idle=77", "sweeper test")) as connection:
        assert connection.info.get_parameters()["keepalives_idle"] == "77"


# --- The lease of a study ---


def test_a_leader_keeps_its_study_when_its_connection_is_forgotten(proxied_database: tuple[Proxy, str, str]) -> None:
    proxy, url, direct = proxied_database
    with studies.hold_study(url, "s") as lost:
        token = read_holder(direct, "study.s")
        proxy.forget()
        time.sleep(0.5)
        assert not lost()
        with (
            pytest.raises(StudyError, match=r"being run by another process \(process \d+ on "),
            studies.hold_study(direct, "s"),
        ):
            raise AssertionError("two at once")
        assert read_holder(direct, "study.s") == token
    wait_until(lambda: read_holder(direct, "study.s") is None)


def test_the_lease_of_an_ended_process_expires(
    proxied_database: tuple[Proxy, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy, url, direct = proxied_database
    monkeypatch.setattr(leases, "LEASE_SECONDS", 2.0)
    for purpose in ("create", "study.s"):
        leave_dead_lease(proxy, url, purpose)
        warnings = list[str]()
        with leases.hold_lease(direct, purpose, wait=purpose == "create", warn=warnings.append) as lease:
            assert not lease.lost
        assert "gives no sign of life" in warnings[0]


# --- The storage ---


@pytest.mark.exhaustive
def test_sigterm_ends_a_real_sweep_whose_database_is_silent(
    proxied_database: tuple[Proxy, str, str], tmp_path: Path
) -> None:
    proxy, url, direct = proxied_database
    # In the process itself: workers may take minutes to start on a busy machine.
    arguments = "run synthetic:cracks?images=15&size=64 --trials 60 --steps 4 --size 32 --batch-size 2"
    options = ["--workers", "0", "--device", "cpu", "--study", "s", "--storage", url]
    command = [sys.executable, "-m", "sweeper", *arguments.split(), *options]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, env=dict(os.environ))
    try:

        def has_begun() -> bool:
            try:
                with psycopg.connect(direct) as connection:
                    row = connection.execute("SELECT count(*) FROM trials WHERE state = 'COMPLETE'").fetchone()
                return row is not None and row[0] > 1
            except psycopg.Error:
                return False

        wait_until(has_begun, 280, process)
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


def test_a_leader_that_lost_its_study_reports_it_and_does_not_end_the_run_of_the_sweep(
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
        run_small_sweep(tmp_path, Losing(), storage=url, trials=60, space=TWO_LOSSES)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DELETE FROM sweeper_leases WHERE purpose = 'study.study'")
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    experiment = client.get_experiment_by_name("study")
    assert experiment is not None
    statuses = {r.data.tags["sweeper.kind"]: r.info.status for r in client.search_runs([experiment.experiment_id])}
    assert statuses["sweep"] == "RUNNING"  # it is the other's
    outcome = run_small_sweep(tmp_path, storage=url, resume=True, trials=7, data=None)
    assert outcome.sweep.trials


# --- Servers without connections ---


def test_a_server_without_free_connections_is_awaited_with_advice(postgres: Server) -> None:
    url = postgres.fresh()
    connections = list[psycopg.Connection]()
    try:
        with pytest.raises(psycopg.OperationalError, match="too many clients"):
            while True:
                connections.append(psycopg.connect(url))
        warnings = list[str]()

        def close_some() -> None:
            wait_until(lambda: warnings)
            for connection in connections[:10]:
                connection.close()

        freeing = threading.Thread(target=close_some)
        freeing.start()
        storage = studies.open_storage(url, warn=warnings.append)
        freeing.join()
        with studies.hold_study(url, "s"):
            assert studies.list_study_names(storage) == []
    finally:
        for connection in connections:
            connection.close()
    assert (
        "too many clients" in warnings[0]
        and "max_connections" in warnings[0]
        and "4 connections or more" in warnings[0]
    )
