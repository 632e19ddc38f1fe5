"""MLflow's copy of a study, rewritten from its storage."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from sweeper import storage as studies
from sweeper.core.errors import StudyError, SweeperError
from sweeper.workflow.mlflow_sync import SyncedRuns, sync_mlflow
from tests.support.sweeping import TWO_LOSSES, run_small_sweep

pytestmark = pytest.mark.slow
TIMES = {"sweeper.key", "mlflow.note.content", "mlflow.parentRunId"}
"""Tags that hold ids or times."""


def list_runs(uri: str) -> dict[tuple[str, str], Run]:
    """Return the runs of the study by kind and number; fail if one is present twice."""
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name("study")
    runs: dict[tuple[str, str], Run] = {}
    for run in client.search_runs([experiment.experiment_id], max_results=1000):
        key = run.data.tags["sweeper.kind"], run.data.tags.get("sweeper.trial", "")
        assert key not in runs, key
        runs[key] = run
    return runs


def read_contents(uri: str) -> dict[tuple[str, str], dict[str, Any]]:
    return {key: read_content(MlflowClient(uri), run) for key, run in list_runs(uri).items()}


def read_content(client: MlflowClient, run: Run) -> dict[str, Any]:
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


def sync(folder: Path, uri: str | None = None) -> SyncedRuns:
    return sync_mlflow(
        f"sqlite:///{folder}/sweeper.db",
        "study",
        tracking_uri=uri or f"sqlite:///{folder}/mlflow.db",
        out=folder / "reports",
        warn=pytest.fail,
    )


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a small finished sweep."""
    folder = tmp_path_factory.mktemp("finished")
    run_small_sweep(folder, space=TWO_LOSSES, trials=5)
    return folder


def test_a_rewritten_store_equals_that_of_the_sweep_and_a_second_call_changes_nothing(
    finished: Path, tmp_path: Path
) -> None:
    before = read_contents(f"sqlite:///{finished}/mlflow.db")
    other = f"sqlite:///{tmp_path}/other.db"
    done = sync(finished, other)
    after = read_contents(other)
    assert after.keys() == before.keys()
    for key, expected in before.items():
        assert after[key] == expected, key
    assert (done.made, done.completed) == (len(before) - 1, 0)
    parent = list_runs(other)["sweep", ""]
    assert parent.data.tags["mlflow.note.content"]
    listed = {item.path for item in MlflowClient(other).list_artifacts(parent.info.run_id, "report")}
    assert {"report/report.md", "report/report.html", "report/recommendation.json"} <= listed
    done = sync(finished, other)  # a second call makes no doubles, and changes nothing
    assert (done.made, done.completed) == (0, 0)
    assert read_contents(other) == after


def test_a_running_study_is_refused(finished: Path) -> None:
    with (
        studies.hold_study(f"sqlite:///{finished}/sweeper.db", "study"),
        pytest.raises(StudyError, match="being run by another process"),
    ):
        sync(finished)


def test_a_deleted_experiment_is_refused_with_the_command_that_restores_it(finished: Path, tmp_path: Path) -> None:
    other = f"sqlite:///{tmp_path}/other.db"
    client = MlflowClient(other)
    number = client.create_experiment("study")
    client.delete_experiment(number)
    with pytest.raises(SweeperError, match=f"restore --experiment-id {number}"):
        sync(finished, other)


def test_the_command_reports_the_runs_that_it_wrote(
    finished: Path, sweeper: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    options = ("--storage", f"sqlite:///{finished}/sweeper.db", "--out", tmp_path / "reports")
    status, out, _ = sweeper("studies", "sync", "study", *options)
    trainings, made, completed = map(int, re.findall(r" (\d+) (?:trainings|made|completed)", out))
    assert status == 0 and made == trainings > 5 and completed == 0
