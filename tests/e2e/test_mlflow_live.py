"""A live MLflow server whose address holds a password: it is killed amid a sweep, and nothing shows the password."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from sweeper.storage import load_sweep, open_storage
from tests.cli.test_run import SHORT, start, sweeper, wait_for
from tests.support.mlflow_server import Server
from tests.support.tracked import read_steps

CANARY = "canary-0123456789abcdef"


def list_evaluations(folder: Path, study: str) -> dict[str, list[int]]:
    """Return what the study's own storage says was evaluated: the steps of each counted training."""
    sweep = load_sweep(open_storage(f"sqlite:///{folder}/sweeper.db"), study)
    kinds = {"search": "trial"}
    assert all(result.run_id for result in sweep.trainings)  # also of those that ended meanwhile
    return {
        f"{kinds.get(r.spec.purpose, r.spec.purpose)}/{r.spec.number:05d}": [e.step for e in r.evaluations]
        for r in sweep.trainings
    }


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_kill_without_the_server_and_a_resume_write_every_point_once_and_no_password(tmp_path: Path) -> None:
    folder, server = tmp_path / "sweep", Server(tmp_path)
    folder.mkdir()
    uri = server.uri.replace("http://", f"http://me:{CANARY}@")
    arguments = ["--study", "s", "--tracking-uri", uri, "--workers", "2", "-v"]
    try:
        server.start()
        process = start(folder, "run", *SHORT, "--trials", "8", *arguments)
        wait_for(folder, "[3/8]", process)
        server.kill()
        wait_for(folder, "[6/8]", process)
        wait_for(folder, "fails: ", process)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(10)
        output = (folder / "err.txt").read_text()
        assert "127.0.0.1" in output and "***" in output  # it was reported, without the password
        refused = sweeper(folder, "run", "--resume", *arguments, "--json")
        assert refused.returncode == 2 and "--tracking-uri" in refused.stderr
        assert json.loads(refused.stdout)["schema"] == "sweeper.error/1"
        server.start()
        done = sweeper(folder, "run", "--resume", *arguments, "--json")
        assert done.returncode == 0 and json.loads(done.stdout)["study"] == "s", done.stderr
    finally:
        server.kill()
    client = MlflowClient(server.store)
    experiment = client.get_experiment_by_name("s")
    assert read_steps(server.store, experiment.experiment_id) == list_evaluations(folder, "s")
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    assert {run.info.status for run in runs} == {"FINISHED"}
    written = [file.read_bytes() for file in tmp_path.rglob("*") if file.is_file()]  # the server's files, too
    for text in (*written, *(stream.encode() for run in (refused, done) for stream in (run.stdout, run.stderr))):
        assert CANARY.encode() not in text
