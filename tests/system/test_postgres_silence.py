"""PostgreSQL through a network that swallows packets, forgets connections, or fails over; and servers that are full."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import optuna
import psycopg
import pytest
from mlflow.tracking import MlflowClient

from sweeper import storage as studies
from sweeper.core.errors import InterruptedSweepError, LostStudyError, StudyError, SweeperError, UsageError
from sweeper.core.records import TrialResult
from sweeper.storage import resilient_storage as steady
from sweeper.system import advisory_locks as advisory
from sweeper.system import database_waits as patience
from sweeper.system import postgres as server_side
from sweeper.system.advisory_locks import AdvisoryLock
from sweeper.system.database_waits import Patience
from sweeper.tracking.mlflow_connection import connect as connect_mlflow
from tests.support.faking import new_plan
from tests.support.postgres_server import Server
from tests.support.proxy import Proxy, proxied
from tests.support.sweeping import Recorder, sweep_in


@pytest.fixture
def through(postgres: Server) -> Iterator[tuple[Proxy, str, str]]:
    """A proxy, the address of an empty database through it, and that past it."""
    direct = postgres.fresh()
    with proxied(direct) as (proxy, url):
        yield proxy, url, direct


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes half a minute takes seconds; one alone is too few for making tables on a crowded machine."""
    monkeypatch.setattr(advisory, "WATCH_SECONDS", 0.1)
    monkeypatch.setattr(server_side, "ANSWER_SECONDS", 3.0)
    monkeypatch.setitem(server_side.SOCKET, "connect_timeout", 2)


def wait_until(true: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.02)


def holders(direct: str) -> list[int]:
    """Sessions that hold a lock, at the server."""
    with psycopg.connect(direct, autocommit=True) as connection:
        rows = connection.execute(
            "SELECT l.pid FROM pg_locks l JOIN pg_database d ON d.oid = l.database "
            "WHERE l.locktype = 'advisory' AND l.granted AND d.datname = current_database()"
        ).fetchall()
    return [pid for (pid,) in rows]


# --- Connections ---


def test_a_silent_server_is_an_error_and_the_connection_is_closed(through: tuple[Proxy, str, str]) -> None:
    proxy, url, _ = through
    with closing(server_side.connect(url, "sweeper test", Patience())) as connection:
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
    with closing(server_side.connect(url, "sweeper test", Patience())) as connection:
        proxy.delay = 0.05
        row = connection.execute("SELECT repeat('x', 8000000)").fetchone()
        assert row is not None and len(row[0]) == 8_000_000


def test_a_server_that_drips_is_an_error_though_something_always_comes(through: tuple[Proxy, str, str]) -> None:
    proxy, url, _ = through
    with closing(server_side.connect(url, "sweeper test", Patience())) as connection:
        proxy.drips = 0.3  # the whole answer would be there in two minutes
        with pytest.raises(psycopg.OperationalError, match="did not answer within 3 s"):
            connection.execute("SELECT repeat('x', 400)")
        assert connection.closed
    with pytest.raises(psycopg.OperationalError, match="timeout"):
        server_side.connect(url, "sweeper test", Patience())


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
    with closing(server_side.connect(f"{url}&keepalives_idle=77", "sweeper test", Patience())) as connection:
        assert connection.info.get_parameters()["keepalives_idle"] == "77"


# --- The lock of a study ---


def test_a_leader_takes_its_lock_from_its_own_ghost(through: tuple[Proxy, str, str]) -> None:
    proxy, url, direct = through
    with studies.sole_use(url, "s") as lost:
        (ghost,) = holders(direct)
        proxy.forget()
        wait_until(lambda: ghost not in holders(direct) and holders(direct))
        time.sleep(0.5)
        assert not lost()
        with (
            pytest.raises(StudyError, match=r"being run by another process \(process \d+ on "),
            studies.sole_use(url, "s"),
        ):
            raise AssertionError("two at once")
    wait_until(lambda: not holders(direct))


