"""An interrupted study ends as if it had not been interrupted.

It is killed between two writes, or by a signal, and resumed by the printed command, which takes the first one's
workers, threads and precision. One that was stopped or killed is in `sweeper.db` and `mlflow.db` themselves.
"""

from __future__ import annotations

import json
import os
import re
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
    summary = json.loads(done.stdout.splitlines()[-1])
    assert summary["writes"] > 100 and summary["killed"] >= summary["writes"] // step
    assert summary["differences"] == {}


# --- A real training, a real signal ---

TIMES = {"seconds", "seconds_per_step", "mlflow_run_ids"}


def read_recommendation(folder: Path) -> object:
    """Return the recommendation, without what differs from one run to the next, and the precision of a command."""
    text = re.sub(r" --precision \w+", "", (folder / "reports/s/recommendation.json").read_text("utf-8"))
    return json.loads(text, object_hook=lambda part: {key: part[key] for key in part if key not in TIMES})


FIRST = ["run", "--study", "s", *SHORT, "--trials", "8", "--confirm-steps", "4"]


def copy_stores(folder: Path, place: Path) -> Path:
    """Return a new folder with copies of two files, without those that SQLite keeps by them."""
    place.mkdir()
    for name in ("sweeper.db", "mlflow.db"):
        shutil.copy(folder / name, place)
    return place


def load_study(folder: Path) -> SweepRecord:
    storage = studies.open_storage(f"sqlite:///{folder}/sweeper.db", create=False)
    try:
        return studies.load_sweep(storage, "s").model_copy(update={"storage": ""})
    finally:
        storage.engine.dispose()


def list_results(sweep: SweepRecord) -> list[TrialResult]:
    """Return all results, without their runs in MLflow: another store has others."""
    return [result.model_copy(update={"run_id": None}) for result in sweep.trainings]


@pytest.mark.slow
def test_a_killed_sweep_loses_no_training_and_resumes_to_the_same_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("SWEEPER_PRECISION", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    cut, whole = tmp_path / "cut", tmp_path / "whole"
    cut.mkdir()
    process = start(cut, *FIRST, "--workers", "1")
    wait_for(cut, "[3/8]", process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait(60)
    assert (cut / "sweeper.db-wal").stat().st_size > 0
    copied, recovered = load_study(copy_stores(cut, tmp_path / "copy")), load_study(cut)
    assert sorted(path.name for path in cut.glob("sweeper.db*")) == ["sweeper.db"]
    assert list_results(copied) == list_results(recovered) and len(copied.trials) >= 2
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
    assert read_recommendation(cut) == read_recommendation(whole)
    assert all(result in list_results(load_study(cut)) for result in list_results(recovered))


def list_runs(folder: Path) -> set[str]:
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
    copied = load_study(copy)
    assert copied == load_study(folder) and not copied.concluded
    assert (
        len(copied.trials) >= 2 and list_runs(copy) == list_runs(folder) and len(list_runs(copy)) > len(copied.trials)
    )
    done = sweeper(copy, "run", "--study", "s", "--resume", "--tracking-uri", "sqlite:///mlflow-2.db")
    assert done.returncode == 0, done.stderr
    after = load_study(copy)
    assert all(result in list_results(after) for result in list_results(copied))
    assert len(after.trials) == 8 and after.concluded
