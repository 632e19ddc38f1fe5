"""A real PostgreSQL server as storage of the study and of MLflow."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import optuna
import psycopg
import pytest
import sqlalchemy
from click.testing import CliRunner
from mlflow.tracking import MlflowClient
from optuna.trial import TrialState

from sweeper import storage as studies
from sweeper.cli.main import cli
from sweeper.core.errors import StudyError, SweeperError, UsageError
from sweeper.storage import resilient_storage as steady
from sweeper.storage.results import is_counted
from sweeper.system import leases
from sweeper.system import postgres as server_side
from tests.support.faking import new_plan, train
from tests.support.postgres_server import Server, run_server
from tests.support.sweeping import Recorder, run_small_sweep
from tests.support.waiting import wait_until


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+psycopg"])
def test_a_plan_is_stored_and_read_whatever_the_scheme_of_the_address(postgres: Server, scheme: str) -> None:
    url = postgres.fresh().replace("postgresql", scheme, 1)
    studies.create_study(studies.open_storage(url), "s", new_plan())
    assert studies.read_plan(studies.open_storage(url, create=False), "s") == new_plan()


def test_a_database_without_studies_is_refused_and_not_changed(postgres: Server) -> None:
    url = postgres.fresh()
    with pytest.raises(StudyError, match="holds no studies"):
        studies.open_storage(url, create=False)
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone() == (0,)


def test_an_absent_server_is_refused_without_its_password() -> None:
    url = "postgresql://user:hunter2@127.0.0.1:1/db"
    with pytest.raises(UsageError, match="must be a PostgreSQL database that answers") as caught:
        studies.open_storage(url)
    assert "hunter2" not in str(caught.value)


@pytest.mark.slow
def test_a_study_is_run_by_one_process_at_a_time(postgres: Server) -> None:
    url = postgres.fresh()
    with studies.hold_study(url, "s"):
        with pytest.raises(StudyError, match="being run by another process"), studies.hold_study(url, "s"):
            raise AssertionError("two at once")
        with studies.hold_study(url, "another"):
            pass
    with studies.hold_study(url, "s"):
        pass


@pytest.mark.slow
def test_a_restart_of_the_server_neither_frees_the_study_nor_ends_the_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leases, "RENEW_SECONDS", 0.05)
    with run_server() as server:
        url = server.fresh()
        storage = studies.open_storage(url)
        study = studies.create_study(storage, "s", new_plan())
        stopped: list[float] = []

        def restart() -> None:
            time.sleep(0.5)
            server.stop()
            stopped.append(time.monotonic())
            time.sleep(1)
            server.start()

        class Pausing(Recorder):
            """Each training takes a little, so that the restart is during them."""

            def keep(self, result: object) -> None:
                time.sleep(0.05)

        with studies.hold_study(url, "s") as lost:
            thread = threading.Thread(target=restart)
            thread.start()
            try:
                train(study, trials=40, display=Pausing())
                assert stopped, "the sweep was over before the server stopped"
            finally:
                thread.join()

            def is_held() -> bool:
                try:
                    with studies.hold_study(url, "s"):
                        return False
                except StudyError:
                    return True

            wait_until(is_held)
            assert not lost()
        trials = study.get_trials()
        assert sum(is_counted(t) for t in trials) == 40
        assert {t.state.name for t in trials} <= {"COMPLETE", "PRUNED"}
        assert [t.number for t in trials] == list(range(len(trials)))


@pytest.mark.slow
def test_the_wait_for_an_absent_server_has_a_limit_and_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(steady, "PATIENCE_SECONDS", 0.5)
    with run_server() as server:
        warnings = list[str]()
        study = studies.create_study(studies.open_storage(server.fresh(), warn=warnings.append), "s", new_plan())
        monkeypatch.setattr(steady, "WARN_SECONDS", 0.2)
        server.stop()
        try:
            with pytest.raises(SweeperError, match=r"did not answer for .* everything finished is kept"):
                study.ask()
        finally:
            server.start()
        (line,) = warnings
        assert "does not answer" in line and "SELECT" not in line
        monkeypatch.setattr(steady, "PATIENCE_SECONDS", 60)
        monkeypatch.setattr(steady, "WARN_SECONDS", 0)
        assert study.get_trials() == []  # it answers again, so that a new wait begins
        study._storage._backend.engine.dispose()  # type: ignore[attr-defined]
        server.stop()
        back = threading.Timer(1, server.start)
        back.start()
        study.ask()
        back.join()
        assert "does not answer" in warnings[1] and "answers again, after" in warnings[2]


def test_trials_are_read_again_when_the_session_ends_during_reading(postgres: Server) -> None:
    """Optuna takes an error there for a query that is too long and continues in the session that is broken."""
    url = postgres.fresh()
    storage = studies.open_storage(url)
    study = studies.create_study(storage, "s", new_plan())
    study.add_trial(optuna.trial.create_trial(value=0.5, intermediate_values={1: 0.5}))
    statements: list[str] = []

    def end_session(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        if "trial_intermediate_values" in statement and not statements:
            statements.append(statement)
            with psycopg.connect(url, autocommit=True) as other:
                ours = "application_name = 'sweeper' AND datname = current_database()"
                other.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {ours}")  # type: ignore[arg-type]

    sqlalchemy.event.listen(storage.engine, "before_cursor_execute", end_session)
    expected = studies.open_storage(url).get_all_trials(study._study_id)
    assert [t.value for t in storage.get_all_trials(study._study_id)] == [t.value for t in expected] == [0.5]
    assert statements


@pytest.mark.parametrize("waits", [False, True])
def test_a_stored_change_whose_answer_was_lost_is_not_an_error(tmp_path: Path, waits: bool) -> None:
    study = optuna.create_study(storage=studies.open_storage(f"sqlite:///{tmp_path}/a.db"), direction="maximize")
    storage = study._storage._backend  # type: ignore[attr-defined]
    state, values = (TrialState.RUNNING, None) if waits else (TrialState.COMPLETE, [0.5])
    if waits:
        study.enqueue_trial({})
        (trial,) = study.trials
    else:
        trial = study.ask()
    original = steady.RDBStorage.set_trial_state_values
    calls = []

    def lose_answer(*args: object, **kwargs: object) -> bool:
        done = original(*args, **kwargs)  # type: ignore[arg-type]
        calls.append(1)
        if len(calls) == 1:
            raise steady.OperationalError("", {}, Exception("server closed the connection unexpectedly"))
        return done

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(steady.RDBStorage, "set_trial_state_values", lose_answer)
        assert storage.set_trial_state_values(trial._trial_id, state, values)
    assert study.trials[0].state == state


@pytest.mark.slow
def test_a_sweep_with_both_stores_on_the_server_writes_no_password(postgres: Server, tmp_path: Path) -> None:
    storage = postgres.fresh().replace("postgres@", "nowhere") + "&user=postgres&password=hun'ter\"2%40w0r/d"
    tracking = postgres.fresh().replace("postgres@", "postgres:hun'ter\"2@")
    display = Recorder()
    outcome = run_small_sweep(tmp_path, display, storage=storage, tracking_uri=tracking)
    client = MlflowClient(server_side.make_sqlalchemy_url(tracking))
    experiment = client.get_experiment_by_name("study")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    assert {run.info.status for run in runs} == {"FINISHED"}
    assert len(runs) == 1 + len(outcome.sweep.trainings)
    written = [path.read_text("utf-8", "ignore") for path in outcome.paths.folder.rglob("*.*") if path.is_file()]
    params = [value for run in runs for value in (*run.data.params.values(), *run.data.tags.values())]
    listed = CliRunner().invoke(cli, ["studies", "--storage", storage], catch_exceptions=False).output
    assert "1 study in postgresql://nowhere/" in listed and "password=***" in listed
    for text in (*display.lines, *display.warnings, *written, *params, listed):
        assert not any(piece in text for piece in ("hun'", "hun&#", "hun%27", 'ter"2', "ter&", "ter%22", "w0r"))
    with psycopg.connect(storage) as connection:
        rows = connection.execute("SELECT value_json FROM study_user_attributes").fetchall()
    assert rows and not any("hun'" in value or "ter\\" in value for (value,) in rows)


def test_one_database_for_both_stores_is_refused(postgres: Server, tmp_path: Path) -> None:
    url = postgres.fresh()
    with pytest.raises(UsageError, match="two databases"):
        run_small_sweep(tmp_path, storage=url, tracking_uri=url)
