"""No file of the working folder is imported unasked, whatever its name."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sweeper import storage as studies
from sweeper.executors.start_process import LaunchedProcess
from tests.cli.test_run import QUICK, sweeper
from tests.support import hostile_modules
from tests.support.faking import FakeExecutor, fake_result, new_plan, train
from tests.support.marks import rest_slow

START = """
import multiprocessing
from operator import methodcaller
from sweeper.executors.start_process import LaunchedProcess

multiprocessing.current_process()._config["daemon"] = True  # as in a worker of multiprocessing.Pool
for method in ("forkserver", "spawn"):
    started = LaunchedProcess(methodcaller("send", method), (), method)
    print(started.pipe.recv())
    started.end_process()
"""

INTERRUPTED = """
import os, signal, time
from multiprocessing import forkserver
from operator import methodcaller
from sweeper.executors.start_process import LaunchedProcess, begin_loading

signal.signal(signal.SIGINT, lambda *_: None)
begin_loading()
server = forkserver._forkserver._forkserver_pid
for _ in range(20):
    os.kill(server, signal.SIGINT)
    time.sleep(0.05)
for method in ("forkserver", "spawn"):
    started = LaunchedProcess(methodcaller("send", method), (), method)
    os.kill(started.process.pid, signal.SIGINT)
    print(started.pipe.recv())
    started.end_process()
print(forkserver._forkserver._forkserver_pid == server)
"""


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    hostile_modules.write_modules(folder)
    return folder


def test_no_process_is_started_on_modules_of_the_working_folder(tmp_path: Path, data: Path) -> None:
    command = [sys.executable, hostile_modules.write_console_script(tmp_path, START)]
    done = subprocess.run(command, cwd=data, capture_output=True, text=True, timeout=200, check=False)
    assert done.stdout.split() == ["forkserver", "spawn"], done.stderr
    assert hostile_modules.list_imported(data) == []


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="there is no fork server")
def test_ctrl_c_does_not_end_processes_that_still_load_their_libraries(tmp_path: Path) -> None:
    command = [sys.executable, hostile_modules.write_console_script(tmp_path, INTERRUPTED)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=200, check=False)
    assert done.stderr == ""
    assert done.stdout.split() == ["forkserver", "spawn", "True"]


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("executor", rest_slow(["processes", "ray"], 1, 0))
def test_no_command_imports_modules_of_the_working_folder(
    tmp_path: Path, data: Path, executor: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if executor == "ray":
        pytest.importorskip("ray")
        monkeypatch.setenv("RAY_ADDRESS", "local")
    program = [hostile_modules.write_console_script(tmp_path)]
    plan = new_plan()
    study = studies.create_study(studies.open_storage(f"sqlite:///{data}/sweeper.db"), "invented", plan)
    train(study, FakeExecutor(fake_result), plan=plan)
    for words in (
        ["run", *QUICK, "--study", "s", "--trials", "1", "--workers", "1"],
        ["doctor", "--device", "cpu"],
        ["export", "invented", "--out", "network"],
    ):
        done = sweeper(data, *words, program=program, timeout=600)
        assert done.returncode == 0 or words[0] == "doctor", done.stderr
        assert hostile_modules.list_imported(data) == []


@pytest.mark.slow
def test_python_m_sweeper_removes_the_working_folder_from_its_path(tmp_path: Path) -> None:
    """Python itself puts it there, and imports modules of its own before ours is run."""
    hostile_modules.write_modules(tmp_path, hostile_modules.OTHERS)
    done = sweeper(tmp_path, "studies")
    assert "there is no file" in done.stderr or done.returncode == 0, done.stderr
    assert hostile_modules.list_imported(tmp_path) == []


@pytest.mark.parametrize(
    ("code", "text"),
    [
        (-9, "worker killed by signal 9 (out of memory?)"),
        (-11, "worker killed by signal 11 (segmentation fault)"),
        (-12, "worker killed by signal 12 (user defined signal 2)"),
        (3, "worker ended with status 3"),
    ],
)
def test_the_end_of_a_worker_is_explained(code: int, text: str) -> None:
    class Ended:
        exitcode = code

        def join(self, _: float) -> None:
            pass

    worker = LaunchedProcess.__new__(LaunchedProcess)
    worker.process = Ended()  # type: ignore[assignment]
    assert worker.explain_end() == text
