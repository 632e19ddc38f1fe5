"""A training as a run that MLflow is to have: a function of what the study knows of it, and of nothing else.

A sweep at work and `sweeper mlflow` call these alike, so that both write the same run.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from sweeper.core.records import Evaluation, TrialResult, TrialSpec
from sweeper.tracking.stored_trainings import Training
from sweeper.tracking.values import MARKER, USED_FOR, DatasetUsed, Values

PAUSED = "SCHEDULED"
"""MLflow's status of a run that waits: RUNNING is what somebody works on."""
OPEN = {"RUNNING", PAUSED}
STATUS = {"complete": "FINISHED", "pruned": "FINISHED", "failed": "FAILED"}


class Point(NamedTuple):
    """Values of metrics at a step; the time in milliseconds since 1970."""

    metrics: dict[str, float]
    step: int
    at: int


class DesiredRun(NamedTuple):
    """A run as MLflow is to have it; times in milliseconds since 1970."""

    name: str
    tags: dict[str, str]
    params: dict[str, str]
    dataset: DatasetUsed
    start: int
    marker: str = MARKER
    """A metric that every point has: MLflow has the points at whose steps it has this one."""
    points: tuple[Point, ...] = ()
    last: Point | None = None
    """Values that MLflow is to show, whatever it has."""
    status: str = "RUNNING"
    end: int | None = None


def name_of(spec: TrialSpec) -> str:
    """`search/00012`: by what the study knows a training's run."""
    return f"{spec.purpose}/{spec.number:05d}"


def run_of(training: Training, values: Values, parent_run_id: str) -> DesiredRun:
    """The run of a training that the study's storage holds."""
    run = begun(training.result.spec, training.started, values, parent_run_id)
    if training.paused:
        return waiting(evaluated(run, training.result.evaluations, values))
    return ended(run, training.result, values)


def begun(spec: TrialSpec, started: float, values: Values, parent_run_id: str) -> DesiredRun:
    """The run of a training that begins; `started` in seconds since 1970."""
    return DesiredRun(
        name=values.name(spec),
        tags={**values.tags(spec), "mlflow.parentRunId": parent_run_id},
        params=values.params(spec),
        dataset=values.dataset(USED_FOR[spec.purpose]),
        start=int(started * 1000),
    )


def evaluated(run: DesiredRun, evaluations: Iterable[Evaluation], values: Values) -> DesiredRun:
    """With these evaluations; one at a step that it has is the same once more, after a crash."""
    there = {point.step for point in run.points}
    new = [e for e in evaluations if e.step not in there]
    points = [Point(values.of_evaluation(e), e.step, run.start + int(e.seconds * 1000)) for e in new]
    return run._replace(points=(*run.points, *points))


def ended(run: DesiredRun, result: TrialResult, values: Values) -> DesiredRun:
    """With the result."""
    run = evaluated(run, result.evaluations, values)
    end = run.start + int(result.seconds * 1000)
    metrics, tags = values.of_result(result)
    step = result.evaluations[-1].step if result.evaluations else 0
    return run._replace(tags=run.tags | tags, last=Point(metrics, step, end), status=STATUS[result.state], end=end)


def waiting(run: DesiredRun) -> DesiredRun:
    """The training waits at a rung and may go on, in this session or another."""
    return run._replace(tags=run.tags | {"sweeper.state": "waiting"}, status=PAUSED)


def running(run: DesiredRun) -> DesiredRun:
    """The training goes on."""
    return run._replace(tags=run.tags | {"sweeper.state": "running"}, status="RUNNING")


def cut_off(run: DesiredRun, reason: str, at: float) -> DesiredRun:
    """The training was cut off at `at`, in seconds since 1970; where it begins again, it does so in this run."""
    tags = run.tags | {"sweeper.state": "abandoned", "sweeper.reason": reason}
    return run._replace(tags=tags, status="KILLED", end=int(at * 1000))
