"""Trainings since the last check of the decoded images are dropped if these changed."""

from __future__ import annotations

import optuna

from sweeper.core.records import BudgetProbe
from sweeper.storage.optuna_internals import reset_trials
from sweeper.storage.record_format import (
    CHECKED,
    DROPPED,
    LOOKED,
    PROBED,
    RATES,
    SAME,
    TAKEN,
    pack,
    pack_value,
    unpack_value,
)
from sweeper.storage.results import measure_progress, read_budget_probe


def note_checked(study: optuna.Study) -> None:
    """Note that all that is trained so far saw the images as they were decoded."""
    study.set_user_attr(CHECKED, pack_value(measure_progress(study)))


def drop_unchecked(study: optuna.Study) -> list[str]:
    """Take back what was trained since `note_checked`, with all that follows from it: `search/00012` and the like.

    A trial that was there goes back to the queue as itself, and a later one is deleted, so that the study
    continues as if the session had not been.
    """
    checked, progress = unpack_value(study.user_attrs, CHECKED, {}), measure_progress(study)
    gone = [name for name, seen in progress.items() if checked.get(name) != seen]
    numbers = {name: int(name.partition("/")[2]) for name in gone if name.startswith("search/")}
    follows = [SAME, TAKEN, LOOKED, *([] if any(name.startswith("confirm/") for name in checked) else [RATES])]
    reset_trials(
        study,
        queued={number for name, number in numbers.items() if name in checked},
        deleted={number for name, number in numbers.items() if name not in checked},
        attributes=[*(name for name in gone if name not in numbers), *follows],
    )
    if (probe := read_budget_probe(study.user_attrs)) is not None:
        study.set_user_attr(PROBED, pack(BudgetProbe(first=probe.first)))
    dropped = [name for name in gone if progress[name]]
    study.set_user_attr(DROPPED, pack_value(dropped))
    return dropped
