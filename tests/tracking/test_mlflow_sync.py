"""MLflow's copy of a study, written again from its storage."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import Run
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore
from mlflow.tracking import MlflowClient
from mlflow.tracking._tracking_service.utils import _tracking_store_registry

from sweeper import storage as studies
from sweeper.core.errors import InterruptedSweepError, NothingCompletedError, StudyError, SweeperError
from sweeper.workflow.mlflow_sync import MlflowDocument, sync_mlflow
from tests.e2e.test_lost_files import Acting, delete
from tests.support.sweeping import Recorder, sweep_in

pytestmark = pytest.mark.slow
TIMES = {"sweeper.key", "mlflow.note.content", "mlflow.parentRunId"}
"""Tags that hold ids or times."""


def runs_in(uri: str) -> dict[tuple[str, str], Run]:
    """Runs of the study by kind and number; fails if one is there twice."""
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("study")
    assert experiment is not None
    found: dict[tuple[str, str], Run] = {}
    for run in client.search_runs([experiment.experiment_id], max_results=1000):
        key = run.data.tags["sweeper.kind"], run.data.tags.get("sweeper.trial", "")
        assert key not in found, key
        found[key] = run
    return found


def content(uri: str, run: Run) -> dict[str, Any]:
    client = MlflowClient(uri)
    points = {
        name: sorted((p.step, p.value) for p in client.get_metric_history(run.info.run_id, name))
        for name in run.data.metrics
    }
    return {
        "name": run.info.run_name,
        "status": run.info.status,
        "params": run.data.params,
        "metrics": points,
        "tags": {k: v for k, v in run.data.tags.items() if k not in TIMES and not k.startswith("mlflow.user")},
        "inputs": [i.dataset.digest for i in run.inputs.dataset_inputs],
    }


def contents(uri: str) -> dict[tuple[str, str], dict[str, Any]]:
    return {key: content(uri, run) for key, run in runs_in(uri).items()}


def forget_connections() -> None:
    """As a new process begins: MLflow keeps its connections, those to a deleted file too."""
    for engine in SqlAlchemyStore._engine_map.values():
        engine.dispose()
    SqlAlchemyStore._engine_map.clear()
    _tracking_store_registry._get_store_with_resolved_uri.cache_clear()


def again(folder: Path, uri: str | None = None) -> MlflowDocument:
    return sync_mlflow(
        f"sqlite:///{folder}/sweeper.db",
        "study",
        tracking_uri=uri or f"sqlite:///{folder}/mlflow.db",
        out=folder / "reports",
        warn=pytest.fail,
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a small finished sweep."""
    folder = tmp_path_factory.mktemp("finished")
    sweep_in(folder)
    return folder


def test_a_store_written_again_holds_what_the_sweep_wrote_and_a_second_call_changes_nothing(
    finished: Path, tmp_path: Path
) -> None:
    before = contents(f"sqlite:///{finished}/mlflow.db")
    other = f"sqlite:///{tmp_path}/other.db"
    done = again(finished, other)
    after = contents(other)
    assert after.keys() == before.keys()
    for key, expected in before.items():
        assert after[key] == expected, key
    assert (done.made, done.completed) == (len(before) - 1, 0)
    parent = runs_in(other)["sweep", ""]
    assert parent.data.tags["mlflow.note.content"]
    listed = {item.path for item in MlflowClient(other).list_artifacts(parent.info.run_id, "report")}
    assert {"report/report.md", "report/report.html", "report/recommendation.json"} <= listed
    done = again(finished, other)  # a second call makes no doubles, and changes nothing
    assert (done.made, done.completed) == (0, 0)
    assert contents(other) == after


@pytest.mark.exhaustive
@pytest.mark.slow
def test_the_store_that_the_sweep_wrote_is_left_as_it_is(finished: Path) -> None:
    uri = f"sqlite:///{finished}/mlflow.db"
    before = contents(uri)
    done = again(finished)  # also when another store was written meanwhile
    assert (done.made, done.completed) == (0, 0)
    assert contents(uri) == before


def status_of_the_sweep(uri: str) -> str:
    status: str = runs_in(uri)["sweep", ""].info.status
    return status


@pytest.mark.exhaustive
def test_a_resume_that_was_stopped_is_not_finished_although_the_study_was_once(finished: Path, tmp_path: Path) -> None:
    folder, others = tmp_path / "again", [f"sqlite:///{tmp_path}/{name}.db" for name in ("stopped", "ended")]
    shutil.copytree(finished, folder, ignore=shutil.ignore_patterns("mlflow.db*", "mlruns"))
    report = folder / "reports" / "study" / "report.md"
    with pytest.raises(InterruptedSweepError):
        sweep_in(folder, Recorder(stop_after=1), resume=True, trials=9, data=None)
    before = report.read_bytes()
    again(folder, others[0])
    assert status_of_the_sweep(others[0]) == "KILLED" and report.read_bytes() == before
    sweep_in(folder, resume=True, trials=None, data=None)
    again(folder, others[1])
    assert status_of_the_sweep(others[1]) == "FINISHED"


