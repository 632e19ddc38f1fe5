"""A live MLflow server behind a password: what is printed and kept, and what becomes of a server that fails."""

from __future__ import annotations

import json
import random
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from tests.mlflow_server import PasswordProxy, Server
from tests.test_cli_run import HURRIED, QUICK, SHORT, sweeper
from tests.test_spool import evaluations_of, points_of

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
    """A sweep, one that the server fails amid, its resume and its report; -v shows what is shown at all."""
    arguments = ["--study", "secret", "--workers", "1", "--tracking-uri", proxy.uri, "--json", "-v"]
    first = sweeper(tmp_path, "run", *SHORT, "--trials", "2", *arguments, timeout=500)
    assert first.returncode == 0, first.stderr
    assert json.loads(first.stdout)["study"] == "secret"
    assert "127.0.0.1" in first.stderr and "***" in first.stderr  # it was told, without the password
    assert set(run_statuses(server, "secret")) == {"FINISHED"}  # the server took it all
    seen = proxy.requests
    proxy.fails = lambda n: n > seen + 30
    failing = sweeper(tmp_path, "run", "--resume", "--trials", "4", *arguments, timeout=500, program=HURRIED)
    assert failing.returncode == 0, failing.stderr
    assert json.loads(failing.stdout)["search"]["trials"] == 4
    assert "does not answer" in failing.stderr
    assert list(tmp_path.glob(".sweeper/spool/*.db"))  # what is kept for the server is searched, too
    assert_no_secret(tmp_path, first, failing)
    proxy.fails = lambda _: False
    report = sweeper(tmp_path, "report", "secret", "--tracking-uri", proxy.uri, "--json")
    assert report.returncode == 0 and "had missed" in report.stderr, report.stderr
    assert json.loads(report.stdout)["search"]["trials"] == 4
    assert set(run_statuses(server, "secret")) == {"FINISHED"}
    wrong = sweeper(tmp_path, "run", *QUICK, "--tracking-uri", proxy.uri.replace("me:", "you:"), "--json", "-v")
    assert wrong.returncode == 2 and proxy.refused and json.loads(wrong.stdout)["schema"] == "sweeper.error/1"
    assert_no_secret(tmp_path, report, wrong)
    assert_no_secret(server.folder)


@pytest.mark.exhaustive
@pytest.mark.parametrize("lose_answers", [False, True])
def test_a_server_that_answers_500_now_and_then_has_everything_in_the_end(
    tmp_path: Path, server: Server, proxy: PasswordProxy, lose_answers: bool
) -> None:
    """Two of five requests fail once the sweep has begun, a dozen in a row among them."""
    study, luck = f"fails-{lose_answers}", random.Random(0)
    proxy.lose_answers = lose_answers
    proxy.fails = lambda n: n > 40 and (n % 100 < 12 or luck.random() < 0.4)
    done = sweeper(
        tmp_path, "run", *SHORT, "--trials", "4", "--study", study, "--workers", "1", "--tracking-uri", proxy.uri,
        timeout=800,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "does not answer" in done.stderr
    assert "were not told" not in done.stderr and "was not told everything" not in done.stderr
    assert not list(tmp_path.glob(".sweeper/spool/*.db"))
    assert set(run_statuses(server, study)) == {"FINISHED"}
    experiment = MlflowClient(server.store).get_experiment_by_name(study)
    assert experiment is not None
    assert points_of(server.store, experiment.experiment_id) == evaluations_of(tmp_path, study)
