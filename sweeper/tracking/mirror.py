"""Mirror one study in one MLflow store: compare existing and desired runs, and write the differences.

The sweep's run is found by the study's mark, a training's by its parent and the tags `sweeper.kind` and
`sweeper.trial`. A run whose creation was never answered is therefore found again, and never duplicated. A run's end is
written last: a run with its end and its values is complete.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

from mlflow.entities import Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient
from mlflow.tracking.context.registry import resolve_tags
from mlflow.utils.validation import _validate_model_name

from sweeper.core.errors import UsageError, get_cause
from sweeper.core.paths import format_view_links, make_folder_name, make_slug
from sweeper.core.redact import hide_address_secrets
from sweeper.core.text import format_address_word, format_count
from sweeper.system.locks import get_sqlite_path
from sweeper.tracking.mlflow_connection import (
    connect_to_mlflow,
    explain_store_errors,
    get_artifacts_address,
    has_files_elsewhere,
)
from sweeper.tracking.values import AT_WORK, MARKER, NOTE, PAUSED, STATE, DesiredRun, MetricPoint

SWEEP = "sweep"
"""Internal name of the sweep's run; trainings have names like `search/00012`."""
MARK = "sweeper.key"
"""Tag of the sweep's run that distinguishes its study from others of the same name."""
IDENTITY = ("sweeper.kind", "sweeper.trial")
"""Tags that identify a training's run below the sweep's."""
PURPOSE = {"trial": "search"}
"""Value of the tag `sweeper.kind` → purpose of the training, where they differ."""
MOST_RUNS = 50_000
"""Most runs that MLflow returns at a time."""
OF_RESULT = ("sweeper.reason", "sweeper.collapse", "sweeper.never_predicted", "sweeper.earlier")
"""Tags that are removed from a run if not desired, such as those of a failed earlier attempt."""


@dataclass
class ActualRun:
    """An existing run of MLflow."""

    run_id: str
    status: str
    tags: dict[str, str]
    params: dict[str, str]
    metrics: dict[str, float]
    """Latest value of each metric."""
    has_dataset: bool = False
    steps: set[int] | None = None
    """Steps of the run's points; None = not read yet."""

    @classmethod
    def from_run(cls, run: Run) -> ActualRun:
        """Make the record of MLflow's run."""
        used = run.inputs is not None and bool(run.inputs.dataset_inputs)
        return cls(run.info.run_id, run.info.status, run.data.tags, run.data.params, run.data.metrics, used)


