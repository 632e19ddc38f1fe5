"""One run: what MLflow has of it, compared with what it is to have, and the requests between them.

Metrics are a history that takes every point again, so that MLflow is asked which it has, unless that is known. Whatever
else is written twice is there once. A run's end is written last: a run that has it, and its values, is whole.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from sweeper.tracking.desired_runs import OPEN, DesiredRun, Point
from sweeper.tracking.values import DatasetUsed

PARAM_LIMIT = 6000
"""MLflow cuts parameter values there, silently."""
OF_RESULT = ("sweeper.reason", "sweeper.collapse", "sweeper.never_predicted", "sweeper.earlier")
"""Tags that a run loses where it is not to have them: an earlier attempt failed, say, and this one does not."""
REFUSED = {"INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS", "BAD_REQUEST"}
"""Errors of a server that is there and will never take this request, say for a run that somebody deleted."""


@dataclass
class ActualRun:
    """What MLflow has of a run."""

    run_id: str
    status: str
    tags: dict[str, str]
    params: dict[str, str]
    metrics: dict[str, float]
    """The latest value of each."""
    has_dataset: bool = False
    steps: set[int] | None = None
    """Steps of its points; None = MLflow was not asked for them."""

    @classmethod
    def of(cls, run: Run) -> ActualRun:
        """As MLflow tells it."""
        used = run.inputs is not None and bool(run.inputs.dataset_inputs)
        return cls(run.info.run_id, run.info.status, run.data.tags, run.data.params, run.data.metrics, used)


def create_run(client: MlflowClient, experiment_id: str, wanted: DesiredRun) -> ActualRun:
    """A run with name and tags, and nothing else yet.

    Raises:
        Exception: whatever MLflow raises.
    """
    run = client.create_run(experiment_id, start_time=wanted.start, tags=wanted.tags, run_name=wanted.name)
    return ActualRun(run.info.run_id, "RUNNING", dict(wanted.tags), {}, {}, steps=set())


def write_run(client: MlflowClient, wanted: DesiredRun, has: ActualRun, refused: Callable[[Exception], None]) -> bool:
    """Write what a run lacks, and note it in `has`.

    Args:
        client: of the store.
        wanted: the run as it is to be.
        has: as it is.
        refused: is told of what MLflow will never take; that is left out.

    Returns:
        Whether it lacked anything.

    Raises:
        Exception: whatever else MLflow raises; what it has of the run is not known then.
    """
    writes = _writes(client, wanted, has)
    for write in writes:
        try:
            write()
        except Exception as error:
            if not is_refused(error):
                raise
            refused(error)
    has.status, has.has_dataset = wanted.status, True
    has.params = has.params | wanted.params
    has.tags = {key: value for key, value in has.tags.items() if key not in OF_RESULT} | wanted.tags
    for point in wanted.points:
        has.metrics = has.metrics | point.metrics
    if wanted.last is not None:
        has.metrics = has.metrics | wanted.last.metrics
    if has.steps is not None:
        has.steps |= {point.step for point in wanted.points}
    return bool(writes)


def _writes(client: MlflowClient, wanted: DesiredRun, has: ActualRun) -> list[Callable[[], object]]:
    """The requests that make a run whole, in order."""
    writes = list[Callable[[], object]]()
    if not has.has_dataset:
        writes.append(partial(client.log_inputs, has.run_id, [_input(wanted.dataset)]))
    params = [Param(key, value[:PARAM_LIMIT]) for key, value in wanted.params.items() if key not in has.params]
    if params:
        writes.append(partial(client.log_batch, has.run_id, params=params))
    tags = [RunTag(key, value) for key, value in wanted.tags.items() if has.tags.get(key) != value]
    metrics = _last_values(client, wanted, has)
    has_result = wanted.last is not None and wanted.status == has.status and not tags and not metrics
    if wanted.status in OPEN or not has_result:
        metrics = [*_points(client, wanted, has), *metrics]
    if tags or metrics:
        writes.append(partial(client.log_batch, has.run_id, metrics=metrics, tags=tags))
    gone = [key for key in OF_RESULT if key in has.tags and key not in wanted.tags]
    writes += [partial(client.delete_tag, has.run_id, key) for key in gone]
    if wanted.status != has.status:
        if wanted.status in OPEN:
            writes.append(partial(client.update_run, has.run_id, status=wanted.status))
        else:
            writes.append(partial(client.set_terminated, has.run_id, wanted.status, end_time=wanted.end))
    return writes


def _input(used: DatasetUsed) -> DatasetInput:
    entity = Dataset(used.name, used.digest, used.source_type, used.source, profile=used.profile)
    return DatasetInput(entity, [InputTag("mlflow.data.context", used.context)])


def _points(client: MlflowClient, wanted: DesiredRun, has: ActualRun) -> list[Metric]:
    """The points that MLflow lacks, for one batch.

    MLflow's client sends a large batch in parts. The marker comes last in its point, which is whole where that is.
    """
    if not wanted.points:
        return []
    if has.steps is None:
        known = wanted.marker in has.metrics
        history = client.get_metric_history(has.run_id, wanted.marker) if known else []
        has.steps = {point.step for point in history}
    return [metric for point in wanted.points if point.step not in has.steps for metric in _metrics(point)]


def _last_values(client: MlflowClient, wanted: DesiredRun, has: ActualRun) -> list[Metric]:
    """The values that MLflow does not show yet. It shows the last step, and there the latest time."""
    if wanted.last is None:
        return []
    found = []
    for metric in _metrics(wanted.last):
        if has.metrics.get(metric.key) == metric.value:
            continue
        step, at = metric.step, metric.timestamp
        if metric.key in has.metrics:
            history = client.get_metric_history(has.run_id, metric.key)
            step = max([step, *(point.step for point in history)])
            at = max([at, *(point.timestamp + 1 for point in history)])
        found.append(Metric(metric.key, metric.value, at, step))
    return found


def _metrics(point: Point) -> list[Metric]:
    # MLflow turns infinity into 1.8e308; such values are left out and the collapse tag says why.
    finite = {name: value for name, value in point.metrics.items() if math.isfinite(value)}
    return [Metric(name, value, point.at, point.step) for name, value in finite.items()]


def send_file(client: MlflowClient, run_id: str, folder: Path, path: Path) -> None:
    """Send a file below `folder` to the run's artifacts; sent twice it is there once.

    Raises:
        Exception: whatever MLflow raises.
    """
    client.log_artifact(run_id, str(path), Path("report", path.parent.relative_to(folder)).as_posix())


def is_refused(error: Exception) -> bool:
    """Whether to try again is of no use. MLflow calls a lost connection to its database a bad request as well."""
    if not isinstance(error, MlflowException) or error.error_code not in REFUSED:
        return False
    return error.error_code != "BAD_REQUEST" or "connection" not in str(error).lower()
