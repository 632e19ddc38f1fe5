"""Nobody reads what is said: readers that go away, terminals that are closed, full devices, poor encodings."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from mlflow.tracking import MlflowClient

from sweeper.storage.record_format import WAITS
from tests.cli.test_run import QUICK
from tests.support import mlflow_template
from tests.support.folders import folder, mask
from tests.support.marks import rest_slow

FULL = Path("/dev/full")
needs_full = pytest.mark.skipif(not FULL.exists(), reason="/dev/full is Linux's")


def slow(test: Callable[[Path], None]) -> Callable[[Path], None]:
    """Mark a test that runs a sweep."""
    return pytest.mark.slow(pytest.mark.timeout(900)(test))


RUN = ["run", *QUICK, "--study", "s", "--workers", "1"]


STARTED: list[subprocess.Popen[bytes]] = []
PATIENCE = 800.0
"""Seconds; a busy machine takes minutes for what takes seconds."""


@pytest.fixture(autouse=True)
def nothing_left_running() -> Iterator[None]:
    yield
    for process in STARTED:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(60)
    STARTED.clear()


def launch(folder: Path, *arguments: str, out: Any, err: Any, **settings: Any) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "sweeper", *arguments]
    if arguments[0] == "run" and not (folder / "sweeper.db").exists():
        mlflow_template.lay(folder)
    # Where the tests themselves run under nohup, a child would inherit that SIGHUP is ignored.
    settings.setdefault("preexec_fn", lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL))
    process = subprocess.Popen(command, cwd=folder, stdout=out, stderr=err, start_new_session=True, **settings)
    STARTED.append(process)
    return process


def call(folder: Path, *arguments: str, **settings: Any) -> subprocess.CompletedProcess[str]:
    """Run a command to its end; streams are files in `folder` unless given."""
    with (folder / "out").open("w") as out, (folder / "err").open("w") as err:
        streams: dict[str, Any] = {"out": out, "err": err, **settings}
        process = launch(folder, *arguments, **streams)
        status = process.wait(PATIENCE)
    return subprocess.CompletedProcess(arguments, status, (folder / "out").read_text(), (folder / "err").read_text())


def begin(folder: Path, trials: str, **settings: Any) -> subprocess.Popen[bytes]:
    """A sweep whose first training was just stored."""
    with (folder / "err").open("w") as log:
        process = launch(folder, *RUN, "--trials", trials, out=log, err=log, **settings)
    until(lambda: f"[1/{trials}]" in (folder / "err").read_text(), process)
    return process


def counted(folder: Path) -> int:
    """Trainings of the search that the study holds to the end."""
    study = optuna.load_study(study_name="s", storage=f"sqlite:///{folder}/sweeper.db")
    return sum(trial.state.is_finished() for trial in study.trials)


def mlflow_statuses(folder: Path) -> set[str]:
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    experiment = client.get_experiment_by_name("s")
    assert experiment is not None
    return {run.info.status for run in client.search_runs([experiment.experiment_id])}


def until(met: Callable[[], bool], process: subprocess.Popen[Any]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not met():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)


# --- The log ---


@slow
@needs_full
def test_a_log_on_a_full_disk_costs_the_log_alone_also_in_a_poor_encoding(tmp_path: Path) -> None:
    with FULL.open("w") as full:
        done = call(tmp_path, *RUN, "--trials", "1", "-v", err=full, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0 and "\nFound: " in done.stdout  # whatever the verdict is
    assert counted(tmp_path) == 1


@slow
def test_sighup_is_as_sigterm(tmp_path: Path) -> None:
    process = begin(tmp_path, "60")
    os.killpg(process.pid, signal.SIGHUP)
    assert process.wait(PATIENCE) == 129
    assert "sweeper run --study s --resume" in (tmp_path / "err").read_text()
    assert_stopped_cleanly(tmp_path)


def assert_stopped_cleanly(folder: Path) -> None:
    study = optuna.load_study(study_name="s", storage=f"sqlite:///{folder}/sweeper.db")
    assert all(WAITS in trial.user_attrs for trial in study.trials if trial.state.name == "RUNNING")
    statuses = mlflow_statuses(folder)
    assert "RUNNING" not in statuses and "KILLED" in statuses


# --- The result ---


COMMANDS = [["losses"], ["losses", "--json"], ["spaces"], ["spaces", "binary"], ["cache"], ["--help"], ["doctor"]]


@needs_full
@pytest.mark.parametrize("arguments", rest_slow(COMMANDS, 2), ids=" ".join)
def test_every_command_says_that_its_result_was_not_taken(tmp_path: Path, arguments: list[str]) -> None:
    with FULL.open("w") as full:
        done = call(tmp_path, *arguments, out=full)
    assert done.returncode == 1
    assert done.stderr == "sweeper: standard output does not take the result: No space left on device\n"


def closed(number: int) -> Callable[[], None]:
    return lambda: os.close(number)


@pytest.mark.parametrize(("number", "status"), [(0, 0), (1, 1), (2, 0)])
def test_closed_streams_are_no_ones_files(tmp_path: Path, number: int, status: int) -> None:
    done = call(tmp_path, "spaces", preexec_fn=closed(number))
    assert done.returncode == status
    assert ("Bad file descriptor" in done.stderr) is (number == 1)


# --- Encodings ---


POOR = [
    {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    {"PYTHONIOENCODING": "latin-1"},
    {"PYTHONIOENCODING": "ascii"},
    {"LC_ALL": "C"},
]


@pytest.mark.parametrize("poor", rest_slow(POOR, 0, 1), ids=lambda poor: " ".join(f"{k}={v}" for k, v in poor.items()))
def test_a_poor_encoding_costs_signs_alone(tmp_path: Path, poor: dict[str, str]) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("LC_", "LANG", "PYTHONUTF8"))}
    for arguments in (["losses"], ["spaces"], ["profile", "synthetic:street?images=15&size=64"], ["doctor"]):
        with (tmp_path / "out").open("wb") as out, (tmp_path / "err").open("wb") as err:
            status = launch(tmp_path, *arguments, out=out, err=err, env={**environment, **poor}).wait(PATIENCE)
        said = (tmp_path / "err").read_bytes().decode("latin-1")
        assert "mistake" not in said and "Traceback" not in said, (arguments, said)
        assert status == 0 or arguments == ["doctor"], said


@pytest.mark.parametrize("poor", rest_slow(POOR[:3]), ids=lambda poor: " ".join(f"{k}={v}" for k, v in poor.items()))
def test_json_is_json_in_a_poor_encoding(tmp_path: Path, poor: dict[str, str]) -> None:
    """Class names with signs of one, two, three and four bytes."""
    names = ["wall", "fissür", "crack…", "🏃"]
    data = folder(tmp_path / "data", {c: mask(0, 1, 2, 3) for c in "abcd"}, classes="\n".join(names))
    done = call(tmp_path, "profile", str(data), "--json", env={**os.environ, **poor})
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "out").read_bytes())["dataset"]["classes"] == names


def test_no_command_writes_json_that_an_encoding_can_break() -> None:
    """What an encoding lacks is written as \\U0001f3c3, which JSON does not know: escapes of its own are safe."""
    for path in sorted((Path(__file__).parents[2] / "sweeper" / "cli").glob("*.py")):
        assert "ensure_ascii=False" not in path.read_text("utf-8"), path
