"""Sixteen processes at one database, each with its study: none dies, nothing is lost."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from sweeper import storage as studies
from tests.support.many import STUDY
from tests.support.postgres_server import Server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]
PROCESSES, TRIALS, STARTS = 16, 10, 10
ROOT = Path(__file__).resolve().parents[2]


def all_at_once(url: str, trials: int) -> None:
    """Let the processes loose at one moment."""
    command = [sys.executable, "-m", "tests.support.many", url, str(PROCESSES), str(trials)]
    run = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert (run.returncode, run.stderr) == (0, "")


@pytest.mark.parametrize("kind", [pytest.param("sqlite", marks=pytest.mark.exhaustive), "postgresql"])
def test_sixteen_studies_in_one_new_database_lose_nothing(kind: str, tmp_path: Path, postgres: Server) -> None:
    url = f"sqlite:///{tmp_path}/study.db" if kind == "sqlite" else postgres.fresh()
    all_at_once(url, TRIALS)
    storage = studies.open_storage(url)
    assert sorted(studies.study_names(storage)) == sorted(f"{STUDY}-{number}" for number in range(PROCESSES))
    for name in studies.study_names(storage):
        study = studies.load_study(storage, name)
        assert [result.spec.number for result in studies.search_results(study)] == list(range(TRIALS))


@pytest.mark.exhaustive
def test_sixteen_cold_starts_at_once_all_live(tmp_path: Path, postgres: Server) -> None:
    for number in range(STARTS):
        all_at_once(f"sqlite:///{tmp_path}/cold{number}.db", 0)
        all_at_once(postgres.fresh(), 0)
