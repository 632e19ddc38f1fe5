"""A live MLflow server, also behind a password: what becomes of one that fails, and what is printed and kept."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from tests.cli.test_run import HURRIED, QUICK, SHORT, start, sweeper, wait_for
from tests.support.mlflow_server import PasswordProxy, Server
from tests.support.tracked import points_of

CANARY = "canary-0123456789abcdef"

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("server"))
    try:  # one that does not come up in time is ended, too
        server.start()
        yield server
    finally:
        server.kill()


@pytest.fixture
def own_server(tmp_path: Path) -> Iterator[Server]:
    """One that a test may kill."""
    server = Server(tmp_path)
    try:
        server.start()
        yield server
    finally:
        server.kill()


@pytest.fixture
def proxy(server: Server) -> Iterator[PasswordProxy]:
    proxy = PasswordProxy(server, "me", CANARY)
    yield proxy
    proxy.close()


def run_statuses(server: Server, study: str) -> list[str]:
    """Of every run in the study's experiment, read from the server's own store."""
    client = MlflowClient(server.store)
    experiment = client.get_experiment_by_name(study)
    assert experiment is not None
    return [run.info.status for run in client.search_runs([experiment.experiment_id], max_results=1000)]


def assert_no_secret(folder: Path, *done: subprocess.CompletedProcess[str]) -> None:
    """Neither on a stream nor in any file below `folder`."""
    for one in done:
        assert CANARY not in one.stdout, one.stdout
        assert CANARY not in one.stderr, one.stderr
    files = [file for file in folder.rglob("*") if file.is_file()]
    assert files
    for file in files:
        assert CANARY.encode() not in file.read_bytes(), file


def test_a_password_of_a_live_server_shows_nowhere_and_json_is_one_document(
    tmp_path: Path, server: Server, proxy: PasswordProxy
) -> None:
    """A sweep, a resume that the server fails amid, and what completes it; -v shows what is shown at all."""
    arguments = ["--study", "secret", "--workers", "1", "--tracking-uri", proxy.uri, "--json", "-v"]
    first = sweeper(tmp_path, "run", *SHORT, "--trials", "2", *arguments, timeout=500)
    assert first.returncode == 0, first.stderr
    assert json.loads(first.stdout)["study"] == "secret"
    assert "127.0.0.1" in first.stderr and "***" in first.stderr  # it was told, without the password
    assert set(run_statuses(server, "secret")) == {"FINISHED"}  # the server took it all
    seen = proxy.requests
    proxy.fails = lambda n: n > seen + 12
    failing = sweeper(tmp_path, "run", "--resume", "--trials", "4", *arguments, timeout=500, program=HURRIED)
    assert failing.returncode == 0, failing.stderr
    assert json.loads(failing.stdout)["search"]["trials"] == 4
    assert "fails: " in failing.stderr and "sweeper mlflow secret" in failing.stderr
    assert_no_secret(tmp_path, first, failing)
    proxy.fails = lambda _: False
    synced = sweeper(tmp_path, "mlflow", "secret", "--tracking-uri", proxy.uri, "--json")
    assert synced.returncode == 0 and json.loads(synced.stdout)["made"] >= 1, synced.stderr
    assert set(run_statuses(server, "secret")) == {"FINISHED"}
    wrong = sweeper(tmp_path, "run", *QUICK, "--tracking-uri", proxy.uri.replace("me:", "you:"), "--json", "-v")
    assert wrong.returncode == 2 and proxy.refused and json.loads(wrong.stdout)["schema"] == "sweeper.error/1"
    assert_no_secret(tmp_path, synced, wrong)
    assert_no_secret(server.folder)


# --- A server that is killed ---


def evaluations_of(folder: Path, study: str) -> dict[str, list[int]]:
    """What the study's own storage says was evaluated: the steps of each counted training."""
    from sweeper.storage import load_sweep, open_storage

    sweep = load_sweep(open_storage(f"sqlite:///{folder}/sweeper.db"), study)
    kinds = {"search": "trial"}
    everything = [*sweep.trials, *sweep.rechecks, *sweep.confirmations]
    assert all(result.run_id for result in everything)  # also of those that ended meanwhile
    return {
        f"{kinds.get(r.spec.purpose, r.spec.purpose)}/{r.spec.number:05d}": [e.step for e in r.evaluations]
        for r in everything
    }


def assert_whole(server: Server, folder: Path, study: str) -> None:
    """The server's store has every run and every point of a finished study once."""
    server.kill()
    experiment = MlflowClient(server.store).get_experiment_by_name(study)
    assert experiment is not None
    assert points_of(server.store, experiment.experiment_id) == evaluations_of(folder, study)
    assert set(run_statuses(server, study)) == {"FINISHED"}


def test_kill_9_while_the_server_is_away_and_a_resume_leave_every_point_once(
    tmp_path: Path, own_server: Server
) -> None:
    arguments = ["--study", "s", "--tracking-uri", own_server.uri, "--workers", "2"]
    process = start(tmp_path, "run", *SHORT, "--trials", "8", *arguments)
    wait_for(tmp_path, "[3/8]", process)
    own_server.kill()
    wait_for(tmp_path, "[6/8]", process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(10)
    refused = sweeper(tmp_path, "run", "--resume", *arguments)
    assert refused.returncode == 2 and "--tracking-uri" in refused.stderr
    own_server.start()
    done = sweeper(tmp_path, "run", "--resume", *arguments)
    assert done.returncode == 0, done.stderr
    assert_whole(own_server, tmp_path, "s")
