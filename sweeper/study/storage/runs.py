"""MLflow runs that got their ids after their results were stored: MLflow was away meanwhile."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import optuna

from sweeper.records import TrialResult
from sweeper.study.storage.attributes import RUN


def note_runs(study: optuna.Study, found: Mapping[str, str]) -> None:
    """Keep MLflow runs (by `search/00012` and the like) with the study: a trial that has ended takes nothing more."""
    for training, run_id in found.items():
        study.set_user_attr(f"{RUN}{training}", run_id)


def linked(results: Iterable[TrialResult], attributes: Mapping[str, Any]) -> tuple[TrialResult, ...]:
    """The same results with the runs that a study's attributes know."""

    def link(result: TrialResult) -> TrialResult:
        run_id = attributes.get(f"{RUN}{result.spec.purpose}/{result.spec.number:05d}")
        return result if run_id is None or result.run_id else result.model_copy(update={"run_id": run_id})

    return tuple(map(link, results))
