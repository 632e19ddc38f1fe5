"""Disks that are too small before a sweep, or full during it."""

from __future__ import annotations

import os
import resource
import shutil
import sqlite3
import subprocess
import sys
from collections import namedtuple
from contextlib import closing
from pathlib import Path

import optuna
import pytest

from sweeper.core.errors import UsageError
from sweeper.storage.results import is_counted
from sweeper.system import machine as room
from sweeper.system.machine import MB, check_room, get_file_system, keep_within_room
from tests.cli.test_run import HURRIED, SHORT, sweeper
from tests.support.folders import folder as write_folder
from tests.support.sweeping import Recorder, run_small_sweep

Usage = namedtuple("Usage", ["total", "used", "free"])


def set_free_space(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**12, 0, free))


def test_checkpoints_of_the_last_in_line_are_deleted_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = [tmp_path / f"{n}.pt" for n in range(6)]
    for path in files[1:]:
        path.write_bytes(bytes(1000))
    set_free_space(monkeypatch, 15_000)
    assert keep_within_room(files) == []  # 5,000 bytes of 20,000
    set_free_space(monkeypatch, 3_000)
    assert keep_within_room(files) == files[3:]  # 2,000 of 8,000
    assert [path.exists() for path in files] == [False, True, True, False, False, False]
    assert keep_within_room(files[:1]) == []


def test_too_little_room_is_refused_with_the_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_free_space(monkeypatch, 160 * MB)
    check_room("the report", tmp_path / "not" / "there", 60 * MB)
    set_free_space(monkeypatch, 159 * MB)
    with pytest.raises(UsageError, match=r"the disk of the report, .*/there, must have 160 MB free, got 159") as caught:
        check_room("the report", tmp_path / "not" / "there", 60 * MB)
    assert "nothing was trained" in str(caught.value)


def test_a_sweep_without_disk_space_ends_before_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_free_space(monkeypatch, 450 * MB)
    display = Recorder()
    with pytest.raises(UsageError, match="must have 500 MB free, got 450 MB"):
        run_small_sweep(tmp_path, display)
    assert display.results == []
    names = [s.study_name for s in optuna.get_all_study_summaries(f"sqlite:///{tmp_path}/sweeper.db")]
    assert names == []


def is_whole(path: Path) -> bool:
    with closing(sqlite3.connect(path)) as connection:
        return bool(connection.execute("PRAGMA integrity_check").fetchone()[0] == "ok")


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_a_disk_that_fills_up_during_a_sweep_ends_it_and_a_resume_completes_it(tmp_path: Path) -> None:
    """Files may not grow beyond a limit in the sweep's processes, whose writes beyond it fail as on a full disk."""
    assert sweeper(tmp_path, "run", *SHORT, "--trials", "1", "--study", "first", timeout=900).returncode == 0
    limit = (tmp_path / "sweeper.db").stat().st_size + 100_000  # MLflow's file is larger, and may fail besides

    def limit_files() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    command = [sys.executable, *HURRIED, "run", *SHORT, "--trials", "60", "--study", "s", "--workers", "1"]
    done = subprocess.run(
        command, cwd=tmp_path, preexec_fn=limit_files, capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 1, done.stderr
    assert "this machine allows no more: " in done.stderr and "ulimit -a" in done.stderr
    assert "--resume" in done.stderr and "Traceback" not in done.stderr
    assert is_whole(tmp_path / "sweeper.db") and is_whole(tmp_path / "mlflow.db")
    before = optuna.load_study(study_name="s", storage=f"sqlite:///{tmp_path}/sweeper.db").trials
    values = {t.number: t.value for t in before if is_counted(t)}
    total = sum(t.state.name != "WAITING" for t in before) + 2  # those that wait at a rung are on their way
    again = sweeper(tmp_path, "run", "--study", "s", "--resume", "--trials", str(total), timeout=900)
    assert again.returncode == 0, again.stderr
    after = optuna.load_study(study_name="s", storage=f"sqlite:///{tmp_path}/sweeper.db").trials
    assert {t.number: t.value for t in after if t.number in values} == values
    assert sum(is_counted(t) for t in after) == total
    assert not [t for t in after if t.state.name == "RUNNING"]


def test_too_little_space_for_decoded_images_is_refused_before_decoding(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sweeper.data import load_dataset

    folder = write_folder(tmp_path / "data")
    set_free_space(monkeypatch, room.SPARE - 1)
    with pytest.raises(UsageError, match="the disk of the decoded images"):
        load_dataset(str(folder), tmp_path / "cache")
    assert not os.path.exists(tmp_path / "cache") or not any((tmp_path / "cache").iterdir())  # noqa: PTH110


def test_sqlite_on_a_network_file_system_is_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"sqlite:///{tmp_path}/s.db"
    monkeypatch.setattr(room, "get_file_system", lambda _: "ext4")
    assert room.warn_unsafe_for_sqlite(url) is None
    monkeypatch.setattr(room, "get_file_system", lambda _: "nfs4")
    assert "network file system (nfs4)" in str(room.warn_unsafe_for_sqlite(url))
    assert room.warn_unsafe_for_sqlite("postgresql://host/db") is None


def test_the_file_system_of_a_path_is_that_of_its_nearest_mount(tmp_path: Path) -> None:
    inner = tmp_path / "a b"
    inner.mkdir()
    escaped = str(inner).replace(" ", "\\040")
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/x / ext4 rw 0 0\nhost:/e {escaped} nfs4 rw 0 0\ntmpfs /run tmpfs rw 0 0\n")
    assert get_file_system(inner / "not" / "there.db", mounts) == "nfs4"
    assert get_file_system(tmp_path / "x.db", mounts) == "ext4"
    assert get_file_system(inner, tmp_path / "none") is None
