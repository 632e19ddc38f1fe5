"""Sixteen processes at one database, each with its study: none dies, nothing is lost.

The real storage, sampler and space, with trainings of a moment. As a program, with an address, the processes and the
trials of each, it is these processes, forked from one that has imported everything, so that they begin within
milliseconds of each other.
"""

from __future__ import annotations

import multiprocessing
import random
import subprocess
import sys
import time
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from sweeper import storage as studies
from sweeper.core.records import TrialSpec
from sweeper.space import load_space, suggest
from sweeper.storage.record_format import RESULT
from tests.support import builders
from tests.support.faking import new_plan
from tests.support.postgres_server import Server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
PROCESSES, TRIALS = 16, 10
ROOT = Path(__file__).resolve().parents[2]
STUDY = "many"
SPACE = load_space("binary", "binary")


def work(url: str, number: int, trials: int, barrier: Barrier) -> None:
    """Open (or make) the database, make a study, and finish so many trials of it."""
    barrier.wait()
    study = studies.create_study(studies.open_storage(url), f"{STUDY}-{number}", new_plan())
    draw = random.Random(number)
    for _ in range(trials):
        trial = study.ask()
        choice = suggest(trial, SPACE, 60.0)
        value = 0.5 + draw.uniform(0, 0.2)
        for step in (25, 50, 75, 100):
            trial.report(value * step / 100, step)
        time.sleep(draw.uniform(0, 0.005))
        spec = TrialSpec(
            purpose="search",
            number=trial.number,
            family=choice.family,
            params=choice.params,
            lr=choice.lr,
            seed=0,
            steps=100,
        )
        result = builders.trial(choice.family, value, trial.number, spec=spec)
        trial.set_user_attr(RESULT, studies.pack(result))
        study.tell(trial, value)


def main(url: str, processes: int, trials: int) -> int:
    """Run them all; how many died."""
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(processes)
    children = [context.Process(target=work, args=(url, number, trials, barrier)) for number in range(processes)]
    for child in children:
        child.start()
    for child in children:
        child.join()
    return sum(child.exitcode != 0 for child in children)


@pytest.mark.parametrize("kind", [pytest.param("sqlite", marks=pytest.mark.exhaustive), "postgresql"])
def test_sixteen_studies_in_one_new_database_lose_nothing(kind: str, tmp_path: Path, postgres: Server) -> None:
    url = f"sqlite:///{tmp_path}/study.db" if kind == "sqlite" else postgres.fresh()
    command = [sys.executable, "-m", "tests.e2e.test_many_processes", url, str(PROCESSES), str(TRIALS)]
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert (run.returncode, run.stderr) == (0, "")
    storage = studies.open_storage(url)
    assert sorted(studies.study_names(storage)) == sorted(f"{STUDY}-{number}" for number in range(PROCESSES))
    for name in studies.study_names(storage):
        study = studies.load_study(storage, name)
        assert [result.spec.number for result in studies.search_results(study)] == list(range(TRIALS))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
