"""A study in MLflow without a sweep: a tracker that receives events, and what MLflow has afterwards."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import optuna
import pytest
from mlflow.entities import Run
from mlflow.tracking import MlflowClient

from sweeper import storage as studies
from sweeper.core.events import ResultStored
from sweeper.core.records import Conditions, SearchSpace, TrialResult, TrialSpec
from sweeper.storage import results
from sweeper.tracking import MlflowTracker
from tests.support import builders
from tests.support.faking import SPACE, new_plan


def make_study(name: str) -> optuna.Study:
    """Return an empty study in memory of three requested trials."""
    study = optuna.create_study(study_name=name, direction="maximize")
    study.set_user_attr("trials", studies.pack_value(3))
    return study


def begin_tracking(
    uri: str,
    study: optuna.Study | str,
    conditions: Conditions | None = None,
    *,
    warn: Callable[[str], None] = pytest.fail,
    space: SearchSpace = SPACE,
    created: str = "2026-11-20T07:00:00+00:00",
    status: str = "RUNNING",
    **options: Any,
) -> MlflowTracker:
    """Return a tracker of a study, or of a new one with this name."""
    tracker = MlflowTracker(uri, warn=warn, **options)
    plan = new_plan(space, conditions or builders.conditions()).model_copy(update={"created": created})
    tracker.begin_sweep(make_study(study) if isinstance(study, str) else study, plan, status=status)
    return tracker


def store_result(study: optuna.Study, result: TrialResult) -> None:
    """Store a result with the study, as the sweep does."""
    if result.spec.purpose != "search":
        studies.store_extra(study, result)
        return
    while len(study.trials) <= result.spec.number:
        study.ask()
    results.store_result(study, result)


def store_waiting(study: optuna.Study, result: TrialResult) -> None:
    """Store the result of a trial that waits at a rung."""
    while len(study.trials) <= result.spec.number:
        study.ask()
    results.mark_paused(study, result)


def train(tracker: MlflowTracker, result: TrialResult) -> TrialResult:
    """Notify the tracker of a completed training, and return its result."""
    tracker.notify(ResultStored(result))
    return result


def get_run(tracker: MlflowTracker, spec: TrialSpec | None = None) -> Run:
    """Return what MLflow has of a training, or of the sweep, once it has everything."""
    assert tracker.wait_until_written() is None
    mirror = tracker.mirror
    return mirror.client.get_run(mirror.parent_run_id if spec is None else mirror.run_ids[spec.name])


def read_steps(uri: str, experiment: str) -> dict[str, list[int]]:
    """Return the steps of val/miou in each training's run, by its kind and number."""
    client = MlflowClient(uri)
    steps_of: dict[str, list[int]] = {}
    for run in client.search_runs([experiment], "tags.sweeper.kind != 'sweep'", max_results=5000):
        name = f"{run.data.tags['sweeper.kind']}/{int(run.data.tags['sweeper.trial']):05d}"
        logged = [point.step for point in client.get_metric_history(run.info.run_id, "val/miou")]
        steps_of[name] = sorted(steps_of.get(name, []) + logged)
    return steps_of