@pytest.mark.exhaustive
@pytest.mark.slow
def test_a_sweep_without_any_confirmation_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(family: str, **_: Any) -> Any:
        raise ValueError("a fault of the loss")

    monkeypatch.setattr("sweeper.training.training_steps.build_loss", breaks)
    with pytest.raises(NothingCompletedError):
        sweep_in(tmp_path, trials=2)
    uri, other = f"sqlite:///{tmp_path}/mlflow.db", f"sqlite:///{tmp_path}/other.db"
    assert status_of_the_sweep(uri) == "FINISHED"
    again(tmp_path, other)
    assert status_of_the_sweep(other) == "FINISHED"


@pytest.mark.exhaustive
@pytest.mark.slow
def test_the_report_links_to_the_new_runs(finished: Path, tmp_path: Path) -> None:
    other = f"sqlite:///{tmp_path}/other.db"
    again(finished, other)
    storage = studies.open_storage(f"sqlite:///{finished}/sweeper.db", create=False)
    sweep = studies.load_sweep(storage, "study")
    there = {run.info.run_id for run in runs_in(other).values()}
    assert {r.run_id for r in (*sweep.trials, *sweep.rechecks, *sweep.confirmations)} | {sweep.parent_run_id} == there


@pytest.mark.exhaustive
@pytest.mark.slow
def test_runs_that_lack_something_are_completed(finished: Path) -> None:
    uri = f"sqlite:///{finished}/mlflow.db"
    before = contents(uri)
    client, runs = MlflowClient(uri), runs_in(uri)
    lost, killed = (runs["trial", number] for number in "01")
    client.delete_run(lost.info.run_id)
    client.set_terminated(killed.info.run_id, "KILLED")
    done = again(finished)
    assert (done.made, done.completed) == (1, 1)
    assert contents(uri) == before


@pytest.mark.exhaustive
def test_an_interrupted_study_can_go_on_in_the_store_written_again(tmp_path: Path) -> None:
    display = Recorder(stop_after=3)
    with pytest.raises(SweeperError, match="stopped"):
        sweep_in(tmp_path, display)
    before = contents(f"sqlite:///{tmp_path}/mlflow.db")
    delete(tmp_path / "mlflow.db")
    forget_connections()
    again(tmp_path)
    assert (tmp_path / "mlflow.db").stat().st_size > 100_000
    parents = {key for key in runs_in(f"sqlite:///{tmp_path}/mlflow.db") if key[0] == "sweep"}
    assert parents == {("sweep", "")}
    after = contents(f"sqlite:///{tmp_path}/mlflow.db")
    # Attempts that were cut off are not in the study.
    kept = {k: v for k, v in before.items() if v["tags"].get("sweeper.state") != "abandoned"}
    assert after == kept
    sweep_in(tmp_path, resume=True, trials=None, data=None)
    statuses = {run.info.status for run in runs_in(f"sqlite:///{tmp_path}/mlflow.db").values()}
    assert statuses == {"FINISHED"}


def test_a_store_that_is_deleted_amid_a_sweep_is_told_and_can_be_written_again(tmp_path: Path) -> None:
    display = Acting(3, lambda: delete(tmp_path / "mlflow.db"))
    outcome = sweep_in(tmp_path, display, trials=3, confirm_seeds="1")
    assert len(outcome.sweep.trials) == 3  # the study is not harmed
    (line,) = [text for text in display.warnings if "mlflow.db" in text]
    assert "was deleted" in line and "sweeper mlflow study" in line
    # MLflow keeps its connections for as long as a process lives.
    command = [sys.executable, "-m", "sweeper", "mlflow", "study", "--json"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    expected = len(outcome.sweep.trials) + len(outcome.sweep.rechecks) + len(outcome.sweep.confirmations)
    document = json.loads(done.stdout)
    assert (document["made"], document["completed"]) == (expected, 0)


def test_a_study_that_is_being_run_is_left_alone(finished: Path) -> None:
    with (
        studies.sole_use(f"sqlite:///{finished}/sweeper.db", "study"),
        pytest.raises(StudyError, match="being run by another process"),
    ):
        again(finished)


def test_an_experiment_that_was_deleted_is_named_with_the_way_on(finished: Path, tmp_path: Path) -> None:
    other = f"sqlite:///{tmp_path}/other.db"
    client = MlflowClient(other)
    number = client.create_experiment("study")
    client.delete_experiment(number)
    with pytest.raises(SweeperError, match=f"restore --experiment-id {number}"):
        again(finished, other)


def test_the_command(finished: Path, sweeper: Callable[..., tuple[int, str, str]], tmp_path: Path) -> None:
    options = ("--storage", f"sqlite:///{finished}/sweeper.db", "--out", tmp_path / "reports")
    status, out, _ = sweeper("mlflow", "study", *options, "--json")
    document = json.loads(out)
    assert status == 0 and document["made"] == document["trainings"] > 7 and document["completed"] == 0
    status, out, _ = sweeper("mlflow", "study", *options)
    assert status == 0 and "0 made, 0 completed" in out
    status, _, err = sweeper("mlflow", "nothing", *options)
    assert status == 2 and "there is no study" in err
