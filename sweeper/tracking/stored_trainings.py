"""The trainings of a study, as its storage holds them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sweeper import storage as studies
from sweeper.core.records import TrialResult

if TYPE_CHECKING:
    import optuna


class Training(NamedTuple):
    """One of them; times are seconds since 1970."""

    result: TrialResult
    """What it gave; where it is paused, so far."""
    started: float
    ended: float
    paused: bool = False
    """It waits at a rung."""


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

    results = studies.linked(studies.all_results(study), study.user_attrs)
    found = [training(result, paused=False) for result in results]
    found += [training(result, paused=True) for result in studies.waiting_results(study)]
    return sorted(found, key=lambda training: training.ended)
