"""One write to MLflow as a record: how it is sent, and how one whose answer was lost is looked up."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from pydantic import Field

from sweeper.core.base import Record

PARAM_LIMIT = 6000
"""MLflow cuts parameter values there, silently."""
KEY = "sweeper.key"
"""Tag of a run: the name that we gave it before MLflow gave it an id."""
FILES = "artifacts"
"""Kind of an operation that sends files: what a server most likely cannot take, and nothing depends on."""
FILE_ATTEMPTS = 6
"""A file may be sent so often in a row; to send it twice does no harm."""
REFUSED = {"INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS", "BAD_REQUEST"}
"""Errors of a server that is there and will never take this operation, say for a run that somebody deleted."""


class DatasetUsed(Record):
    """A data set as MLflow's panel shows it."""

    name: str
    digest: str
    source_type: str
    source: str
    profile: str | None = None
    """JSON; the panel shows each entry as a line."""
    context: str
    """What it was used for."""


class Operation(Record):
    """A write to one run; `key` is our name of the run, `at` the time in milliseconds since 1970."""

    kind: Literal["create", "batch", "status", "experiment", "dataset", "artifacts"]
    key: str
    at: int
    run_id: str | None = None
    """Where it is known."""
    experiment: str = ""
    name: str = ""
    tags: dict[str, str] = Field(default_factory=dict)
    params: dict[str, str] = Field(default_factory=dict)
    metrics: dict[str, float] = Field(default_factory=dict)
    step: int = 0
    status: str = ""
    dataset: DatasetUsed | None = None
    folder: str = ""
    """Artifacts: what lies there when it is sent."""


def send(client: MlflowClient, operation: Operation, run_id: str, *, file_attempts: int = FILE_ATTEMPTS) -> str:
    """Do it now; the id of the run. `run_id` is "" for a run that is to be created.

    Raises:
        Exception: whatever MLflow raises.
    """
    match operation.kind:
        case "create":
            tags = {**operation.tags, KEY: operation.key}
            run = client.create_run(operation.experiment, start_time=operation.at, tags=tags, run_name=operation.name)
            created: str = run.info.run_id
            return created
        case "batch":
            # MLflow turns infinity into 1.8e308; such values are left out and the collapse tag says why.
            finite = {key: value for key, value in operation.metrics.items() if math.isfinite(value)}
            client.log_batch(
                run_id,
                metrics=[Metric(key, value, operation.at, operation.step) for key, value in finite.items()],
                params=[Param(key, value[:PARAM_LIMIT]) for key, value in operation.params.items()],
                tags=[RunTag(key, value) for key, value in operation.tags.items()],
                synchronous=True,
            )
        case "status" if operation.status in {"RUNNING", "SCHEDULED"}:
            client.update_run(run_id, status=operation.status)
        case "status":
            client.set_terminated(run_id, operation.status, end_time=operation.at)
        case "experiment":
            for name, value in operation.tags.items():
                client.set_experiment_tag(operation.experiment, name, value)
        case "dataset" if (used := operation.dataset) is not None:  # sent twice it is there once
            entity = Dataset(used.name, used.digest, used.source_type, used.source, profile=used.profile)
            client.log_inputs(run_id, [DatasetInput(entity, [InputTag("mlflow.data.context", used.context)])])
        case "artifacts":
            _send_files(client, run_id, Path(operation.folder), file_attempts)
    return run_id


def _send_files(client: MlflowClient, run_id: str, folder: Path, attempts: int) -> None:
    """Each file by itself, tried again by itself: of many, some always fail where every third request does.

    Raises:
        Exception: whatever MLflow raises, of a file that failed `attempts` times.
    """
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        place = Path("report", path.parent.relative_to(folder)).as_posix()
        for left in reversed(range(attempts)):
            try:
                client.log_artifact(run_id, str(path), place)
                break
            except Exception:
                if not left:
                    raise


def find_run(client: MlflowClient, operation: Operation) -> str | None:
    """The run that a creation made whose answer was lost; None = it made none."""
    found = client.search_runs([operation.experiment], f"tags.`{KEY}` = '{operation.key}'", max_results=1)
    return found[0].info.run_id if found else None


def without_what_is_there(client: MlflowClient, operation: Operation, run_id: str) -> Operation:
    """A batch whose answer was lost, less the metrics if they were taken; all else may be written twice."""
    finite = [key for key, value in operation.metrics.items() if math.isfinite(value)]
    if operation.kind != "batch" or not finite:
        return operation
    points = client.get_metric_history(run_id, finite[-1])  # MLflow takes the metrics of a batch all or none
    taken = any(point.step == operation.step and point.timestamp == operation.at for point in points)
    return operation.model_copy(update={"metrics": {}}) if taken else operation


def is_refused(error: Exception) -> bool:
    """Whether to try again is of no use. MLflow calls a lost connection to its database a bad request as well."""
    if not isinstance(error, MlflowException) or error.error_code not in REFUSED:
        return False
    return error.error_code != "BAD_REQUEST" or "connection" not in str(error).lower()
