"""Real processes, killed for real."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import optuna
import psutil
import pytest
from mlflow.tracking import MlflowClient

from sweeper.storage.results import is_counted, list_present_trials
from tests.cli.test_run import QUICK, SHORT, start, sweeper, wait_for
from tests.support.marks import rest_slow
from tests.support.mlflow_server import Server
from tests.support.proxy import Proxy

pytestmark = pytest.mark.slow


def list_forked(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Return the process that loaded the libraries and what was forked from it, whether that still lives or not."""
    processes = []
    for number in psutil.pids():
        with suppress(psutil.NoSuchProcess, ProcessLookupError):  # one that ended meanwhile
            other = psutil.Process(number)
            if os.getsid(number) == process.pid and other.status() != psutil.STATUS_ZOMBIE:
                words = " ".join(other.cmdline())
                if "multiprocessing.forkserver" in words or "multiprocessing.spawn" in words:
                    processes.append(other)
    return processes


def list_servers(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Return the process that workers are forked from; none while it is restarted."""
    servers = []
    for other in list_forked(process):
        with suppress(psutil.NoSuchProcess):
            if other.ppid() == process.pid and "multiprocessing.forkserver" in " ".join(other.cmdline()):
                servers.append(other)
    return servers


def list_workers(process: subprocess.Popen[str]) -> list[psutil.Process]:
    """Return the training processes."""
    server = list_servers(process)
    return [other for other in list_forked(process) if other not in server]


def read_states(folder: Path) -> tuple[list[optuna.trial.FrozenTrial], set[str]]:
    study = optuna.load_study(study_name="s", storage=f"sqlite:///{folder}/sweeper.db")
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    experiment = client.get_experiment_by_name("s")
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    return list_present_trials(study), {run.info.status for run in runs}


def test_workers_end_after_their_parent_and_server_are_killed(tmp_path: Path) -> None:
    process = start(tmp_path, "run", *QUICK, "--trials", "60", "--study", "s", "--workers", "2")
    wait_for(tmp_path, "[2/60]", process)
    workers = list_workers(process)
    assert len(workers) == 2
    (server,) = list_servers(process)
    server.kill()
    process.kill()
    process.wait(10)
    _, alive = psutil.wait_procs(workers, timeout=10)
    assert alive == []


def read_values(folder: Path) -> dict[int, float]:
    """Return the value of each trial that was trained to its end, by number."""
    return {t.number: t.value for t in read_states(folder)[0] if is_counted(t) and t.value is not None}


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("kills", [6, pytest.param(50, marks=pytest.mark.exhaustive)])
def test_random_kills_lose_and_repeat_no_training(tmp_path: Path, kills: int) -> None:
    """Kill -9 of a worker, of the process that workers are forked from, of both, or of the parent and then a resume."""
    rng, trials = random.Random(7), 12
    arguments = ["run", "--study", "s", "--workers", "2"]
    first = [*SHORT, "--trials", str(trials)]
    process = start(tmp_path, *arguments, *first)
    wait_for(tmp_path, f"[1/{trials}]", process, 300)
    stored_before: dict[int, float] = {}
    extra: dict[str, object] = {}
    done = 0
    while done < kills:
        while done % 3 == 2 and process.poll() is None and not read_values(tmp_path):
            time.sleep(0.5)  # the parent is killed where there is something to lose
        time.sleep(rng.uniform(0, 4))
        if process.poll() is not None:
            assert process.returncode in {0, -signal.SIGKILL}, (tmp_path / "err.txt").read_text()
            trials += 2 * (process.returncode == 0)  # asked for each time: a kill may come before it is noted
            process = start(tmp_path, *arguments, "--resume", "--trials", str(trials))
            continue
        workers = list_workers(process)
        if workers and done % 3 != 2:  # drawn, six kills may all spare the parent
            worker, server = [rng.choice(workers)], list_servers(process)
            for victim in rng.choice([worker, server, worker + server, server + worker]):
                with suppress(psutil.NoSuchProcess):
                    victim.kill()
        else:
            process.kill()
            process.wait(10)
            psutil.wait_procs(workers, timeout=10)
            stored = read_values(tmp_path)
            # No finished training is lost or changed.
            assert {n: v for n, v in stored.items() if n in stored_before} == stored_before
            attributes = optuna.load_study(study_name="s", storage=f"sqlite:///{tmp_path}/sweeper.db").user_attrs
            assert all(attributes[key] == value for key, value in extra.items())
            stored_before = stored
            extra = {k: v for k, v in attributes.items() if k.startswith(("rate/", "confirm/"))}
        done += 1
    assert stored_before
    process.kill()
    process.wait(10)
    last = sweeper(tmp_path, *arguments, "--resume", "--trials", str(trials), timeout=1800)
    assert last.returncode == 0, last.stderr
    present, statuses = read_states(tmp_path)
    assert sum(is_counted(t) for t in present) == trials
    assert {t.state.name for t in present}.isdisjoint({"RUNNING", "WAITING"})
    assert "RUNNING" not in statuses and "SCHEDULED" not in statuses
    numbers = [t.number for t in present if is_counted(t)]
    assert len(set(numbers)) == len(numbers)
    configurations = [tuple(sorted(t.params.items())) for t in present if is_counted(t)]
    assert len(set(configurations)) == len(configurations)  # none was trained to its end twice
    attributes = optuna.load_study(study_name="s", storage=f"sqlite:///{tmp_path}/sweeper.db").user_attrs
    specs = [v["spec"] for k, v in attributes.items() if k.startswith(("rate/", "confirm/")) and v["state"] != "failed"]
    trained = [(s["purpose"], s["family"], str(s["params"]), s["lr"], s["seed"], s["steps"]) for s in specs]
    assert len(set(trained)) == len(trained)


@pytest.mark.parametrize(
    ("sent", "status"), rest_slow([(signal.SIGHUP, 129), (signal.SIGINT, 130), (signal.SIGTERM, 143)], 0, 1)
)
def test_a_signal_ends_the_sweep_and_keeps_its_trainings(tmp_path: Path, sent: int, status: int) -> None:
    """It reaches all processes, as Ctrl-C and a terminal that is closed do."""
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)  # where nohup has it ignored, a child would inherit that
    process = start(tmp_path, "run", *QUICK, "--trials", "60", "--study", "s", "--workers", "2")
    signal.signal(signal.SIGHUP, before)
    wait_for(tmp_path, "[2/60]", process, 300)
    workers = list_workers(process)
    os.killpg(process.pid, sent)
    assert process.wait(30) == status  # 10 s on an idle machine
    text = (tmp_path / "err.txt").read_text()
    assert "stopping: what is finished is kept" in text
    assert text.splitlines()[-1].startswith("sweeper run --study s --resume")
    assert "Traceback" not in text
    assert psutil.wait_procs(workers, timeout=10)[1] == []
    trials, statuses = read_states(tmp_path)
    assert "RUNNING" not in statuses
    assert any(is_counted(t) or "waits" in t.user_attrs for t in trials)  # trained, or waiting at a rung
    assert "RUNNING" not in {t.state.name for t in trials if "waits" not in t.user_attrs}


def test_sigterm_ends_a_sweep_whose_mlflow_server_is_silent(tmp_path: Path) -> None:
    server = Server(tmp_path)
    server.start()
    proxy = Proxy(("127.0.0.1", server.port))
    uri = f"http://127.0.0.1:{proxy.port}"
    process = start(tmp_path, "run", *QUICK, "--trials", "60", "--study", "s", "--workers", "1", "--tracking-uri", uri)
    wait_for(tmp_path, "[1/60]", process, 300)
    proxy.silent()
    time.sleep(3)
    process.send_signal(signal.SIGTERM)
    try:
        assert process.wait(60) == 143
        assert "sweeper run --study s --resume" in (tmp_path / "err.txt").read_text()  # it ended by itself
    finally:
        proxy.close()
        server.kill()
