"""An interrupted study becomes the study that it would have been.

It is killed between two writes, or by a signal, and resumed by the printed command, which takes the first one's
workers, threads and precision. One that was stopped or killed is in `sweeper.db` and `mlflow.db` themselves.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from sweeper import storage as studies
from sweeper.core.paths import STORAGE
from sweeper.core.records import SweepRecord, TrialResult
from sweeper.core.text import format_resume_command
from tests.cli.test_run import SHORT, start, sweeper, wait_for
from tests.support.marks import EXHAUSTIVE


@pytest.mark.slow
@pytest.mark.timeout(7200)
@pytest.mark.parametrize(
    ("kind", "first", "step"),
    [("sweep", 5, 40), pytest.param("sweep", 1, 1, marks=EXHAUSTIVE), pytest.param("search", 1, 1, marks=EXHAUSTIVE)],
)
def test_a_kill_between_any_two_writes_changes_nothing(tmp_path: Path, kind: str, first: int, step: int) -> None:
    command = [sys.executable, "-m", "tests.support.killing", str(tmp_path / kind), kind, str(first), str(step)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
    assert found["writes"] > 100 and found["killed"] >= found["writes"] // step and found["differences"] == {}


# --- A real training, a real signal ---

TIMES = {"seconds", "seconds_per_step", "mlflow_run_ids"}


def said(folder: Path) -> object:
    """Return the recommendation, without what differs from one run to the next."""
    text = (folder / "reports/s/recommendation.json").read_text("utf-8")
    return json.loads(text, object_hook=lambda found: {key: found[key] for key in found if key not in TIMES})


FIRST = ["run", "--study", "s", *SHORT, "--trials", "8", "--confirm-steps", "4"]


def copy_stores(folder: Path, place: Path) -> Path:
    """Return a new folder with copies of two files, without those that SQLite keeps by them."""
    place.mkdir()
    for name in ("sweeper.db", "mlflow.db"):
        shutil.copy(folder / name, place)
    return place


def study_in(folder: Path) -> SweepRecord:
    storage = studies.open_storage(f"sqlite:///{folder}/sweeper.db", create=False)
    try:
        return studies.load_sweep(storage, "s").model_copy(update={"storage": ""})
    finally:
        storage.engine.dispose()


def results_of(sweep: SweepRecord) -> list[TrialResult]:
    """Return all results, without their runs in MLflow: another store has others."""
    results = [*sweep.trials, *sweep.probes, *sweep.rechecks, *sweep.confirmations]
    return [result.model_copy(update={"run_id": None}) for result in results]


@pytest.mark.slow
def test_a_killed_sweep_loses_no_training_and_the_command_that_is_printed_goes_on_as_the_first_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SWEEPER_PRECISION", "SWEEPER_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    cut, whole = tmp_path / "cut", tmp_path / "whole"
    cut.mkdir()
    process = start(cut, *FIRST, "--workers", "1")
    wait_for(cut, "[3/8]", process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(60)
    assert (cut / "sweeper.db-wal").stat().st_size > 0
    kept, recovered = study_in(copy_stores(cut, tmp_path / "copy")), study_in(cut)
    assert sorted(path.name for path in cut.glob("sweeper.db*")) == ["sweeper.db"]
    assert results_of(kept) == results_of(recovered) and len(kept.trials) >= 2
    storage = studies.open_storage(f"sqlite:///{cut}/sweeper.db")
    machine, recipe = studies.read_machine(storage, "s"), studies.read_plan(storage, "s").conditions.recipe
    assert (machine["device"], machine["executor"], machine["workers"]) == ("cpu", "processes", 1)
    done = sweeper(cut, *format_resume_command("s", STORAGE).split()[1:])
    assert done.returncode == 0, done.stderr
    assert studies.read_machine(storage, "s") == machine
    storage.engine.dispose()
    assert "ms in float32" not in done.stderr  # it is not measured again
    whole.mkdir()
    # Both precisions would do: what a measurement found is no matter of this test.
    done = sweeper(whole, *FIRST, "--workers", "1", "--precision", recipe.precision)
    assert done.returncode == 0, done.stderr
    assert said(cut) == said(whole)
    assert all(result in results_of(study_in(cut)) for result in results_of(recovered))


def runs_in(folder: Path) -> set[str]:
    client = MlflowClient(tracking_uri=f"sqlite:///{folder}/mlflow.db")
    return {run.info.run_name for run in client.search_runs([e.experiment_id for e in client.search_experiments()])}


@pytest.mark.slow
def test_after_ctrl_c_a_copy_of_two_files_has_everything_and_resumes(tmp_path: Path) -> None:
    """MLflow keeps absolute addresses: a copy takes a new store."""
    (folder := tmp_path / "first").mkdir()
    process = start(folder, *FIRST, "--workers", "1", "--precision", "float32")
    wait_for(folder, "[3/8]", process)
    os.killpg(process.pid, signal.SIGINT)  # as a terminal does
    assert process.wait(240) == 130, (folder / "err.txt").read_text()
    assert sorted(path.name for path in folder.glob("*.db*")) == ["mlflow.db", "sweeper.db"]
    copy = copy_stores(folder, tmp_path / "copy")
    kept = study_in(copy)
    assert kept == study_in(folder) and not kept.concluded
    assert len(kept.trials) >= 2 and runs_in(copy) == runs_in(folder) and len(runs_in(copy)) > len(kept.trials)
    done = sweeper(copy, "run", "--study", "s", "--resume", "--tracking-uri", "sqlite:///mlflow-2.db")
    assert done.returncode == 0, done.stderr
    after = study_in(copy)
    assert all(result in results_of(after) for result in results_of(kept))
    assert len(after.trials) == 8 and after.concluded
