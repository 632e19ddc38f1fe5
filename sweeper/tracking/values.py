"""Values of MLflow's runs: names, tags, parameters and metrics. This module sends nothing.

A running sweep and `sweeper studies sync` both use these functions, and so write the same runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from mlflow.entities import Dataset, DatasetInput, InputTag

from sweeper import storage as studies
from sweeper.core import metrics, own_metric
from sweeper.core.metrics import compute_detail_scores
from sweeper.core.paths import make_class_slugs
from sweeper.core.recipe import OF_SCRIPT
from sweeper.core.records import Collapse, Conditions, Evaluation, MetricScores, PartScores, TrialResult, TrialSpec
from sweeper.core.redact import redact
from sweeper.core.tasks import RULES, list_values

if TYPE_CHECKING:
    import optuna


NOTE = "mlflow.note.content"
NOTE_LIMIT = 8000
"""Characters after which MLflow cuts a run's note."""
EXPERIMENT_NOTE_LIMIT = 5000
"""Characters after which MLflow cuts an experiment's tag."""
TAG_LIMIT = 5000
USED_FOR = {
    "search": "search",
    "probe": "budget",
    "rate": "learning rate",
    "first": "first look",
    "replicate": "replication",
    "confirm": "confirmation",
    "final": "final training",
}
"""Purpose of a training → its use of the data set."""
STATE, AT_WORK = "sweeper.state", "running"
"""Tag of a training's state, and its value during the training."""
MARKER = "lr"
"""A metric of every evaluation, written last: an evaluation with it is complete in MLflow."""


OPENS_PARENT = {"mlflow.runType": "evaluation"}
"""Tag of a child run that makes MLflow's table expand the parent at the first visit."""


def make_dataset_input(name: str, digest: str, kind: str, source: str, used_for: str) -> DatasetInput:
    """Make the data set for MLflow's panel, without secrets in its source."""
    entity = Dataset(name=name, digest=digest[:36], source_type=kind, source=redact(source))
    return DatasetInput(entity, [InputTag("mlflow.data.context", used_for)])


