"""MLflow: a parent run for the sweep, a child for each training. It gets copies; no conclusion is read back from it.

Experiment = study. Tags: `sweeper.kind` (sweep, trial, confirm, recheck, probe), `sweeper.family`, `sweeper.trial`,
`sweeper.state`, `sweeper.collapse`, and `mlflow.parentRunId`, which makes the tree. Runs are addressed by their ids
throughout: the fluent API keeps the active run in global state.
"""

from __future__ import annotations

import logging
import math
import os
import sqlite3
import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from pathlib import Path

# Set before MLflow is imported: a tool for private pictures does not report its use to anyone.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
# A server that does not answer is noticed in seconds; MLflow's own defaults hold a call for minutes.
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")

from mlflow.entities import Dataset as TrackedDataset
from mlflow.entities import DatasetInput, InputTag, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException
from mlflow.tracking import MlflowClient

from sweeper import metrics
from sweeper.errors import UsageError
from sweeper.locks import lock_beside, sqlite_path
from sweeper.paths import folder_name, slug
from sweeper.records import Collapse, Conditions, Evaluation, Scores, TrialResult, TrialSpec

NOTE = "mlflow.note.content"
NOTE_LIMIT = 8000
"""MLflow cuts notes there."""
EXPERIMENT_NOTE_LIMIT = 5000
"""And an experiment's tag there."""
PARAM_LIMIT = 6000
"""MLflow cuts parameter values there, silently."""
STATUS = {"complete": "FINISHED", "pruned": "FINISHED", "failed": "FAILED"}


def class_slugs(classes: tuple[str, ...]) -> tuple[str, ...]:
    """Metric-safe, distinct names of the classes (MLflow refuses a whole batch for one `|`, `&` or `(`)."""
    taken: dict[str, int] = {}
    result = []
    for name in classes:
        base = slug(name).lower()
        taken[base] = taken.get(base, 0) + 1
        result.append(base if taken[base] == 1 else f"{base}-{taken[base]}")
    return tuple(result)


