"""A study that ended, was stopped or killed is in `sweeper.db` and `mlflow.db` themselves.

Copied without the files that SQLite keeps by them, they have all of it, and the copy resumes.
"""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest
from mlflow.tracking import MlflowClient

from sweeper import storage as studies
from sweeper.core.records import SweepRecord, TrialResult
from tests.cli.test_run import start, sweeper, wait_for
from tests.e2e.test_interrupted import FIRST


def begun(folder: Path, sent: signal.Signals | None) -> int:
    """Begin a sweep, and send its process a signal once something was trained; its exit status."""
    folder.mkdir()
    process = start(folder, *FIRST, "--workers", "1", "--precision", "float32")
    wait_for(folder, "[3/8]", process)
    if sent == signal.SIGKILL:
        os.killpg(process.pid, sent)
    elif sent is not None:
        process.send_signal(sent)
    return process.wait(240)


def copied(folder: Path, place: Path) -> Path:
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


def runs_in(folder: Path) -> set[str]:
    client = MlflowClient(tracking_uri=f"sqlite:///{folder}/mlflow.db")
    return {run.info.run_name for run in client.search_runs([e.experiment_id for e in client.search_experiments()])}


def resume(folder: Path, before: SweepRecord) -> None:
    """Resume a study, whose results stay. MLflow keeps absolute addresses: a copy takes a new store."""
    done = sweeper(folder, "run", "--study", "s", "--resume", "--tracking-uri", "sqlite:///mlflow-2.db")
    assert done.returncode == 0, done.stderr
    after = study_in(folder)
    trained = results_of(after)
    assert all(result in trained for result in results_of(before))
    assert len(after.trials) == 8 and after.concluded


@pytest.mark.slow
@pytest.mark.parametrize(("sent", "status"), [(None, 0), (signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_copy_of_two_files_of_a_sweep_that_ended_has_everything_and_resumes(
    tmp_path: Path, sent: signal.Signals | None, status: int
) -> None:
    folder = tmp_path / "first"
    assert begun(folder, sent) == status, (folder / "err.txt").read_text()
    assert sorted(path.name for path in folder.glob("*.db*")) == ["mlflow.db", "sweeper.db"]
    copy = copied(folder, tmp_path / "copy")
    kept = study_in(copy)
    assert kept == study_in(folder) and kept.concluded == (sent is None)
    assert len(kept.trials) >= 3 and runs_in(copy) == runs_in(folder) and len(runs_in(copy)) > len(kept.trials)
    resume(copy, kept)


@pytest.mark.slow
def test_a_killed_sweep_is_opened_as_ever_and_its_file_by_itself_has_each_finished_training(tmp_path: Path) -> None:
    folder = tmp_path / "first"
    assert begun(folder, signal.SIGKILL) == -signal.SIGKILL
    assert (folder / "sweeper.db-wal").stat().st_size > 0
    copy = copied(folder, tmp_path / "copy")
    kept, recovered = study_in(copy), study_in(folder)
    assert sorted(path.name for path in folder.glob("sweeper.db*")) == ["sweeper.db"]
    assert results_of(kept) == results_of(recovered) and len(kept.trials) >= 3
    resume(folder, recovered)
    resume(copy, kept)