class RunValues:
    """Names and numbers of one sweep's runs."""

    def __init__(self, conditions: Conditions) -> None:
        self.conditions = conditions
        self._classes = make_class_slugs(conditions.dataset.classes)
        self._rules = RULES[conditions.dataset.task]
        self._at_default = f"miou_at_{'tau_' * self._rules.is_exclusive}{self._rules.plain_point:g}"

    def make_dataset_input(self, used_for: str) -> DatasetInput:
        """Make the data set for MLflow's panel."""
        dataset = self.conditions.dataset
        kind = "synthetic" if dataset.synthetic else "local"
        return make_dataset_input(dataset.name, dataset.digest.removeprefix("sha256:"), kind, dataset.source, used_for)

    def make_recipe_params(self) -> dict[str, str]:
        """Make the `recipe.*` parameters."""
        recipe = self.conditions.recipe
        codes = {name: getattr(recipe, name) for name in ("model", "own_metric")}
        user_code = {name: None if code is None else f"{code.name} {code.digest}" for name, code in codes.items()}
        values = recipe.model_dump() | user_code
        if recipe.command is not None:
            values = {name: value for name, value in values.items() if name in OF_SCRIPT}
        return {f"recipe.{key}": str(value) for key, value in values.items()}

    def make_class_tags(self) -> dict[str, str]:
        """Return tags with the names of classes that differ from their slugs."""
        pairs = zip(self._classes, self.conditions.dataset.classes, strict=True)
        return {f"sweeper.class.{label}": name for label, name in pairs if label != name}

    def make_fold_tags(self) -> dict[str, str]:
        """Return the tags for folds, with which no image is held out from the search; else none."""
        folds = self.conditions.folds
        return {} if folds is None else {"sweeper.held_out": "false", "sweeper.folds": str(folds)}

    def make_run_name(self, spec: TrialSpec) -> str:
        """Return the name of a training's run, the family first, because MLflow's table cuts the end of names."""
        return {
            "search": f"{spec.family} #{spec.number}",
            "rate": f"{spec.family} lr {spec.lr:.3g}",
            "replicate": f"{spec.family} replication {spec.number}",
            "probe": f"{spec.family} probe {spec.steps} steps",
            "first": f"{spec.family} first look seed {spec.seed}",
            "confirm": f"{spec.family} {spec.seed_name}",
            "final": f"{spec.family} {spec.steps} steps seed {spec.seed}",
        }[spec.purpose]

    def make_tags(self, spec: TrialSpec) -> dict[str, str]:
        """Return the tags of a training's run before it has a result."""
        return {
            "sweeper.kind": "trial" if spec.purpose == "search" else spec.purpose,
            "sweeper.family": spec.family,
            "sweeper.trial": str(spec.number),
            STATE: "waiting",
            **OPENS_PARENT,
            **self.make_class_tags(),
        }

    def make_params(self, spec: TrialSpec) -> dict[str, str]:
        """Make the parameters of a training: loss, learning rate, seed and recipe."""
        params = {"loss.family": spec.family, "lr": format_parameter(spec.lr), "seed": str(spec.seed)}
        params |= {f"loss.{name}": format_parameter(value) for name, value in spec.params.items()}
        params |= {} if spec.fold is None else {"fold": str(spec.fold + 1)}
        return {**params, **self.make_recipe_params(), "steps": str(spec.steps)}

    def make_evaluation_metrics(self, evaluation: Evaluation) -> dict[str, float]:
        """Make the metrics of an evaluation: `val/…` of all validation images, `val_part/…` of the rungs' part of them.

        The last evaluation has both: `val_part` continues the rungs' curve, `val` is comparable between trainings. The
        marker comes last: large batches are sent in parts, and an evaluation with its marker is complete.
        """
        values: dict[str, float | None] = {"train/loss": evaluation.train_loss}
        if evaluation.complete:
            values |= self._list_evaluated("val", evaluation)
        if not evaluation.complete or evaluation.part is not None:
            values |= self._list_evaluated("val_part", evaluation.part_scores)
        return drop_missing({**values, MARKER: evaluation.lr})

    def make_result_metrics(self, result: TrialResult) -> tuple[dict[str, float], dict[str, str]]:
        """Make the metrics and tags of a finished training."""
        stints = [f"up to step {e.step}: {e.device}; {format_versions(e.versions)}" for e in result.earlier]
        texts = {
            STATE: result.state,
            "sweeper.device": result.device,
            **{f"sweeper.own_run.{tracker}": run for tracker, run in result.own_runs.items()},
            "sweeper.versions": format_versions(result.versions),
            "sweeper.earlier": " | ".join(stints),
            "sweeper.collapse": result.collapse.value if result.has_collapsed else "",
            "sweeper.never_predicted": ", ".join(result.missing_classes),
            "sweeper.reason": result.reason or "",
        }
        tags = {name: text[:TAG_LIMIT] for name, text in texts.items() if text}
        values: dict[str, float | None] = {"seconds": result.seconds, "seconds_per_step": result.seconds_per_step}
        if result.collapse == Collapse.DIVERGED and not result.evaluations[-1].complete:
            values |= {"val/value": 0.0, "val/miou": 0.0}  # no complete evaluation follows; it counts as 0
        if result.test is not None:
            point = result.evaluations[-1].point
            chosen, plain = (
                metrics.compute_scores(metrics.count_at_point(result.test, each), self.conditions.dataset.task)
                for each in (point, self._rules.plain_point)
            )
            metric = own_metric.resolve_verdict_metric(self.conditions.recipe.metric)
            compared = metrics.count_at_point(metrics.select_metric_counts(result.test, metric), point)
            groups = self.conditions.dataset.list_groups(result.test.images)
            summed = metrics.sum_image_rows(compared, metric, result.test.task, groups)
            classes = metrics.find_scored_classes(result.test, metric)
            values["test/value"] = float(metrics.compute_objective(summed, classes, metric))
            values |= self._make_score_metrics("test", chosen, plain)
        if result.detail is not None:
            values |= {
                f"test/{name}": value
                for name, value in compute_detail_scores(result.detail, self.conditions.dataset.task).items()
            }
        return drop_missing(values), tags

    def _list_evaluated(self, split: str, evaluation: PartScores) -> dict[str, float | None]:
        values = self._make_score_metrics(split, evaluation.chosen, evaluation.default)
        classes = self._rules.list_planes(len(self._classes)) and (f"/{label}" for label in self._classes)
        names = [f"{split}/{self._rules.point_key}{end}" for end in classes or ("",)]
        points = dict(zip(names, list_values(evaluation.point), strict=True))
        return {**values, **points, f"{split}/value": evaluation.value}

    def _make_score_metrics(self, split: str, chosen: MetricScores, default: MetricScores) -> dict[str, float | None]:
        values = {
            f"{split}/miou": chosen.miou,
            f"{split}/{self._at_default}": default.miou,
            f"{split}/dice": chosen.dice,
            f"{split}/fg_iou": chosen.fg_iou,
        }
        for name, per_class in (("iou", chosen.iou), ("precision", chosen.precision), ("recall", chosen.recall)):
            labels = (f"{split}/{name}/{label}" for label in self._classes)
            values |= dict(zip(labels, per_class, strict=True))
        return values


