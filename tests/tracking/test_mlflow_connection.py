"""Connecting to a real MLflow store, which is opened or created once, at its address."""

from __future__ import annotations

import http.server
import shutil
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from sweeper.core.errors import UsageError
from sweeper.tracking import MlflowTracker, SweepSummary
from sweeper.tracking.mlflow_connection import connect_to_mlflow, explain_store_errors
from tests.support import builders
from tests.support.tracked import begin_tracking, get_run, make_study, store_result, train


@pytest.mark.slow
def test_a_relative_address_is_relative_to_the_current_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        assert connect_to_mlflow("sqlite:///mlflow.db").get_experiment_by_name("s") is None
        connect_to_mlflow("sqlite:///mlflow.db").create_experiment("s")
        assert (tmp_path / name / "mlflow.db").stat().st_size > 100_000


@pytest.mark.slow
def test_concurrent_first_starts_all_succeed(tmp_path: Path) -> None:
    code = (
        "import sys; from sweeper.tracking import MlflowTracker; from sweeper.storage import open_storage; "
        "open_storage('sqlite:///sweeper.db'); MlflowTracker('sqlite:///mlflow.db', warn=print)"
    )
    starts = [
        subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
        for _ in range(6)
    ]
    outcomes = [(start.communicate(timeout=200)[1], start.returncode) for start in starts]
    assert [status for _, status in outcomes] == [0] * 6, outcomes


def test_a_store_that_cannot_be_reached_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("this is no database, and long enough not to look like an empty one" * 20)
    with pytest.raises(UsageError, match="--tracking-uri"):
        MlflowTracker(f"sqlite:///{tmp_path}/file", warn=pytest.fail)


@pytest.mark.parametrize(
    ("cause", "answer"),
    [
        ("database or disk is full", "this machine allows no more: database or disk is full"),
        ("file is not a database", "file is not a database. Move it away"),
    ],
)
def test_a_store_on_a_full_disk_is_not_to_be_moved_away(cause: str, answer: str) -> None:
    with pytest.raises(UsageError) as caught, explain_store_errors("sqlite:///mlflow.db", "Move it away"):
        raise sqlite3.OperationalError(cause)
    text = str(caught.value)
    assert f"must be an MLflow store that answers, got: {answer}" in text
    assert ("Make room" in text) != ("Move it away" in text)


@pytest.mark.parametrize("status", [401, 403])
def test_a_server_that_refuses_the_password_is_named_with_the_variables_that_it_needs(status: int) -> None:
    class Refusal(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("Content-Length") or 0))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(b"You are not authenticated.")

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Refusal) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with pytest.raises(UsageError) as caught:
            connect_to_mlflow(f"http://me:hunter2@127.0.0.1:{server.server_port}")
        server.shutdown()
    text = str(caught.value)
    assert f"error code {status}" in text and "Set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD" in text
    assert "hunter2" not in text and "Start the server" not in text


def test_files_that_this_machine_cannot_write_are_counted_with_their_cause(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As where a server without a proxy for artifacts keeps them in a folder of its own."""
    monkeypatch.setattr("sweeper.tracking.tracker.END_PATIENCE", 5.0)
    uri, study, warnings = f"sqlite:///{tmp_path}/mlflow.db", make_study("kept elsewhere"), list[str]()
    connect_to_mlflow(uri).create_experiment("kept elsewhere", artifact_location="/proc/none")
    (tmp_path / "report").mkdir()
    for name in ("report.md", "trials.csv"):
        (tmp_path / "report" / name).write_text("words")
    tracker = begin_tracking(uri, study, warn=warnings.append)
    store_result(study, train(tracker, builders.trial("dice", 0.5, 0)))
    tracker.end_sweep("FINISHED", SweepSummary("", {}, {}, tmp_path / "report"))
    assert "has every run, and lacks 2 files ([Errno" in warnings[-1] and "'/proc/none'" in warnings[-1]
    assert "--artifacts-destination" in warnings[-1] and "sweeper studies sync 'kept elsewhere'" in warnings[-1]
    assert "did not take everything" not in str(warnings)
    runs = connect_to_mlflow(uri).search_runs([tracker.mirror.experiment_id])
    assert {run.info.status for run in runs} == {"FINISHED"} and len(runs) == 2


@pytest.mark.slow
def test_a_copied_store_writes_nothing_to_the_files_of_the_original(tmp_path: Path) -> None:
    original, copy, study = tmp_path / "the original", tmp_path / "cöpy", make_study("Some Study")
    original.mkdir()
    tracker = begin_tracking(f"sqlite:///{original}/mlflow.db", study)
    store_result(study, train(tracker, builders.trial("dice", 0.5, 0)))
    report = original / "report"  # a folder, as SQLite creates and deletes files next to mlflow.db
    report.mkdir()
    (report / "report.md").write_text("words")
    tracker.end_sweep("FINISHED", SweepSummary("", {}, {}, report))
    again = begin_tracking(f"sqlite:///{original}/mlflow.db", study, status="FINISHED")  # at its place nothing changed
    assert again.wait_until_written() is None
    again.close()
    shutil.copytree(original, copy)
    with pytest.raises(
        UsageError, match=r"was moved or copied: .*the%20original/mlruns/.*--tracking-uri sqlite:///NEW"
    ):
        begin_tracking(f"sqlite:///{copy}/mlflow.db", study)
    new = begin_tracking(f"sqlite:///{copy}/new.db", study, warn=lambda _: None)
    assert get_run(new, builders.spec("dice", 0)).info.artifact_uri.startswith(copy.as_uri())