class MlflowMirror:
    """Writes runs and files of a study; failures raise, and all calls may be repeated."""

    def __init__(self, client: MlflowClient, uri: str) -> None:
        """`client`: client of the store at `uri`."""
        self.client, self._uri = client, uri
        self._path = get_sqlite_path(uri)
        self.experiment_id = self.parent_run_id = ""
        self.run_ids: dict[str, str] = {}
        """Ids of the trainings' complete runs, by name."""
        self.made, self.completed = set[str](), set[str]()
        """Names of the trainings' runs that were created, and that were completed."""
        self._actual: dict[str, ActualRun] | None = None
        """Existing runs by name; None = unknown, because the last request may have arrived or not."""

    def begin_sweep(self, study: str, sweep: DesiredRun, mark: str) -> None:
        """Find or create the experiment and the sweep's run, and write the run.

        The run is found by `mark` and the study's name, also in an experiment that was renamed.

        Raises:
            UsageError: as `find_experiment`.
            Exception: whatever MLflow raises.
        """
        named, mark = self.find_experiment(study), f"{make_folder_name(study)} {mark}"
        everywhere = {named or "", *(str(each.experiment_id) for each in self.client.search_experiments())} - {""}
        mine = f"tags.`{MARK}` = '{mark}' and tags.`sweeper.kind` = 'sweep'"
        if runs := self.client.search_runs([*everywhere], mine, max_results=1):
            self.experiment_id, self.parent_run_id = str(runs[0].info.experiment_id), runs[0].info.run_id
        else:
            # A server chooses the files' location itself.
            place = None if self._path is None else get_artifacts_address(self._path, study)
            self.experiment_id = named or self.client.create_experiment(study, artifact_location=place)
            tags = sweep.tags | {MARK: mark, NOTE: format_view_links(self.experiment_id)}
            self.parent_run_id = self._create_run(sweep._replace(tags=tags)).run_id
        self.write_run(SWEEP, sweep)

    def check_experiment(self, study: str) -> None:
        """Refuse a store that cannot take a study, before any training.

        Raises:
            UsageError: if the store does not answer, or as `find_experiment`.
        """
        with explain_store_errors(self._uri, "Nothing was trained. Fix this, or name another, and repeat the command"):
            self.find_experiment(study)

    def find_experiment(self, study: str) -> str | None:
        """Return the id of a study's experiment; None if there is none yet.

        Raises:
            UsageError: if the experiment was deleted, has only runs of others, or its store was moved.
            Exception: whatever MLflow raises.
        """
        experiment = self.client.get_experiment_by_name(study)
        if experiment is None:
            return None
        if experiment.lifecycle_stage != "active":
            uri = self._uri if self._path is None else f"sqlite:///{self._path.absolute()}"
            raise UsageError(
                f"MLflow at {hide_address_secrets(self._uri)}: the experiment {study!r} was deleted there, and its "
                "name is still taken. Name another --tracking-uri, or restore it: MLFLOW_TRACKING_URI="
                f"{format_address_word('--tracking-uri', uri, driver=True)} mlflow experiments restore --experiment-id "
                f"{experiment.experiment_id}"
            )
        found = str(experiment.experiment_id)
        is_own = self.client.search_runs([found], "tags.`sweeper.kind` LIKE '%'", max_results=1)
        if not is_own and (others := self.client.search_runs([found], max_results=MOST_RUNS)):
            raise UsageError(
                f"--study must have an experiment of its own, and {study!r} in MLflow at "
                f"{hide_address_secrets(self._uri)} has {format_count(len(others), 'run')} of others; give another "
                "--study, or another --tracking-uri"
            )
        location = str(experiment.artifact_location)
        if self._path is not None and has_files_elsewhere(self._path, study, location):
            raise UsageError(
                f"--tracking-uri {hide_address_secrets(self._uri)} must be where it was made, as MLflow keeps "
                f"absolute addresses, and it was moved or copied: it would write the files of study {study!r} to "
                f"{location}. Name a new store (--tracking-uri sqlite:///NEW.db); `sweeper studies sync` writes any "
                "study there"
            )
        return found

    def write_run(self, name: str, wanted: DesiredRun) -> None:
        """Write the missing parts of a run to MLflow."""
        actual, self._actual = self._actual or self._find_runs(), None
        has = actual.get(name)
        if has is None:
            has = actual[name] = self._create_run(wanted)
            self.made.add(name)
        lacked = self._complete_run(wanted, has)
        self._actual = actual
        if name == SWEEP:
            return
        self.run_ids[name] = has.run_id
        if lacked and name not in self.made:
            self.completed.add(name)

    def send_file(self, folder: Path, path: Path) -> None:
        """Send the current content of a file below `folder` to the artifacts of the sweep's run."""
        place = Path("report", path.parent.relative_to(folder)).as_posix()
        self.client.log_artifact(self.parent_run_id, str(path), place)

    def delete_runs(self, names: Collection[str]) -> None:
        """Delete the runs of these trainings, if they exist."""
        if not names:
            return
        runs, self._actual = self._find_runs(), None
        for name in runs.keys() & {*names}:
            self.client.delete_run(runs[name].run_id)
            self.run_ids.pop(name, None)

    def list_begun_runs(self) -> list[str]:
        """Return the names of the runs that were written during their training, and have no result yet."""
        self._actual = self._actual or self._find_runs()
        return [name for name, run in self._actual.items() if run.tags.get(STATE) == AT_WORK]

    def set_tag(self, key: str, value: str) -> None:
        """Set a tag of the experiment."""
        self.client.set_experiment_tag(self.experiment_id, key, value)

    def mark_run(self, run_id: str, key: str, value: str) -> None:
        """Set a tag of a run."""
        self.client.set_tag(run_id, key, value)

    def _find_runs(self) -> dict[str, ActualRun]:
        """Return the existing runs of this sweep; the experiment may have runs of others."""
        actual = {SWEEP: ActualRun.from_run(self.client.get_run(self.parent_run_id))}
        mine = f"tags.`mlflow.parentRunId` = '{self.parent_run_id}'"
        for run in self.client.search_runs([self.experiment_id], mine, max_results=MOST_RUNS):
            if run.data.tags.keys() >= set(IDENTITY):
                kind, number = (run.data.tags[tag] for tag in IDENTITY)
                actual[f"{PURPOSE.get(kind, kind)}/{int(number):05d}"] = ActualRun.from_run(run)
        return actual

    def _create_run(self, wanted: DesiredRun) -> ActualRun:
        """Create a run with the tags for user and program that MLflow gives runs it starts itself."""
        tags = resolve_tags(wanted.tags)
        run = self.client.create_run(self.experiment_id, start_time=wanted.start, tags=tags, run_name=wanted.name)
        return ActualRun(run.info.run_id, "RUNNING", dict(wanted.tags), {}, {}, steps=set())

    def _complete_run(self, wanted: DesiredRun, has: ActualRun) -> bool:
        """Write the missing parts of a run, update `has`, and return whether anything was missing."""
        client, run_id = self.client, has.run_id
        params = [Param(key, value) for key, value in wanted.params.items() if key not in has.params]
        tags = [RunTag(key, value) for key, value in wanted.tags.items() if has.tags.get(key) != value]
        gone = [key for key in OF_RESULT if key in has.tags and key not in wanted.tags]
        last = [m for m in _make_metrics(wanted.last) if has.metrics.get(m.key) != m.value]
        has_values = not any((params, tags, gone, last))
        whole = has.has_dataset and has.status == wanted.status and has_values
        if whole and wanted.last is not None:
            return False
        metrics = [*self._list_missing_points(wanted, has), *last]
        if not has.has_dataset:
            client.log_inputs(run_id, [wanted.dataset])
        if params or tags or metrics:  # the client splits a large batch, and keeps the metrics' order
            client.log_batch(run_id, metrics=metrics, params=params, tags=tags)
        for key in gone:
            client.delete_tag(run_id, key)
        if wanted.status in {"RUNNING", PAUSED} - {has.status}:
            client.update_run(run_id, status=wanted.status)
        elif wanted.status != has.status:
            client.set_terminated(run_id, wanted.status, end_time=wanted.end)
        has.status, has.has_dataset = wanted.status, True
        has.params = has.params | wanted.params
        has.tags = {key: value for key, value in has.tags.items() if key not in gone} | wanted.tags
        has.metrics = has.metrics | {metric.key: metric.value for metric in metrics}
        has.steps = (has.steps or set()) | {point.step for point in wanted.points}
        return bool(metrics) or not whole

    def _list_missing_points(self, wanted: DesiredRun, has: ActualRun) -> list[Metric]:
        """Return the points that MLflow lacks.

        MLflow's history would store a repeated point twice, so its steps are read first. The marker is the last metric
        of a point: a point with its marker is complete.
        """
        if has.steps is None:
            history = self.client.get_metric_history(has.run_id, MARKER) if MARKER in has.metrics else []
            has.steps = {point.step for point in history}
        return [metric for point in wanted.points if point.step not in has.steps for metric in _make_metrics(point)]


def check_registration(uri: str, study: str, name: str) -> None:
    """Refuse a name or store that cannot take a network, before it is trained.

    Raises:
        UsageError: if MLflow refuses the name, or as `check_experiment`.
    """
    try:
        _validate_model_name(name)
    except MlflowException as error:
        raise UsageError(
            f"--register must be a name that MLflow takes, got {name!r}: {get_cause(error)} Nothing was trained; take "
            f"--register {make_slug(name)}"
        ) from error
    MlflowMirror(connect_to_mlflow(uri), uri).check_experiment(study)


def _make_metrics(point: MetricPoint | None) -> list[Metric]:
    if point is None:
        return []
    # MLflow turns infinity into 1.8e308, so such values are left out; the collapse tag is the reason.
    finite = {name: value for name, value in point.metrics.items() if math.isfinite(value)}
    return [Metric(name, value, point.at, point.step) for name, value in finite.items()]
