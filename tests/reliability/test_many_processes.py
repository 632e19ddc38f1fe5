"""Sixteen processes at one database: none dies, nothing is lost, every number is there once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sweeper import storage as studies
from tests.postgres_server import Server
from tests.reliability.many import STUDY, new_plan

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
PROCESSES, TRIALS, STARTS, QUEUED = 16, 30, 10, 160
ROOT = Path(__file__).resolve().parent.parent.parent


def all_at_once(url: str, trials: int) -> list[set[int]]:
    """Let the processes loose at one moment; the numbers of the trials that each finished."""
    command = [sys.executable, "-m", "tests.reliability.many", url, str(PROCESSES), str(trials)]
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert (run.returncode, run.stderr) == (0, "")
    return [{int(number) for number in line.split()} for line in run.stdout.splitlines()]


@pytest.fixture(params=[pytest.param("sqlite", marks=pytest.mark.exhaustive), "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path, postgres: Server) -> str:
    """An address where nothing is yet."""
    return f"sqlite:///{tmp_path}/study.db" if request.param == "sqlite" else postgres.fresh()


@pytest.mark.exhaustive
def test_sixteen_processes_finish_480_trials(url: str) -> None:
    told = all_at_once(url, TRIALS)
    assert [len(numbers) for numbers in told] == [TRIALS] * PROCESSES
    study = studies.load_study(studies.open_storage(url), STUDY)
    trials = study.get_trials(deepcopy=False)
    assert [trial.number for trial in trials] == list(range(PROCESSES * TRIALS))
    assert all(studies.counted(trial) for trial in trials)
    assert set().union(*told) == {result.spec.number for result in studies.search_results(study)}


@pytest.mark.exhaustive
def test_sixteen_cold_starts_at_once_all_live(tmp_path: Path, postgres: Server) -> None:
    for number in range(STARTS):
        assert len(all_at_once(f"sqlite:///{tmp_path}/cold{number}.db", 0)) == PROCESSES
        assert len(all_at_once(postgres.fresh(), 0)) == PROCESSES


def test_a_queue_gives_each_waiting_trial_to_one_process_alone(url: str) -> None:
    study = studies.create_study(studies.open_storage(url), STUDY, new_plan())
    for number in range(QUEUED):
        study.enqueue_trial({"loss": "dice", "dice.lr": 1e-3 * (1 + number / 1000)})
    told = all_at_once(url, QUEUED // PROCESSES)
    assert sorted(number for numbers in told for number in numbers) == list(range(QUEUED))