class Tracker:
    """Writes one sweep to MLflow.

    If the store fails amid a sweep, that is said once, nothing more is sent, and the sweep goes on.
    """

    def __init__(self, uri: str, *, warn: Callable[[str], None], clock: Callable[[], float] = time.time) -> None:
        """Connect, creating and migrating a SQLite store.

        Raises:
            UsageError: if the store cannot be reached.
        """
        self._uri, self._warn, self._clock = uri, warn, clock
        for name in ("alembic", "mlflow"):
            logging.getLogger(name).setLevel(logging.ERROR)
        self._runs: dict[tuple[str, int], str] = {}
        self._broken = False
        self._classes: tuple[str, ...] = ()
        self.experiment_id = ""
        self.parent_run_id = ""
        path = sqlite_path(uri)
        try:
            if path is None:
                self._client = MlflowClient(tracking_uri=uri)
                self._client.search_experiments(max_results=1)
            else:
                path.parent.mkdir(parents=True, exist_ok=True)
                with lock_beside(path, "create"):  # two that create and migrate at once would break each other
                    with sqlite3.connect(path, timeout=60) as connection:
                        connection.execute("PRAGMA journal_mode=WAL")
                    connection.close()
                    self._client = MlflowClient(tracking_uri=uri)
                    self._client.search_experiments(max_results=1)
        except Exception as error:
            text = (str(error).splitlines() or [type(error).__name__])[0][:300]
            raise UsageError(
                f"--tracking-uri {uri} must be an MLflow store that answers, got: {text}. Start the server, or leave "
                "the option out for a file in the working folder"
            ) from error

    def start_sweep(
        self,
        study: str,
        conditions: Conditions,
        *,
        parent_run_id: str | None,
        settings: dict[str, str],
        undecided: Collection[str] = (),
    ) -> None:
        """Begin (or, with `parent_run_id`, go on with) a sweep; runs left RUNNING by a crash become KILLED.

        `undecided` are fields of the recipe that a probe will decide: MLflow's parameters are written once, so that
        the sweep's run gets them from `decide`.
        """
        self._classes = class_slugs(conditions.dataset.classes)
        self._conditions = conditions
        with self._guard():
            experiment = self._client.get_experiment_by_name(study)
            self.experiment_id = (
                experiment.experiment_id
                if experiment
                else self._client.create_experiment(study, artifact_location=self._artifacts(study))
            )
            self._client.set_experiment_tag(self.experiment_id, "mlflow.experimentKind", "custom_model_development")
            if parent_run_id and self._is_here(parent_run_id):
                for run in self._running(parent_run_id):
                    self._client.set_terminated(run.info.run_id, "KILLED")
                self.parent_run_id = parent_run_id
                self._client.update_run(parent_run_id, status="RUNNING")
                return
            tags = {"sweeper.kind": "sweep", **self._class_tags(), **self._fold_tags()}
            self.parent_run_id = self._create("sweep", tags)
            recipe = {key: value for key, value in self._recipe().items() if key.split(".")[1] not in undecided}
            self._log(self.parent_run_id, params={**recipe, "seed": str(conditions.seed), **settings})
            self._log_dataset(self.parent_run_id, "sweep")

    def decide(self, conditions: Conditions) -> None:
        """Take the recipe that a probe decided on; what the sweep's run lacks of it is written there."""
        self._conditions = conditions
        if self._broken:
            return
        with self._guard():
            have = self._client.get_run(self.parent_run_id).data.params
            self._log(self.parent_run_id, params={k: v for k, v in self._recipe().items() if k not in have})

    def training_started(self, spec: TrialSpec) -> None:
        """Open the training's run."""
        if self._broken:
            return
        with self._guard():
            # The family first: MLflow's table cuts names at their end.
            name = {
                "search": f"{spec.family} #{spec.number}",
                "recheck": f"{spec.family} recheck {spec.number}",
                "probe": f"{spec.family} probe {spec.steps} steps",
                "confirm": f"{spec.family} seed {spec.seed}" + ("" if spec.fold is None else f" fold {spec.fold + 1}"),
            }[spec.purpose]
            tags = {
                "sweeper.kind": "trial" if spec.purpose == "search" else spec.purpose,
                "sweeper.family": spec.family,
                "sweeper.trial": str(spec.number),
                "sweeper.state": "running",
                "mlflow.parentRunId": self.parent_run_id,
                **self._class_tags(),
            }
            run_id = self._create(name, tags)
            self._runs[spec.purpose, spec.number] = run_id
            params = {"loss.family": spec.family, "lr": _number(spec.lr), "seed": str(spec.seed)}
            params |= {f"loss.{name}": _number(value) for name, value in spec.params.items()}
            params |= {} if spec.fold is None else {"fold": str(spec.fold + 1)}
            self._log(run_id, params={**params, **self._recipe(), "steps": str(spec.steps)})
            self._log_dataset(run_id, "training")

    def training_evaluated(self, spec: TrialSpec, evaluation: Evaluation) -> None:
        """Log one evaluation, as one batch."""
        if self._broken:
            return
        with self._guard():
            values = self._scores("val", evaluation.chosen, evaluation.default)
            values |= {f"val/{self._point_name}": evaluation.point, "val/value": evaluation.value, "lr": evaluation.lr}
            if evaluation.train_loss is not None:
                values["train/loss"] = evaluation.train_loss
            self._log(self._runs[spec.purpose, spec.number], metrics=values, step=evaluation.step)

    def training_paused(self, spec: TrialSpec, result: TrialResult) -> None:
        """Say so in the run, which stays open."""
        self._state(spec, "waiting")

    def training_resumed(self, spec: TrialSpec, result: TrialResult) -> None:
        """Go on with its run; one of an earlier session was closed then, and gets a new one with the points so far."""
        if (spec.purpose, spec.number) in self._runs:
            self._state(spec, "running")
            return
        self.training_started(spec)
        for evaluation in result.evaluations:
            self.training_evaluated(spec, evaluation)

    def _state(self, spec: TrialSpec, state: str) -> None:
        run_id = self._runs.get((spec.purpose, spec.number))
        if run_id is not None and not self._broken:
            with self._guard():
                self._client.set_tag(run_id, "sweeper.state", state)

    def training_ended(self, spec: TrialSpec, result: TrialResult) -> TrialResult:
        """Close the run; the result with the run's id in it."""
        if (spec.purpose, spec.number) not in self._runs and result.evaluations:
            self.training_resumed(spec, result)  # it waited since an earlier session
        run_id = self._runs.pop((spec.purpose, spec.number), None)
        if run_id is None or self._broken:
            return result
        with self._guard():
            tags = {"sweeper.state": result.state, "sweeper.device": result.device}
            if result.collapse != Collapse.NONE:
                tags["sweeper.collapse"] = result.collapse.value
            if result.never_predicted:
                tags["sweeper.never_predicted"] = ", ".join(result.never_predicted)[:5000]
            if result.reason:
                tags["sweeper.reason"] = result.reason
            values = {"seconds": result.seconds}
            if result.seconds_per_step is not None:
                values["seconds_per_step"] = result.seconds_per_step
            if result.test is not None:
                point = result.evaluations[-1].point
                default = metrics.default_point(self._conditions.dataset.task)
                chosen = metrics.scores(metrics.at_point(result.test, point))
                values |= self._scores("test", chosen, metrics.scores(metrics.at_point(result.test, default)))
            if result.detail is not None:
                values |= {f"test/{name}": value for name, value in metrics.detail_scores(result.detail).items()}
            step = result.evaluations[-1].step if result.evaluations else 0
            self._log(run_id, metrics=values, tags=tags, step=step)
            self._client.set_terminated(run_id, STATUS[result.state])
        return result.model_copy(update={"run_id": run_id})

    def training_kept(self, result: TrialResult) -> None:
        """Nothing: the run was closed when the training ended."""

    def training_dropped(self, spec: TrialSpec, reason: str) -> None:
        """Close the run of a training that was cut off."""
        run_id = self._runs.pop((spec.purpose, spec.number), None)
        if run_id is not None and not self._broken:
            with self._guard():
                self._log(run_id, tags={"sweeper.state": "abandoned", "sweeper.reason": reason})
                self._client.set_terminated(run_id, "KILLED")

    def end_sweep(
        self,
        status: str,
        *,
        note: str = "",
        folder: Path | None = None,
        tags: dict[str, str] | None = None,
        values: dict[str, float] | None = None,
    ) -> None:
        """Close the parent run with MLflow status `status`, and as killed whatever still runs below it.

        The report's folder goes with it as artifacts, `note` becomes its description and the experiment's, `values`
        its metrics.
        """
        if self._broken:
            return
        with self._guard():
            for run_id in self._runs.values():
                self._client.set_terminated(run_id, "KILLED")
            self._runs.clear()
            if folder is not None:
                self._client.log_artifacts(self.parent_run_id, str(folder), "report")
            all_tags = dict(tags or {})
            if note:
                all_tags[NOTE] = note if len(note) <= NOTE_LIMIT else note[: NOTE_LIMIT - 1] + "…"
                self._client.set_experiment_tag(self.experiment_id, NOTE, all_tags[NOTE][:EXPERIMENT_NOTE_LIMIT])
            self._log(self.parent_run_id, metrics=values, tags=all_tags)
            self._client.set_terminated(self.parent_run_id, status)

    @property
    def _point_name(self) -> str:
        return "threshold" if self._conditions.dataset.task == "binary" else "tau"

    @property
    def _default_name(self) -> str:
        return "miou_at_0.5" if self._conditions.dataset.task == "binary" else "miou_at_tau_0"

    def _scores(self, split: str, chosen: Scores, default: Scores) -> dict[str, float]:
        values = {
            f"{split}/miou": chosen.miou,
            f"{split}/{self._default_name}": default.miou,
            f"{split}/dice": chosen.dice,
        }
        if chosen.fg_iou is not None:
            values[f"{split}/fg_iou"] = chosen.fg_iou
        for name, per_class in (("iou", chosen.iou), ("precision", chosen.precision), ("recall", chosen.recall)):
            pairs = zip(self._classes, per_class, strict=True)
            values |= {f"{split}/{name}/{label}": value for label, value in pairs if value is not None}
        return values

    def _class_tags(self) -> dict[str, str]:
        pairs = zip(self._classes, self._conditions.dataset.classes, strict=True)
        return {f"sweeper.class.{label}": name for label, name in pairs if label != name}

    def _fold_tags(self) -> dict[str, str]:
        """That no picture was held out from the search, where it is so."""
        folds = self._conditions.folds
        return {} if folds is None else {"sweeper.held_out": "false", "sweeper.folds": str(folds)}

    def _recipe(self) -> dict[str, str]:
        return {f"recipe.{key}": str(value) for key, value in self._conditions.recipe.model_dump().items()}

    def _create(self, name: str, tags: dict[str, str]) -> str:
        run = self._client.create_run(self.experiment_id, tags=tags, run_name=name)
        run_id: str = run.info.run_id
        return run_id

    def _is_here(self, run_id: str) -> bool:
        """Whether this store knows the run (a resume may name another store)."""
        try:
            found: str = self._client.get_run(run_id).info.experiment_id
        except MlflowException:
            return False
        return found == self.experiment_id

    def _running(self, parent_run_id: str) -> list[Run]:
        """This sweep's own trainings that are still open: others may share the experiment's name."""
        mine = f"attributes.status = 'RUNNING' and tags.mlflow.parentRunId = '{parent_run_id}'"
        return list(self._client.search_runs([self.experiment_id], mine, max_results=50_000))

    def _log_dataset(self, run_id: str, context: str) -> None:
        dataset = self._conditions.dataset
        tracked = TrackedDataset(
            name=dataset.name,
            digest=dataset.digest.removeprefix("sha256:")[:36],
            source_type="synthetic" if dataset.synthetic else "local",
            source=dataset.source,
        )
        inputs = [DatasetInput(tracked, [InputTag("mlflow.data.context", context)])]
        self._client.log_inputs(run_id, inputs)

    def _log(
        self,
        run_id: str,
        *,
        metrics: dict[str, float] | None = None,
        params: dict[str, str] | None = None,
        tags: dict[str, str] | None = None,
        step: int = 0,
    ) -> None:
        now = int(self._clock() * 1000)
        # MLflow turns infinity into 1.8e308; such values are left out and the collapse tag says why.
        finite = {key: value for key, value in (metrics or {}).items() if math.isfinite(value)}
        self._client.log_batch(
            run_id,
            metrics=[Metric(key, value, now, step) for key, value in finite.items()],
            params=[Param(key, value[:PARAM_LIMIT]) for key, value in (params or {}).items()],
            tags=[RunTag(key, value) for key, value in (tags or {}).items()],
            synchronous=True,
        )

    def _artifacts(self, study: str) -> str | None:
        """Beside a SQLite store (its own default when that is in the working folder); a server decides for itself."""
        path = sqlite_path(self._uri)
        return None if path is None else (path.resolve().parent / "mlruns" / folder_name(study)).as_uri()

    @contextmanager
    def _guard(self) -> Iterator[None]:
        """A store that fails costs its copies, not the sweep: the study's storage has everything.

        After the first failure nothing more is sent: each call to a server that is away would hold up the trainings.
        """
        try:
            yield
        except Exception as error:
            self._broken = True
            text = " ".join(str(error).split())[:300]
            self._warn(
                f"MLflow at {self._uri} failed: {text}. Nothing more is written there, and runs may show as RUNNING; "
                "the sweep goes on, its storage and the report have everything"
            )


def _number(value: float) -> str:
    return f"{value:.6g}"
