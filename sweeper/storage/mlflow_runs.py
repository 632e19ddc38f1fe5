"""Which MLflow runs show a study: noted with it once they are there, for the report's links."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import optuna

from sweeper.core.records import TrialResult
from sweeper.storage.attributes import EXPERIMENT, PARENT, RUNS


def note_runs(study: optuna.Study, runs: Mapping[str, str]) -> None:
    """Keep the trainings' runs (by `search/00012` and the like) in the MLflow store in use, where they changed."""
    runs = dict(runs)  # a thread may be adding to them
    if study.user_attrs.get(RUNS, {}) != runs:
        study.set_user_attr(RUNS, runs)


def note_parent(study: optuna.Study, experiment_id: str, parent_run_id: str) -> None:
    """Keep the run of the whole sweep there."""
    study.set_user_attr(EXPERIMENT, experiment_id)
    study.set_user_attr(PARENT, parent_run_id)


def linked(results: Iterable[TrialResult], attributes: Mapping[str, Any]) -> tuple[TrialResult, ...]:
    """The same results with the runs that a study's attributes know."""

    def link(result: TrialResult) -> TrialResult:
        run_id = attributes.get(RUNS, {}).get(f"{result.spec.purpose}/{result.spec.number:05d}")
        return result if run_id is None else result.model_copy(update={"run_id": run_id})

    return tuple(map(link, results))
