"""Wrappers of all private names of Optuna that sweeper uses; no other module uses any.

Optuna has no public way to continue a trial in a later session, to end it there, or to requeue it: its functions need
the `Trial` returned by `ask`. tests/storage/test_optuna_internals.py tests each name, and so finds a release that
renames one.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterator
from contextlib import contextmanager
from copy import copy
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage
from optuna.storages._rdb.models import StudyUserAttributeModel, TrialModel
from optuna.trial import FrozenTrial, TrialState, create_trial
from sqlalchemy import select
from sqlalchemy.orm import Session

from sweeper.storage.record_format import RESULT, WAITS

CACHE_CALLS = ("_create_new_trial", "_set_trial_param", "_get_best_trial_id", "_get_trials")
"""Private methods of `RDBStorage` through which Optuna's cache queries the database."""


def get_trial_id(trial: FrozenTrial | optuna.Trial) -> int:
    """Return the database's id of a trial, which is not its number within the study."""
    return trial._trial_id


def get_id_of_number(study: optuna.Study, number: int) -> int:
    """Return the database's id of the trial with this number."""
    return get_base_storage(study).get_trial_id_from_study_id_trial_number(study._study_id, number)


def get_base_storage(study: optuna.Study) -> BaseStorage:
    """Return the storage of a study, or Optuna's cache in front of it."""
    return study._storage


@contextmanager
def freeze_trials(study: optuna.Study) -> Iterator[None]:
    """Let the block see a snapshot of the trials, with those that wait at a rung as stopped.

    TPE with a constant liar reads all trials for each of its groups, one per family, and each reading queries all
    unfinished trials. They cannot change in between: an ask is one call of one process.
    """
    read = study._get_trials

    def cached(
        deepcopy: bool = True, states: Container[TrialState] | None = None, use_cache: bool = False
    ) -> list[FrozenTrial]:
        shown = [_make_stopped_copy(trial) for trial in read(deepcopy, None, use_cache=True)]
        return [trial for trial in shown if states is None or trial.state in states]

    study._get_trials = cached  # type: ignore[method-assign]
    try:
        yield
    finally:
        del study._get_trials


def _make_stopped_copy(trial: FrozenTrial) -> FrozenTrial:
    """Return a waiting or promoted trial as a stopped one; any other trial unchanged."""
    if trial.state != TrialState.RUNNING or WAITS not in trial.user_attrs:
        return trial
    stopped = copy(trial)
    stopped.state = TrialState.PRUNED
    return stopped


def ask_skipping_queue(study: optuna.Study, fixed: dict[str, Any]) -> optuna.Trial:
    """Ask for a trial without the scan for queued trials; call it only when the queue is empty.

    `fixed` has parameters by name.
    """
    study._thread_local.cached_all_trials = None
    attributes = {"fixed_params": fixed} if fixed else {}
    template = create_trial(state=TrialState.RUNNING, system_attrs=attributes)
    return optuna.Trial(study, study._storage.create_new_trial(study._study_id, template))


def reset_trials(
    study: optuna.Study, *, queued: Collection[int], deleted: Collection[int], attributes: Collection[str]
) -> None:
    """Requeue the trials `queued` without results; delete the trials `deleted`, and the study's `attributes`."""
    cache: Any = study._storage
    storage = cache._backend
    with Session(storage.engine) as session, session.begin():
        for trial in session.scalars(select(TrialModel).where(TrialModel.study_id == study._study_id)):
            if trial.number in deleted:
                session.delete(trial)
            elif trial.number in queued:
                trial.state, trial.datetime_start, trial.datetime_complete = TrialState.WAITING, None, None
                trial.values, trial.intermediate_values = [], []
                kept = [
                    attribute for attribute in trial.user_attributes if attribute.key not in {RESULT, WAITS, "collapse"}
                ]
                trial.user_attributes = kept
        for attribute in session.scalars(select(StudyUserAttributeModel).filter_by(study_id=study._study_id)):
            if attribute.key in attributes:
                session.delete(attribute)
    study._storage = type(cache)(storage)  # an empty cache


class ReplayedTrial(optuna.Trial):
    """A trial interrupted during its ask: some of its parameters are stored, the others are drawn now.

    Draws are sequential, so those of the stored parameters are repeated and discarded.
    """

    def _suggest(self, name: str, distribution: BaseDistribution) -> Any:
        is_fixed = self._is_fixed_param(name, distribution) or distribution.single()
        drawn = not (is_fixed or self._is_relative_param(name, distribution))
        trial = self._get_latest_trial()
        if drawn and name in trial.distributions:
            self.study.sampler.sample_independent(self.study, trial, name, distribution)
        return super()._suggest(name, distribution)
