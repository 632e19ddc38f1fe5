"""Connecting to a real MLflow store, which is opened or created once, at its address."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sweeper.core.errors import UsageError
from sweeper.tracking import MlflowTracker, SweepSummary
from sweeper.tracking.mlflow_connection import connect_to_mlflow
from tests.support import builders
from tests.support.tracked import begin_tracking, get_run, make_study, store_result, train


@pytest.mark.slow
def test_a_relative_address_is_relative_to_the_current_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        monkeypatch.chdir(tmp_path / name)
        assert connect_to_mlflow("sqlite:///mlflow.db").get_experiment_by_name("s") is None
        connect_to_mlflow("sqlite:///mlflow.db").create_experiment("s")
        assert (tmp_path / name / "mlflow.db").stat().st_size > 100_000


@pytest.mark.slow
def test_concurrent_first_starts_all_succeed(tmp_path: Path) -> None:
    code = (
        "import sys; from sweeper.tracking import MlflowTracker; from sweeper.storage import open_storage; "
        "open_storage('sqlite:///sweeper.db'); MlflowTracker('sqlite:///mlflow.db', warn=print)"
    )
    starts = [
        subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
        for _ in range(6)
    ]
    outcomes = [(start.communicate(timeout=200)[1], start.returncode) for start in starts]
    assert [status for _, status in outcomes] == [0] * 6, outcomes


def test_a_store_that_cannot_be_reached_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("this is no database, and long enough not to look like an empty one" * 20)
    with pytest.raises(UsageError, match="--tracking-uri"):
        MlflowTracker(f"sqlite:///{tmp_path}/file", warn=pytest.fail)


@pytest.mark.slow
def test_a_copied_store_writes_nothing_to_the_files_of_the_original(tmp_path: Path) -> None:
    original, copy, study = tmp_path / "the original", tmp_path / "cöpy", make_study("Some Study")
    original.mkdir()
    tracker = begin_tracking(f"sqlite:///{original}/mlflow.db", study)
    store_result(study, train(tracker, builders.trial("dice", 0.5, 0)))
    report = original / "report"  # a folder, as SQLite creates and deletes files next to mlflow.db
    report.mkdir()
    (report / "report.md").write_text("words")
    tracker.end_sweep("FINISHED", SweepSummary("", {}, {}, report))
    again = begin_tracking(f"sqlite:///{original}/mlflow.db", study, status="FINISHED")  # at its place nothing changed
    assert again.wait_until_written() is None
    again.close()
    shutil.copytree(original, copy)
    with pytest.raises(
        UsageError, match=r"was moved or copied: .*the%20original/mlruns/.*--tracking-uri sqlite:///NEW"
    ):
        begin_tracking(f"sqlite:///{copy}/mlflow.db", study)
    new = begin_tracking(f"sqlite:///{copy}/new.db", study, warn=lambda _: None)
    assert get_run(new, builders.spec("dice", 0)).info.artifact_uri.startswith(copy.as_uri())