def drop_missing(values: Mapping[str, float | None]) -> dict[str, float]:
    """Return the metrics that have a value."""
    return {name: value for name, value in values.items() if value is not None}


def format_versions(versions: Mapping[str, str]) -> str:
    """Format versions: `python 3.11.7, torch 2.12.1`."""
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def format_parameter(value: float) -> str:
    """Format a parameter's value."""
    return f"{value:.6g}"


PAUSED = "SCHEDULED"
"""MLflow's status of a paused run; RUNNING is only for active runs."""
STATUS = {"complete": "FINISHED", "pruned": "FINISHED", "failed": "FAILED"}


class TrackedTraining(NamedTuple):
    """A training of the study, which started at a time in seconds since 1970."""

    result: TrialResult
    """Result; of a paused or running training the result so far."""
    started: float
    paused: bool = False
    """Whether the training waits at a rung."""
    running: bool = False
    """Whether the training is running."""

    @property
    def ended(self) -> float:
        """Time of the end, or of the pause."""
        return self.started + self.result.seconds


class MetricPoint(NamedTuple):
    """Values of metrics at a step; time in milliseconds since 1970."""

    metrics: dict[str, float]
    step: int
    at: int


class DesiredRun(NamedTuple):
    """A run that MLflow should have; times in milliseconds since 1970."""

    name: str
    tags: dict[str, str]
    params: dict[str, str]
    dataset: DatasetInput
    start: int
    status: str
    end: int
    points: tuple[MetricPoint, ...] = ()
    last: MetricPoint | None = None
    """Final values, which replace MLflow's latest ones."""


def run_of(training: TrackedTraining, values: RunValues, parent_run_id: str) -> DesiredRun:
    """Make the desired run of a training below the sweep's run."""
    result, spec, start = training.result, training.result.spec, int(training.started * 1000)
    run = DesiredRun(
        name=values.make_run_name(spec),
        tags={**values.make_tags(spec), "mlflow.parentRunId": parent_run_id},
        params=values.make_params(spec),
        dataset=values.make_dataset_input(USED_FOR[spec.purpose]),
        start=start,
        status=PAUSED,
        end=start + int(result.seconds * 1000),
        points=tuple(
            MetricPoint(values.make_evaluation_metrics(e), e.step, start + int(e.seconds * 1000))
            for e in result.evaluations
        ),
    )
    if training.running:
        return run._replace(status="RUNNING", tags=run.tags | {STATE: AT_WORK})
    if training.paused:
        return run
    metrics, tags = values.make_result_metrics(result)
    last = MetricPoint(metrics, result.evaluations[-1].step if result.evaluations else 0, run.end)
    return run._replace(tags=run.tags | tags, last=last, status=STATUS[result.state])


def list_tracked_trainings(study: optuna.Study, created: float) -> list[TrackedTraining]:
    """Return all trainings of a study, in the order they ended, without their pauses.

    A trial's start is Optuna's. For other trainings only the duration is known; their start is set to the study's
    creation (probes) or the end of the search.

    Raises:
        DamagedError: if a stored result was changed.
    """
    trials = study.get_trials(deepcopy=False)
    searched = max((t.datetime_complete.timestamp() for t in trials if t.datetime_complete), default=created)
    starts = {t.number: t.datetime_start.timestamp() for t in trials if t.datetime_start}

    def training(result: TrialResult, paused: bool) -> TrackedTraining:
        spec = result.spec
        started = starts[spec.number] if spec.purpose == "search" else {"probe": created}.get(spec.purpose, searched)
        return TrackedTraining(result, started, paused)

    tracked = [training(result, paused=False) for result in studies.list_all_results(study)]
    tracked += [training(result, paused=True) for result in studies.list_waiting_results(study)]
    return sorted(tracked, key=lambda training: training.ended)
