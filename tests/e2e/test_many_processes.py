"""Sixteen processes at one database, each with its study: none dies, nothing is lost.

The real storage, sampler and search, with trainings of a moment. As a program, with an address, the processes and the
trials of each, it is these processes, forked from one that has imported everything, so that they begin within
milliseconds of each other.
"""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from sweeper import storage as studies
from sweeper.study.loop import run_work
from sweeper.study.search import enqueue_defaults
from tests.support.faking import SPACE, FakeExecutor, new_plan, new_search
from tests.support.postgres_server import Server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
PROCESSES, TRIALS = 16, 10
ROOT = Path(__file__).resolve().parents[2]
STUDY = "many"


def search_study(url: str, number: int, trials: int, barrier: Barrier) -> None:
    """Open (or make) the database, make a study, and search it."""
    barrier.wait()
    study = studies.create_study(studies.open_storage(url), f"{STUDY}-{number}", new_plan())
    enqueue_defaults(study, SPACE, trials)
    assert run_work(FakeExecutor(), new_search(study, trials), lambda: None)  # type: ignore[arg-type]


def main(url: str, processes: int, trials: int) -> int:
    """Run all processes, and return how many of them failed."""
    context = multiprocessing.get_context("fork")
    barrier = context.Barrier(processes)
    children = [
        context.Process(target=search_study, args=(url, number, trials, barrier)) for number in range(processes)
    ]
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
    assert sorted(studies.list_study_names(storage)) == sorted(f"{STUDY}-{number}" for number in range(PROCESSES))
    for name in studies.list_study_names(storage):
        study = studies.open_study(storage, name)
        assert [result.spec.number for result in studies.search_results(study)] == list(range(TRIALS))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
