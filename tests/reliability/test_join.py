"""Real processes that share a study through its database, on SQLite and on PostgreSQL."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from sweeper import storage as studies
from tests.test_cli_run import QUICK, start, sweeper, wait_for

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
LEAD = [*QUICK, "--trials", "10", "--study", "s", "--workers", "1"]
JOIN = ["--study", "s", "--join", "--workers", "1", "--device", "cpu"]


def folder(tmp_path: Path, name: str) -> Path:
    """A working folder of its own, as on another machine."""
    made = tmp_path / name
    made.mkdir()
    return made


def ended(process: subprocess.Popen[str], where: Path) -> str:
    """Its status must be 0; what it said."""
    assert process.wait(600) == 0, (where / "err.txt").read_text()
    return (where / "err.txt").read_text()


def together(here: Path, there: Path, url: str) -> tuple[subprocess.Popen[str], subprocess.Popen[str]]:
    """A leader and a joiner at work. The joiner begins: on a busy machine the leader can end before it has loaded."""
    joiner = start(there, "run", *JOIN, "--storage", url)
    wait_for(there, "for it to be made", joiner, 400)
    leader = start(here, "run", *LEAD, "--storage", url)
    wait_for(here, "joined for 1 training at a time", leader, 400)
    return leader, joiner


def check(url: str, trials: int) -> None:
    """Exactly so many trials counted, and every training is there once."""
    storage = studies.open_storage(url, create=False)
    study = studies.load_study(storage, "s")
    assert sum(studies.counted(trial) for trial in study.trials) == trials
    assert {trial.state.name for trial in study.trials}.isdisjoint({"RUNNING", "WAITING"})
    extra = [r.spec for purpose in ("recheck", "confirm") for r in studies.extra_results(study, purpose)]
    assert extra and len({(s.purpose, s.family, s.lr, s.seed) for s in extra}) == len(extra)
    assert studies.study_names(storage) == ["s"]


@pytest.mark.exhaustive
@pytest.mark.parametrize("url", ["sqlite", "postgresql"], indirect=True)
def test_two_processes_share_a_study(url: str, tmp_path: Path) -> None:
    here, there = folder(tmp_path, "here"), folder(tmp_path, "there")
    leader, joiner = together(here, there, url)
    second = sweeper(there, "run", "--study", "s", "--resume", "--storage", url)
    refused = (second.returncode, "being run by another process" in second.stderr) == (2, True)
    assert refused or leader.poll() == 0  # on a busy machine the leader may have ended before the second began
    ended(leader, here)
    said = ended(joiner, there)
    assert "the study is concluded" in said and " 0 trainings" not in said
    check(url, 10)


@pytest.mark.parametrize("url", [pytest.param("sqlite", marks=pytest.mark.exhaustive), "postgresql"], indirect=True)
def test_a_leader_killed_is_followed_by_another_and_the_joined_stay(url: str, tmp_path: Path) -> None:
    here, there, next_ = (folder(tmp_path, name) for name in ("here", "there", "next"))
    leader, joiner = together(here, there, url)
    wait_for(there, "working for the run", joiner, 400)
    os.killpg(leader.pid, signal.SIGKILL)
    leader.wait(10)
    again = start(next_, "run", "--study", "s", "--resume", "--workers", "1", "--storage", url)
    ended(again, next_)
    assert "the study is concluded" in ended(joiner, there)
    check(url, 10)


@pytest.mark.exhaustive
def test_one_that_is_told_to_go_gives_its_training_back(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/shared.db"
    here, there = folder(tmp_path, "here"), folder(tmp_path, "there")
    leader, joiner = together(here, there, url)
    joiner.terminate()
    assert joiner.wait(60) == 143
    said = ended(leader, here)
    assert " left" in said and "not heard of" not in said
    check(url, 10)


def test_what_the_study_decides_cannot_be_given_with_join(tmp_path: Path) -> None:
    refused = sweeper(tmp_path, "run", "--join", "--study", "s", "--trials", "3", "--steps", "5")
    assert (refused.returncode, "leave out --trials, --steps" in refused.stderr) == (2, True)
    refused = sweeper(tmp_path, "run", "--join")
    assert (refused.returncode, "--join needs --study" in refused.stderr) == (2, True)
