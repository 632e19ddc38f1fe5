"""Real processes, killed for real."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import optuna
import psutil
import pytest
from mlflow.tracking import MlflowClient

from sweeper.study.storage import counted
from tests.test_cli_run import QUICK, start, sweeper, wait_for

pytestmark = pytest.mark.slow


def workers_of(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """The training processes: children that hold the work, not multiprocessing's resource tracker."""
    return [c for c in psutil.Process(process.pid).children(recursive=True) if "spawn_main" in " ".join(c.cmdline())]


def states(folder: Path) -> tuple[list[optuna.trial.FrozenTrial], set[str]]:
    study = optuna.load_study(study_name="s", storage=f"sqlite:///{folder}/sweeper.db")
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    experiment = client.get_experiment_by_name("s")
    assert experiment is not None
    return study.trials, {r.info.status for r in client.search_runs([experiment.experiment_id], max_results=1000)}


def test_after_kill_9_of_the_whole_tree_a_resume_reaches_the_total(tmp_path: Path) -> None:
    process = start(tmp_path, "run", *QUICK, "--trials", "8", "--study", "s", "--workers", "2")
    wait_for(tmp_path, "[3/8]", process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(10)
    trials, _ = states(tmp_path)
    finished = {t.number: t.value for t in trials if t.state.is_finished()}
    assert len(finished) >= 3

    done = sweeper(tmp_path, "run", "--study", "s", "--resume")
    assert done.returncode == 0, done.stderr
    trials, statuses = states(tmp_path)
    assert sum(counted(t) for t in trials) == 8
    assert "RUNNING" not in {t.state.name for t in trials}
    assert "RUNNING" not in statuses
    assert {t.number: t.value for t in trials if t.number in finished} == finished  # nothing finished was lost


@pytest.mark.parametrize("words", ["lr 0.00557 seed 0:", "seed 1999:", "seed 1000:"], ids=["rates", "leaders", "look"])
def test_after_kill_9_amid_the_rechecks_or_a_look_a_resume_repeats_nothing(tmp_path: Path, words: str) -> None:
    process = start(tmp_path, "run", *QUICK, "--trials", "5", "--study", "s", "--workers", "2")
    wait_for(tmp_path, words, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(10)
    trials, _ = states(tmp_path)
    before = optuna.load_study(study_name="s", storage=f"sqlite:///{tmp_path}/sweeper.db").user_attrs

    done = sweeper(tmp_path, "run", "--study", "s", "--resume")
    assert done.returncode == 0, done.stderr
    after = optuna.load_study(study_name="s", storage=f"sqlite:///{tmp_path}/sweeper.db").user_attrs
    extra = [key for key in before if key.startswith(("recheck/", "confirm/"))]
    assert extra and all(after[key] == before[key] for key in extra)
    specs = [after[key]["spec"] for key in after if key.startswith(("recheck/", "confirm/"))]
    trained = [(s["purpose"], s["family"], s["lr"], s["seed"]) for s in specs]
    assert len(set(trained)) == len(trained)
    assert len({s["seed"] for s in specs if s["purpose"] == "confirm"}) == 2
    assert states(tmp_path)[1].isdisjoint({"RUNNING"})
    assert len(states(tmp_path)[0]) == len(trials)


def test_when_the_parent_alone_is_killed_its_workers_end_within_10_seconds(tmp_path: Path) -> None:
    process = start(tmp_path, "run", *QUICK, "--trials", "60", "--study", "s", "--workers", "2")
    wait_for(tmp_path, "[2/60]", process)
    workers = workers_of(process)
    assert len(workers) == 2
    process.kill()
    process.wait(10)
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert alive == []


def test_a_killed_worker_costs_an_attempt_and_not_the_sweep(tmp_path: Path) -> None:
    process = start(tmp_path, "run", *QUICK, "--trials", "6", "--study", "s", "--workers", "2")
    wait_for(tmp_path, "[1/6]", process)
    workers_of(process)[0].kill()
    deadline = time.monotonic() + 200
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.2)
    assert process.returncode == 0, (tmp_path / "err.txt").read_text()
    assert "worker killed by signal 9" in (tmp_path / "err.txt").read_text()
    trials, statuses = states(tmp_path)
    assert sum(counted(t) for t in trials) == 6
    assert "RUNNING" not in statuses
