"""Results of trainings: the search's with their trials, all others with the study."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from sweeper.records import Collapse, TrialResult
from sweeper.study.storage.attributes import ABANDONED, RESULT, WAITS
from sweeper.study.storage.stored import pack, unpack


def counted(trial: FrozenTrial) -> bool:
    """Whether a trial counts towards the total: finished, and not an attempt that was cut off."""
    return trial.state.is_finished() and ABANDONED not in trial.user_attrs


def result_of(trial: FrozenTrial) -> TrialResult:
    """The result stored with a counted trial.

    Raises:
        DamagedError: if it is not what was stored.
    """
    return unpack(TrialResult, trial.user_attrs[RESULT], f"the result of trial {trial.number}", beside=trial.params)


def search_results(study: optuna.Study) -> list[TrialResult]:
    """Results of all counted trials, by number."""
    return [result_of(t) for t in study.get_trials(deepcopy=False) if counted(t) and RESULT in t.user_attrs]


def extra_results(study: optuna.Study, purpose: str) -> list[TrialResult]:
    """Results of all trainings of a purpose other than `search`, by number."""
    return results_in(study.user_attrs, purpose)


def all_results(study: optuna.Study) -> list[TrialResult]:
    """Results of all trainings, the search's last."""
    extra = [r for purpose in ("probe", "recheck", "confirm") for r in extra_results(study, purpose)]
    return extra + search_results(study)


def results_in(attributes: Mapping[str, Any], purpose: str) -> list[TrialResult]:
    """Results of all trainings of a purpose other than `search` in a study's attributes, by number."""
    keys = sorted(key for key in attributes if key.startswith(f"{purpose}/"))
    return [unpack(TrialResult, attributes[key], f"the training {key}") for key in keys]


def store_extra(study: optuna.Study, result: TrialResult) -> None:
    """Keep a training that is not one of the search's with the study, as `confirm/00000` and the like."""
    study.set_user_attr(f"{result.spec.purpose}/{result.spec.number:05d}", pack(result))


def waiting_results(study: optuna.Study) -> list[TrialResult]:
    """What the trials that wait at a rung gave so far, by number."""
    trials = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    return [waiting_result(t) for t in trials if WAITS in t.user_attrs]


def waiting_result(trial: FrozenTrial) -> TrialResult:
    """What a trial that waits at a rung gave so far.

    Raises:
        DamagedError: if it is not what was stored.
    """
    return unpack(TrialResult, trial.user_attrs[WAITS], f"what trial {trial.number} gave before it was paused")


def report(study: optuna.Study, number: int, step: int, value: float) -> None:
    """Note what a running trial reached at a step."""
    study._storage.set_trial_intermediate_value(_trial_id(study, number), step, value)


def wait(study: optuna.Study, result: TrialResult) -> None:
    """Note that a running trial waits at a rung, and what it gave so far."""
    study._storage.set_trial_user_attr(_trial_id(study, result.spec.number), WAITS, pack(result))


def end(study: optuna.Study, result: TrialResult) -> None:
    """Store the result of a running trial, then tell Optuna."""
    trial_id = _trial_id(study, result.spec.number)
    params = study._storage.get_trial(trial_id).params
    study._storage.set_trial_user_attr(trial_id, RESULT, pack(result, beside=params))
    if result.collapse != Collapse.NONE:
        study._storage.set_trial_user_attr(trial_id, "collapse", result.collapse.value)
    tell(study, result)


def _trial_id(study: optuna.Study, number: int) -> int:
    """Optuna's own functions take a Trial, which a later session does not have; the storage knows it by this."""
    return study._storage.get_trial_id_from_study_id_trial_number(study._study_id, number)


def tell(study: optuna.Study, result: TrialResult) -> None:
    """End a trial in Optuna by its stored result."""
    if result.state == "complete":
        study.tell(result.spec.number, result.value)
    else:
        study.tell(result.spec.number, state=TrialState.PRUNED if result.state == "pruned" else TrialState.FAIL)


def reconcile(study: optuna.Study) -> int:
    """Mark what an earlier crash left RUNNING as abandoned, and queue it once more; how many there were.

    A trial whose result was stored and not yet told when the crash came is told now: it is not trained twice. One that
    waited at a rung goes on waiting: if its checkpoint is gone, it is trained from its start to the same numbers.
    """
    left = [t for t in study.get_trials(deepcopy=False) if t.state == TrialState.RUNNING]
    for trial in left:
        if WAITS in trial.user_attrs and RESULT not in trial.user_attrs:
            continue
        if RESULT in trial.user_attrs:
            tell(study, result_of(trial))
        else:
            abandon(study, trial.number, "the sweep was cut off")
    return sum(WAITS not in trial.user_attrs for trial in left)


def abandon(study: optuna.Study, number: int, reason: str, *, deaths: int = 0) -> None:
    """End an attempt without counting it, and queue the same parameters again.

    `deaths` is how many workers died under this configuration so far.
    """
    trial = study.get_trials(deepcopy=False)[number]
    trial_id = trial._trial_id
    study._storage.set_trial_user_attr(trial_id, ABANDONED, reason)
    study.tell(number, state=TrialState.FAIL)
    fixed = dict(trial.system_attrs.get("fixed_params", {}))
    before = deaths or int(trial.user_attrs.get("deaths", 0))
    study.enqueue_trial({**fixed, **trial.params}, user_attrs={"deaths": before, "retry_of": number})
