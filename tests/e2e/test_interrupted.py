"""An interrupted study becomes the study that it would have been: killed between two writes, by signals, by workers."""

from __future__ import annotations

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from sweeper import storage as studies
from sweeper.storage.record_format import PLAN
from tests.cli.test_run import DATA, start, sweeper
from tests.support.marks import EXHAUSTIVE


def killed(folder: Path, kind: str, how: str, first: int, second: int) -> dict[str, Any]:
    """What tests/support/killing.py found."""
    command = [sys.executable, "-m", "tests.support.killing", str(folder / kind), kind, how, str(first), str(second)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.slow
@pytest.mark.parametrize("kills", [10, pytest.param(50, marks=EXHAUSTIVE)])
@pytest.mark.parametrize("kind", ["sweep", pytest.param("search", marks=EXHAUSTIVE)])
def test_kills_between_writes_change_nothing(tmp_path: Path, kind: str, kills: int) -> None:
    """A sweep is killed in each of its phases."""
    found = killed(tmp_path, kind, "random", 7, kills)
    assert found["killed"] == kills and found["differences"] == {}
    if kind == "sweep":
        assert found["phases"].keys() >= {"search", "confirm"}


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("kind", ["sweep", "search"])
def test_a_kill_between_any_two_writes_changes_nothing(tmp_path: Path, kind: str) -> None:
    found = killed(tmp_path, kind, "each", 1, 1)
    assert found["killed"] == found["writes"] > 100 and found["differences"] == {}


# --- real trainings, real signals ---

ONE = ["run", "--study", "s", "--workers", "1"]
FIRST = ["--data", DATA, "--steps", "4", "--size", "32", "--batch-size", "2", "--confirm-seeds", "2", "--device", "cpu"]
FIRST += ["--confirm-steps", "4", "--trials", "12"]
TIMES = {"seconds", "seconds_per_step", "mlflow_run_ids"}
NUMBERS = {"abandoned", "search_trial"}
"""What a worker's death changes: it leaves a record, which takes a trial's number."""


def said(folder: Path, but: set[str]) -> object:
    """The recommendation, without some of its keys."""

    def without(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: without(found) for key, found in value.items() if key not in but}
        return [without(found) for found in value] if isinstance(value, list) else value

    return without(json.loads((folder / "reports/s/recommendation.json").read_text("utf-8")))


def processes_below(process: subprocess.Popen[str]) -> tuple[list[psutil.Process], list[psutil.Process]]:
    """The process that workers are forked from, and the workers."""
    servers, workers = [], []
    with suppress(psutil.NoSuchProcess):
        for child in psutil.Process(process.pid).children(recursive=True):
            with suppress(psutil.NoSuchProcess):
                if "multiprocessing.forkserver" in " ".join(child.cmdline()):
                    (servers if child.ppid() == process.pid else workers).append(child)
    return servers, workers


def was_made(folder: Path) -> bool:
    """Whether there is a study to resume; one that was cut off while being made is removed."""
    if not (folder / "sweeper.db").exists():
        return False
    storage = studies.open_storage(f"sqlite:///{folder}/sweeper.db")
    made = any(PLAN in study.user_attrs for study in storage.get_all_studies())
    storage.engine.dispose()
    if not made:
        for path in folder.glob("*.db*"):
            path.unlink()
    return made


def ended_by_kills(folder: Path, rng: random.Random, kills: int) -> tuple[int, bool]:
    """One study to its end, killed `kills` times at most: how often, and whether a worker was among the victims."""
    process, log = start(folder, *ONE, *FIRST), folder / "err.txt"
    killed, workers_killed, told_then = 0, False, ""
    while True:
        time.sleep(rng.uniform(0, 6))
        told = log.read_text()
        if process.poll() is not None:
            if process.returncode == 0:
                return killed, workers_killed
            before_any_word = process.returncode == -signal.SIGTERM and not told  # while Python was loading
            assert before_any_word or process.returncode in {-signal.SIGKILL, 143}, told
            process, told_then = start(folder, *ONE, *(["--resume"] if was_made(folder) else FIRST)), ""
            continue
        if killed == kills:
            continue
        servers, workers = processes_below(process)
        victim = rng.choice(["parent", "parent", "signal", "server", "worker"])
        if victim == "worker" and workers and told.count("/12]") > told_then.count("/12]"):
            with suppress(psutil.NoSuchProcess):  # not twice under one training, which would fail
                workers[0].kill()
            told_then, workers_killed = told, True
        elif victim == "server" and servers:
            with suppress(psutil.NoSuchProcess):
                servers[0].kill()
        elif victim in {"parent", "signal"}:
            process.send_signal(signal.SIGKILL if victim == "parent" else signal.SIGTERM)
            process.wait(120)
            psutil.wait_procs(workers, timeout=60)
        else:
            continue
        killed += 1


@pytest.mark.slow
@pytest.mark.exhaustive
@pytest.mark.timeout(14400)
def test_a_sweep_killed_at_random_instants_ends_as_one_that_was_not(tmp_path: Path) -> None:
    """SIGKILL and SIGTERM of the sweep, SIGKILL of its worker and of the process that workers are forked from."""
    whole, cut, rng, killed = tmp_path / "whole", tmp_path / "cut", random.Random(11), 0
    whole.mkdir()
    done = sweeper(whole, *ONE, *FIRST, timeout=1800)
    assert done.returncode == 0, done.stderr
    while killed < 50:
        shutil.rmtree(cut, ignore_errors=True)
        cut.mkdir()
        more, workers = ended_by_kills(cut, rng, 50 - killed)
        killed += more
        but = TIMES | NUMBERS if workers else TIMES
        assert said(cut, but) == said(whole, but)
