"""Available cores and memory, and how many threads trainings use."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import closing
from pathlib import Path

import psutil
import pytest

from sweeper.executors import start_process as launch
from sweeper.executors.processes import ProcessBackend
from sweeper.system.machine import count_available_cores, get_processor_name, read_cpu_quota, read_requested_threads
from tests.support.marks import rest_slow
from tests.support.waiting import wait_until


def write_group(folder: Path, **files: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text + "\n")


@pytest.mark.parametrize(
    ("inner", "outer", "quota"),
    [("max 100000", "max 100000", None), ("150000 100000", "max 100000", 1.5), ("max 100000", "50000 100000", 0.5)],
)
def test_the_quota_is_the_smallest_of_a_control_group_and_its_parents(
    tmp_path: Path, inner: str, outer: str, quota: float | None
) -> None:
    membership = tmp_path / "cgroup"
    membership.write_text("0::/jobs/one\n")
    write_group(tmp_path / "fs" / "jobs", cpu__max=outer)
    write_group(tmp_path / "fs" / "jobs" / "one", cpu__max=inner)
    assert read_cpu_quota(tmp_path / "fs", membership) == quota


def test_the_quota_without_control_groups_is_none(tmp_path: Path) -> None:
    assert read_cpu_quota(tmp_path, tmp_path / "missing") is None
    assert count_available_cores() >= 1


def test_cores_are_limited_by_affinity_and_quota(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    for quota, cores in ((None, 8), (2.5, 2), (0.3, 1), (64.0, 8)):
        monkeypatch.setattr("sweeper.system.machine.read_cpu_quota", lambda value=quota: value)
        assert count_available_cores() == cores


@pytest.mark.parametrize(
    ("text", "workers", "threads"),
    [(None, 4, 1), ("1", 4, 1), ("2", 2, 2), (" 2 , 1", 2, 2), ("16", 1, 16), ("0", 4, 1), ("many", 4, 1)],
)
def test_the_user_sets_the_number_of_threads(
    monkeypatch: pytest.MonkeyPatch, text: str | None, workers: int, threads: int
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if text is not None:
        monkeypatch.setenv("OMP_NUM_THREADS", text)
    with closing(ProcessBackend("cpu", None, 4, print)) as backend:
        assert (backend.workers, backend.threads) == (workers, threads)
    with closing(ProcessBackend("cpu", 1, 4, print)) as backend:
        assert backend.threads == (read_requested_threads() or 4)


@pytest.mark.skipif(sys.platform != "linux", reason="workers are forked only on Linux")
@pytest.mark.parametrize("settings", rest_slow([{}, {"OMP_WAIT_POLICY": "ACTIVE"}, {"GOMP_SPINCOUNT": "1000"}]))
def test_waiting_threads_of_workers_sleep_unless_the_user_sets_otherwise(
    monkeypatch: pytest.MonkeyPatch, settings: dict[str, str]
) -> None:
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME"):
        monkeypatch.delenv(name, raising=False)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    before = dict(os.environ)
    launch.forkserver.ensure_running()
    os.kill(launch.forkserver._forkserver._forkserver_pid, signal.SIGKILL)  # type: ignore[attr-defined]
    os.waitid(os.P_PID, launch.forkserver._forkserver._forkserver_pid, os.WEXITED | os.WNOWAIT)  # type: ignore[attr-defined]
    assert launch.begin_loading() == "forkserver"
    server = psutil.Process(launch.forkserver._forkserver._forkserver_pid)  # type: ignore[attr-defined]
    wait_until(server.environ)  # it is just replacing its program
    assert server.environ().get("OMP_WAIT_POLICY") == settings.get("OMP_WAIT_POLICY", None if settings else "PASSIVE")
    assert dict(os.environ) == before


def test_the_name_of_a_processor_includes_its_flags(tmp_path: Path) -> None:
    text = "processor\t: 0\nmodel name\t: Xeon\nflags\t\t: avx512_bf16{}\n\nprocessor\t: 1\n"
    names = []
    for number, more in enumerate(["", " amx_bf16"]):
        path = tmp_path / str(number)
        path.write_text(text.format(more), "utf-8")
        names.append(get_processor_name(path))
    assert len(set(names)) == 2 and all(name.startswith("Xeon ") for name in names)
    assert get_processor_name(tmp_path / "none")
