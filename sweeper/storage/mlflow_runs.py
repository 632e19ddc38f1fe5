"""MLflow runs that got their ids after their results were stored: MLflow was away, or they were written again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import optuna

from sweeper.core.records import TrialResult
from sweeper.storage.attributes import EXPERIMENT, PARENT, PARENTS, RUN


def note_runs(study: optuna.Study, found: Mapping[str, str]) -> None:
    """Keep MLflow runs (by `search/00012` and the like) with the study: a trial that has ended takes nothing more."""
    for training, run_id in found.items():
        study.set_user_attr(f"{RUN}{training}", run_id)


def note_parent(study: optuna.Study, experiment_id: str, parent_run_id: str) -> None:
    """Keep the run of the whole sweep, beside those that it has in other MLflow stores."""
    parents = [run for run in study.user_attrs.get(PARENTS, []) if run != parent_run_id]
    if (before := study.user_attrs.get(PARENT)) not in (None, parent_run_id, *parents):
        parents.append(before)
    study.set_user_attr(PARENTS, [*parents, parent_run_id])
    study.set_user_attr(EXPERIMENT, experiment_id)
    study.set_user_attr(PARENT, parent_run_id)


def parents(study: optuna.Study) -> list[str]:
    """Runs of the whole sweep in any MLflow store, the one in use last."""
    before: list[str] = study.user_attrs.get(PARENTS, [])
    return before or [run for run in [study.user_attrs.get(PARENT)] if run is not None]


def linked(results: Iterable[TrialResult], attributes: Mapping[str, Any]) -> tuple[TrialResult, ...]:
    """The same results with the runs that a study's attributes know: these are the later ones."""

    def link(result: TrialResult) -> TrialResult:
        run_id = attributes.get(f"{RUN}{result.spec.purpose}/{result.spec.number:05d}")
        return result if run_id is None else result.model_copy(update={"run_id": run_id})

    return tuple(map(link, results))