def test_a_resume_takes_the_lock_from_the_ghost_of_a_process_that_is_gone(
    through: tuple[Proxy, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy, url, direct = through
    dead = AdvisoryLock(url, "study.s")
    assert dead.acquire(wait=False)
    (ghost,) = holders(direct)
    proxy.forget()
    dead.release()  # the client's end is closed, and the server is not told
    time.sleep(0.5)
    assert holders(direct) == [ghost]
    monkeypatch.setattr(advisory, "GHOST_SECONDS", 1.0)
    with studies.sole_use(url, "s") as lost:
        assert holders(direct) != [ghost] and not lost()


def test_a_ghost_that_holds_the_lock_for_making_tables_is_ended_too(
    through: tuple[Proxy, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy, url, _ = through
    dead = AdvisoryLock(url, "create")
    assert dead.acquire(wait=False)
    proxy.forget()
    monkeypatch.setattr(advisory, "GHOST_SECONDS", 1.0)
    assert studies.study_names(studies.open_storage(url)) == []


def test_a_holder_that_lives_keeps_its_lock_however_long_it_is_asked(
    through: tuple[Proxy, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, url, direct = through
    monkeypatch.setattr(advisory, "GHOST_SECONDS", 2.0)
    with studies.sole_use(url, "s") as lost:
        mine = holders(direct)
        for _ in range(3):
            with pytest.raises(StudyError, match="being run"), studies.sole_use(direct, "s"):
                raise AssertionError("two at once")
        assert holders(direct) == mine and not lost()


@pytest.fixture
def for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dead session is waited for without end, but by a process that is to stop."""
    monkeypatch.setattr(advisory, "GHOST_SECONDS", 3600.0)
    monkeypatch.setattr(patience, "HURRY_SECONDS", 0.5)


def leave_a_ghost(proxy: Proxy, url: str, purpose: str) -> None:
    """The lock of a process that is gone, which the server was not told of."""
    dead = AdvisoryLock(url, purpose)
    assert dead.acquire(wait=False)
    proxy.forget()
    dead.release()


@pytest.mark.usefixtures("for_long")
def test_a_dead_session_is_not_waited_for_by_a_process_that_is_to_stop(through: tuple[Proxy, str, str]) -> None:
    proxy, url, direct = through
    leave_a_ghost(proxy, url, "study.s")
    leave_a_ghost(proxy, url, "create")
    stop = threading.Event()
    threading.Timer(1, stop.set).start()
    with pytest.raises(StudyError, match="being run"), studies.sole_use(direct, "s", patience=Patience(stop.is_set)):
        raise AssertionError("two at once")
    with pytest.raises(UsageError, match=r"not opened: process \d+ on .* was still making tables"):
        studies.open_storage(direct, patience=Patience(stop.is_set))


@pytest.mark.usefixtures("for_long")
def test_a_sweep_that_is_stopped_while_it_waits_for_a_dead_session_is_told_as_stopped(
    through: tuple[Proxy, str, str], tmp_path: Path
) -> None:
    proxy, url, direct = through
    leave_a_ghost(proxy, url, "study.study")
    with pytest.raises(InterruptedSweepError, match=r"stopped, and .* being run") as caught:
        sweep_in(tmp_path, Recorder(stop_after=0, status=143), storage=direct)
    assert caught.value.exit_status == 143


# --- The storage ---


def test_a_study_goes_on_when_a_firewall_forgets_its_connections(through: tuple[Proxy, str, str]) -> None:
    proxy, url, _ = through
    study = studies.create_study(studies.open_storage(url), "s", new_plan())
    study.ask()
    proxy.forget()
    study.ask()
    assert [t.number for t in study.trials] == [0, 1]


def test_a_server_that_takes_no_writes_for_a_while_is_waited_for(
    through: tuple[Proxy, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    _, url, direct = through
    monkeypatch.setattr(steady, "TOLD_SECONDS", 0.0)
    told = list[str]()
    study = studies.create_study(studies.open_storage(url, warn=told.append), "s", new_plan())
    with psycopg.connect(direct, autocommit=True) as other:
        name = other.info.dbname

        def take_writes(yes: bool) -> None:
            other.execute("SET default_transaction_read_only = off")
            other.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = {'off' if yes else 'on'}")  # type: ignore[arg-type]

        take_writes(False)
        study._storage._backend.engine.dispose()  # type: ignore[attr-defined]
        back = threading.Timer(2, take_writes, [True])
        back.start()
        study.ask()
        back.join()
    assert "read-only" in told[0] and "answers again" in told[-1]
    assert len(study.trials) == 1


def test_a_silent_server_is_not_waited_for_by_a_process_that_is_to_stop(
    through: tuple[Proxy, str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The limits of a healthy day stay as they are: only the stop makes the wait short."""
    proxy, url, _ = through
    monkeypatch.setattr(server_side, "ANSWER_SECONDS", 300.0)
    monkeypatch.setattr(patience, "HURRY_SECONDS", 0.5)
    stop = threading.Event()
    own = Patience(stop.is_set)
    study = studies.create_study(studies.open_storage(url, patience=own), "s", new_plan())
    proxy.silent()
    threading.Timer(1, stop.set).start()
    with pytest.raises(SweeperError, match="did not answer"):
        study.ask()
    assert own.given_up
    with pytest.raises(SweeperError, match="did not answer"):  # nor is it waited for again
        study.ask()


class Silencing(Recorder):
    """Makes the network silent after some trainings, and asks for a stop a little later."""

    def __init__(self, proxy: Proxy, after: int) -> None:
        super().__init__()
        self._proxy, self._after, self._stopped = proxy, after, False

    @property
    def status(self) -> int | None:
        return 143 if self._stopped else None

    def _stop(self) -> None:
        self._stopped = True

    def keep(self, result: TrialResult) -> None:
        super().keep(result)
        if len(self.results) == self._after:
            self._proxy.silent()
            threading.Timer(1, self._stop).start()


@pytest.mark.slow
def test_a_sweep_that_is_stopped_while_the_database_is_silent_ends_and_can_be_resumed(
    through: tuple[Proxy, str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy, url, direct = through
    monkeypatch.setattr(server_side, "ANSWER_SECONDS", 300.0)  # without the stop it would wait for minutes
    monkeypatch.setattr(patience, "HURRY_SECONDS", 0.5)
    monkeypatch.setattr(advisory, "GHOST_SECONDS", 1.0)
    display = Silencing(proxy, 3)
    with pytest.raises(InterruptedSweepError, match="did not answer") as caught:
        sweep_in(tmp_path, display, storage=url)
    assert caught.value.exit_status == 143
    proxy.forget()
    outcome = sweep_in(tmp_path, storage=direct, resume=True, trials=None, data=None)
    assert len(outcome.sweep.trials) == 7
    storage = studies.open_storage(direct)
    trials = studies.load_study(storage, "study").trials
    assert not [t for t in trials if t.state == optuna.trial.TrialState.RUNNING]


@pytest.mark.exhaustive
@pytest.mark.slow
def test_sigterm_ends_a_real_sweep_whose_database_is_silent(through: tuple[Proxy, str, str], tmp_path: Path) -> None:
    proxy, url, direct = through
    # In the process itself: workers may take minutes to start on a busy machine.
    arguments = "run --data synthetic:cracks?images=15&size=64 --trials 60 --steps 4 --size 32 --batch-size 2"
    options = ["--executor", "inline", "--device", "cpu", "--study", "s", "--storage", url]
    command = [sys.executable, "-m", "sweeper", *arguments.split(), *options]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True, env=dict(os.environ))
    try:

        def begun() -> bool:
            assert process.poll() is None
            try:
                with psycopg.connect(direct) as connection:
                    row = connection.execute("SELECT count(*) FROM trials WHERE state = 'COMPLETE'").fetchone()
                return row is not None and row[0] > 1
            except psycopg.Error:
                return False

        wait_until(begun, 280)
        proxy.silent()
        time.sleep(1)
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=120)  # it took minutes, one wait after another
    finally:
        process.kill()
    assert process.returncode == 143, err
    assert "--resume" in err and "Traceback" not in err and "mistake in sweeper" not in err


# --- A leader that lost the study ---


@pytest.mark.slow
def test_a_leader_that_lost_the_study_says_what_is_left_and_leaves_the_sweeps_run_to_the_other(
    postgres: Server, tmp_path: Path
) -> None:
    url = postgres.fresh()
    other = AdvisoryLock(url, "study.study")

    class Losing(Recorder):
        """Another process takes the study after three trainings."""

        def keep(self, result: TrialResult) -> None:
            super().keep(result)
            if len(self.results) != 3:
                return
            (pid,) = holders(url)
            taking = threading.Thread(target=lambda: other.acquire(wait=True))
            taking.start()
            with psycopg.connect(url, autocommit=True) as connection:
                # Ours is cut off until the other has it.
                while pid in holders(url) or not other._connection:
                    connection.execute("SELECT pg_terminate_backend(%s)", [pid])
                    found = holders(url)
                    pid = found[0] if found and not other._connection else pid
            taking.join()
            other.keep()

    with pytest.raises(LostStudyError, match=r"another process runs it by now.*sweeper run --study study --resume"):
        sweep_in(tmp_path, Losing(), storage=url, trials=60)
    other.release()
    client = MlflowClient(f"sqlite:///{tmp_path}/mlflow.db")
    experiment = client.get_experiment_by_name("study")
    assert experiment is not None
    statuses = {r.data.tags["sweeper.kind"]: r.info.status for r in client.search_runs([experiment.experiment_id])}
    assert statuses["sweep"] == "RUNNING"  # it is the other's
    outcome = sweep_in(tmp_path, storage=url, resume=True, trials=7, data=None)
    assert outcome.sweep.trials


# --- Servers without connections ---


def test_a_server_without_connections_is_waited_for_with_its_limit_told(postgres: Server) -> None:
    url = postgres.fresh()
    with closing(server_side.connect(url, "sweeper test", Patience())):
        pass  # the limit is known from now on
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
        with studies.sole_use(url, "s"):
            assert studies.study_names(storage) == []
    finally:
        for connection in taken:
            connection.close()
    assert "too many clients" in told[0] and "max_connections is 100" in told[0] and "4 or more" in told[0]


def test_a_server_without_connections_for_long_is_no_mistake_of_ours(
    postgres: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = postgres.fresh()
    monkeypatch.setattr(server_side, "START_SECONDS", 0.5)
    taken = list[psycopg.Connection]()
    try:
        with pytest.raises(psycopg.OperationalError, match="too many clients"):
            while True:
                taken.append(psycopg.connect(url))
        for call in (lambda: studies.open_storage(url), lambda: studies.sole_use(url, "s").__enter__()):
            with pytest.raises(SweeperError, match=r"too many clients.*max_connections"):
                call()
    finally:
        for connection in taken:
            connection.close()
