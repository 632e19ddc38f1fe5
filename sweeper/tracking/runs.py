"""A training as a run that MLflow is to have: a function of what the study knows of it, and of nothing else.

A sweep at work and `sweeper mlflow` call these alike, so that both write the same run.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sweeper import storage as studies
from sweeper.core.records import TrialResult, TrialSpec
from sweeper.tracking.values import USED_FOR, DatasetUsed, Values

if TYPE_CHECKING:
    import optuna

PAUSED = "SCHEDULED"
"""MLflow's status of a run that waits: RUNNING is what somebody works on."""
STATUS = {"complete": "FINISHED", "pruned": "FINISHED", "failed": "FAILED"}


class Training(NamedTuple):
    """What the study knows of a training; times are seconds since 1970."""

    result: TrialResult
    """What it gave; where it is paused, so far."""
    started: float
    ended: float
    paused: bool = False
    """It waits at a rung."""


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
    status: str
    end: int
    points: tuple[Point, ...] = ()
    last: Point | None = None
    """Values that MLflow is to show, whatever it has."""


def name_of(spec: TrialSpec) -> str:
    """`search/00012`: by what the study knows a training's run."""
    return f"{spec.purpose}/{spec.number:05d}"


def run_of(training: Training, values: Values, parent_run_id: str) -> DesiredRun:
    """The run of a training below the sweep's run."""
    result, spec, start = training.result, training.result.spec, int(training.started * 1000)
    run = DesiredRun(
        name=values.name(spec),
        tags={**values.tags(spec), "mlflow.parentRunId": parent_run_id},
        params=values.params(spec),
        dataset=values.dataset(USED_FOR[spec.purpose]),
        start=start,
        status=PAUSED,
        end=start + int(result.seconds * 1000),
        points=tuple(Point(values.of_evaluation(e), e.step, start + int(e.seconds * 1000)) for e in result.evaluations),
    )
    if training.paused:
        return run
    metrics, tags = values.of_result(result)
    last = Point(metrics, result.evaluations[-1].step if result.evaluations else 0, run.end)
    return run._replace(tags=run.tags | tags, last=last, status=STATUS[result.state])


def trainings_of(study: optuna.Study, created: float) -> list[Training]:
    """All trainings of a study, in the order they ended.

    A trial's times are those that Optuna kept. Of other trainings only the duration is known: they begin with the
    study (probes) or when the search had ended.

    Args:
        study: it.
        created: when it was made.

    Raises:
        DamagedError: if a result is not what was stored.
    """
    trials = {trial.number: trial for trial in study.get_trials(deepcopy=False)}
    searched = max((t.datetime_complete.timestamp() for t in trials.values() if t.datetime_complete), default=created)

    def training(result: TrialResult, paused: bool) -> Training:
        if result.spec.purpose != "search":
            started = created if result.spec.purpose == "probe" else searched
            return Training(result, started, started + result.seconds)
        trial = trials[result.spec.number]
        started = trial.datetime_start.timestamp() if trial.datetime_start else created
        ended = trial.datetime_complete.timestamp() if trial.datetime_complete else started + result.seconds
        return Training(result, started, ended, paused)

    found = [training(result, paused=False) for result in studies.all_results(study)]
    found += [training(result, paused=True) for result in studies.waiting_results(study)]
    return sorted(found, key=lambda training: training.ended)
