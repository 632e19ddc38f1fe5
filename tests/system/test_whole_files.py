"""Partial files are deleted: by a command that a signal ends, and a day after a process was killed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from sweeper.core.errors import InterruptedSweepError
from sweeper.data import load_dataset
from sweeper.system.whole_files import DAY, load_record, remove_left, replace_atomically, save_record
from sweeper.workflow.lead import _delete_partial_checkpoints
from sweeper.workflow.machine_choice import StepTimes
from tests.support.damage import DAMAGE
from tests.support.waiting import wait_until


def set_age(path: Path, seconds: float) -> None:
    for one in (*path.rglob("*"), path):
        os.utime(one, (time.time() - seconds,) * 2)


def test_a_file_is_replaced_completely_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / ("n" * 250)
    with replace_atomically(path) as part:
        part.write_text("one")
        assert not path.exists()
    with pytest.raises(KeyboardInterrupt), replace_atomically(path) as part:
        part.write_text("two")
        raise KeyboardInterrupt
    assert path.read_text() == "one" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_record_is_refused_and_replaced(tmp_path: Path, kind: str) -> None:
    path, record = tmp_path / "record.json", StepTimes(seconds={"x": {"float32": 0.5}})
    DAMAGE[kind](path)
    with pytest.raises((OSError, ValueError)):
        load_record(path, StepTimes)
    save_record(path, record)
    assert load_record(path, StepTimes) == record and list(tmp_path.iterdir()) == [path]


def test_only_old_partial_files_of_sweeper_are_removed(tmp_path: Path) -> None:
    names = (".sweeper-1.part", ".sweeper-2.part-journal", ".sweeper-young.part", "a.part", ".sweeper-x")
    for name in names:
        (tmp_path / name).write_text("x")
        set_age(tmp_path / name, 0 if "young" in name else 2 * DAY)
    (tmp_path / "folder").symlink_to(tmp_path)
    remove_left(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*names[2:], "folder"])
    remove_left(tmp_path, seconds=0)
    assert not (tmp_path / names[2]).exists()
    remove_left(tmp_path / "missing")


def test_partial_checkpoints_of_killed_workers_are_deleted_at_start_and_end(tmp_path: Path) -> None:
    checkpoints, weights = tmp_path / "checkpoints" / "s", tmp_path / "weights" / "s"
    for folder in (checkpoints, weights):
        folder.mkdir(parents=True)
        (folder / ".sweeper-1.part").write_text("x")
    (checkpoints / "search-00001.pt").write_text("waits")
    with pytest.raises(InterruptedSweepError), _delete_partial_checkpoints(checkpoints):
        assert [path.name for path in checkpoints.iterdir()] == ["search-00001.pt"]
        assert list(weights.iterdir())  # another machine may be at it
        (checkpoints / ".sweeper-2.part").write_text("a worker was killed")
        raise InterruptedSweepError("stopped", 129)
    assert [path.name for path in checkpoints.iterdir()] == ["search-00001.pt"]


def test_a_start_removes_the_old_partial_store_of_a_killed_process(tmp_path: Path) -> None:
    dataset = load_dataset("synthetic:cracks?images=3&size=64", tmp_path)
    for name in (".writing-old", ".writing-now"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "images.bin").write_text("x")
        set_age(tmp_path / name, 2 * DAY)
    (tmp_path / ".writing-now" / "images.bin").write_text("still at it")
    maps = Path(dataset.store) / "distance-1-1-1"
    maps.mkdir()
    for folder in (tmp_path / "sources", maps):
        (folder / ".sweeper-old.part").write_text("x")
        set_age(folder, 2 * DAY)
    load_dataset("synthetic:cracks?images=3&size=64", tmp_path)
    assert [path.name for path in tmp_path.glob(".*ing-*")] == [".writing-now"]
    assert not list(tmp_path.rglob("*.part"))


@pytest.mark.parametrize("opened", [0, 1, 2])
def test_a_signal_while_a_store_is_begun_leaves_no_partial_files(opened: int, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path\nfrom sweeper.data.store import StoreWriter\nmade, make = [], Path.open\n"
        "def interrupt(*words):\n    made.append(words)\n    assert len(made) <= int(sys.argv[1]), 'interrupted'\n"
        "    return make(*words)\nPath.open = interrupt\nwriter = StoreWriter(Path('cache'), 3)\n"
        "assert list(Path('cache').iterdir())\nraise AssertionError('interrupted')"
    )
    done = subprocess.run([sys.executable, "-c", code, str(opened)], stderr=subprocess.PIPE, cwd=tmp_path, check=False)
    assert b"interrupted" in done.stderr and not list((tmp_path / "cache").iterdir())


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM, signal.SIGINT])
@pytest.mark.slow
def test_a_signal_that_ends_a_command_leaves_no_partial_files(number: signal.Signals, tmp_path: Path) -> None:
    words = ["profile", "synthetic:cracks?images=20000&size=64"]
    process = subprocess.Popen(
        [sys.executable, "-m", "sweeper", *words],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        # nohup, and a shell for what it starts by &, leave it ignored.
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),  # noqa: PLW1509
    )
    wait_until(lambda: list(tmp_path.glob(".sweeper/cache/.writing-*/images.bin")), 120, process)
    process.send_signal(number)
    out, err = process.communicate(timeout=120)
    assert process.returncode == 128 + number and out == ""
    assert err.rstrip().endswith("sweeper: stopped") and "Traceback" not in err
    assert not [path for path in tmp_path.rglob("*") if path.name.startswith((".writing-", ".sweeper-"))]


def test_sighup_is_ignored_under_nohup(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN)\nfrom sweeper.cli.signals import "
        "end_like_ctrl_c\nwith end_like_ctrl_c(): os.kill(os.getpid(), signal.SIGHUP); print('continued')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout == "continued\n"
