"""Store and read results: of the search's trials with the trials, of all other trainings with the study."""

from __future__ import annotations

import os
import shlex
import socket
from collections.abc import Iterable, Mapping
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState, create_trial

from sweeper.core.base import Record
from sweeper.core.errors import DamagedError
from sweeper.core.records import (
    AnalysisTaken,
    BudgetProbe,
    InterimAnalysis,
    SameLosses,
    StudyRates,
    SweepRecord,
    TrialResult,
)
from sweeper.core.redact import hide_command_secrets
from sweeper.core.text import format_count
from sweeper.evidence.interim_analyses import DECIDING_SEEDS
from sweeper.storage.optuna_internals import get_base_storage, get_id_of_number, reset_trials
from sweeper.storage.plan import open_study, read_plan, unpack_options
from sweeper.storage.record_format import (
    ABANDONED,
    ATTEMPT_OF,
    CHECKED,
    CONCLUDED,
    CUT,
    DROPPED,
    EXPERIMENT,
    FINAL_ENDED,
    MACHINE,
    MARGIN,
    OVER,
    PARENT,
    PLANNED,
    PROBED,
    RATES,
    RESULT,
    RETRY_OF,
    RUNS,
    SAME,
    SESSION,
    SETTLES,
    TAKEN,
    WAITS,
    pack,
    pack_value,
    unpack,
    unpack_if,
    unpack_value,
)
from sweeper.storage.resilient_storage import RetryingStorage

BEFORE = ("probe", "rate", "first", "replicate")
"""Purposes of trainings before the confirmation and outside the search, from which finalists are chosen."""
EXTRAS = (*BEFORE, "confirm", "final")
"""Purposes of trainings outside the search."""
NOT_A_SHARE = "the value of a trial must be in [0, 1]"
"""Beginning of the reason for a trial with a value out of range."""


def is_counted(trial: FrozenTrial) -> bool:
    """Return whether a trial counts towards the total: it is finished, and no lost attempt."""
    return trial.state.is_finished() and ABANDONED not in trial.user_attrs


def list_present_trials(study: optuna.Study) -> list[FrozenTrial]:
    """Return the study's trials by number, without lost attempts and failed trials that are trained again."""
    trials = study.get_trials(deepcopy=False)
    replaced = {t.user_attrs[RETRY_OF] for t in trials if RETRY_OF in t.user_attrs}
    ended = [t for t in trials if ABANDONED not in t.user_attrs]
    return [t for t in ended if t.number not in replaced]


def count_trials(study: optuna.Study) -> int:
    """Count the study's trials: finished ones, those at a rung, and those with an unreported result."""
    return sum(
        trial.state.is_finished() or not {WAITS, RESULT}.isdisjoint(trial.user_attrs)
        for trial in list_present_trials(study)
    )


def read_result(trial: FrozenTrial) -> TrialResult:
    """Read the result of a counted trial.

    Raises:
        DamagedError: if the stored result was changed.
    """
    return unpack(TrialResult, trial.user_attrs.get(RESULT), f"the result of trial {trial.number}")


def search_results(study: optuna.Study) -> list[TrialResult]:
    """Return the results of all counted trials, by number."""
    return [read_result(t) for t in list_present_trials(study) if is_counted(t)]


def list_extra_results(study: optuna.Study, purpose: str) -> list[TrialResult]:
    """Return the results of all trainings of a purpose other than `search`, by number."""
    return parse_extra_results(study.user_attrs, purpose)


def list_compared_results(study: optuna.Study) -> list[TrialResult]:
    """Return the results of all trainings on the confirmation's seeds, whatever they were begun for."""
    return [r for purpose in ("first", "replicate", "confirm") for r in list_extra_results(study, purpose)]


def list_all_results(study: optuna.Study) -> list[TrialResult]:
    """Return the results of all trainings, the search's last."""
    extra = [r for purpose in EXTRAS for r in list_extra_results(study, purpose)]
    return extra + search_results(study)


def parse_extra_results(attributes: Mapping[str, Any], purpose: str) -> list[TrialResult]:
    """Read the results of all trainings of a purpose other than `search` from a study's attributes, by number."""
    keys = sorted(key for key in attributes if key.startswith(f"{purpose}/"))
    return [unpack(TrialResult, attributes[key], f"the training {key}") for key in keys]


def store_extra(study: optuna.Study, result: TrialResult) -> None:
    """Store a training outside the search with the study, as `confirm/00000` and the like."""
    study.set_user_attr(result.spec.name, pack(result))


def list_waiting_results(study: optuna.Study) -> list[TrialResult]:
    """List the results so far of the trials that wait at a rung, by number."""
    trials = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    return [read_waiting_result(t) for t in trials if WAITS in t.user_attrs]


def read_waiting_result(trial: FrozenTrial) -> TrialResult:
    """Read the result so far of a trial that waits at a rung.

    Raises:
        DamagedError: if the stored result was changed.
    """
    return unpack(TrialResult, trial.user_attrs[WAITS], f"what trial {trial.number} gave before it was paused")


def report_step(study: optuna.Study, number: int, step: int, value: float) -> None:
    """Store a running trial's value at a step, on the images that all rungs score."""
    get_base_storage(study).set_trial_intermediate_value(get_id_of_number(study, number), step, value)


def mark_paused(study: optuna.Study, result: TrialResult) -> None:
    """Store that a running trial waits at a rung, with its result so far."""
    get_base_storage(study).set_trial_user_attr(get_id_of_number(study, result.spec.number), WAITS, pack(result))


def store_result(study: optuna.Study, result: TrialResult) -> None:
    """Store the result of a running trial, then end the trial in Optuna; repeating this after a crash is harmless."""
    storage, trial_id = get_base_storage(study), get_id_of_number(study, result.spec.number)
    storage.set_trial_user_attr(trial_id, RESULT, pack(result))
    if result.has_collapsed:
        storage.set_trial_user_attr(trial_id, "collapse", result.collapse.value)
    if result.state == "complete":
        study.tell(result.spec.number, result.value)
    else:
        study.tell(result.spec.number, state=TrialState.PRUNED if result.state == "pruned" else TrialState.FAIL)


def reconcile_study(study: optuna.Study) -> int:
    """Prepare a study to continue after an interrupted session; return the number of interrupted trainings.

    A trial with a stored but unreported result is ended now. A trial at a rung keeps waiting; without its checkpoint it
    is trained again from its start, with the same numbers. Any other trial is requeued with its number and parameters,
    so that the search continues as if uninterrupted.
    """
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    for trial in running:
        if RESULT in trial.user_attrs:
            store_result(study, read_result(trial))
        elif WAITS not in trial.user_attrs:
            requeue_trial(study, trial.number)
    return sum(WAITS not in trial.user_attrs for trial in running)


def requeue_trial(study: optuna.Study, number: int) -> None:
    """Requeue a running trial with its number and parameters."""
    get_base_storage(study).set_trial_state_values(get_id_of_number(study, number), TrialState.WAITING)


def claim_trial(study: optuna.Study, number: int) -> FrozenTrial:
    """Take a trial that was begun before from the queue; no other process may take trials meanwhile."""
    get_base_storage(study).set_trial_state_values(get_id_of_number(study, number), TrialState.RUNNING)
    return study.get_trials(deepcopy=False)[number]


def record_lost_attempt(study: optuna.Study, number: int, reason: str) -> None:
    """Store an attempt at a running trial whose worker died."""
    trial = study.get_trials(deepcopy=False)[number]
    study.add_trial(
        create_trial(
            state=TrialState.FAIL,
            params=trial.params,
            distributions=trial.distributions,
            user_attrs={ABANDONED: reason, ATTEMPT_OF: number},
        )
    )


def count_lost_attempts(study: optuna.Study, number: int) -> int:
    """Count the workers that died while training a trial, in all sessions."""
    return sum(trial.user_attrs.get(ATTEMPT_OF) == number for trial in study.get_trials(deepcopy=False))


def list_failed_trials(study: optuna.Study) -> list[TrialResult]:
    """List the results of failed trials that a resume trains again, because their cause may have been fixed.

    A value out of range is excluded: the same training would give it again.
    """
    failed = [r for r in search_results(study) if r.state == "failed"]
    return [r for r in failed if not str(r.reason).startswith(NOT_A_SHARE)]


def retry_failed(study: optuna.Study) -> list[TrialResult]:
    """Queue the failed trials again, and return their failed results."""
    failed = list_failed_trials(study)
    trials = study.get_trials(deepcopy=False)
    for result in failed:
        study.enqueue_trial(trials[result.spec.number].params, user_attrs={RETRY_OF: result.spec.number})
    return failed


def note_runs(study: optuna.Study, runs: Mapping[str, str]) -> None:
    """Store the ids of the trainings' MLflow runs, by `search/00012` and the like, if they changed."""
    runs = dict(runs)  # a thread may be adding runs
    if study.user_attrs.get(RUNS, {}) != runs:
        study.set_user_attr(RUNS, runs)


def note_parent(study: optuna.Study, experiment_id: str, parent_run_id: str) -> bool:
    """Store MLflow's ids of the study's experiment and run; return whether the study had another run before."""
    before = study.user_attrs.get(PARENT)
    study.set_user_attr(EXPERIMENT, experiment_id)
    study.set_user_attr(PARENT, parent_run_id)
    return before not in (None, parent_run_id)


def link_runs(results: Iterable[TrialResult], attributes: Mapping[str, Any]) -> tuple[TrialResult, ...]:
    """Return the results with the ids of their MLflow runs from a study's attributes."""

    def link(result: TrialResult) -> TrialResult:
        run_id = attributes.get(RUNS, {}).get(result.spec.name)
        return result if run_id is None else result.model_copy(update={"run_id": run_id})

    return tuple(map(link, results))


def measure_progress(study: optuna.Study) -> dict[str, int]:
    """Return each training's progress, by `search/00012` and the like: evaluations, plus 1 with a result."""
    trials = {
        f"search/{trial.number:05d}": len(trial.intermediate_values) + (RESULT in trial.user_attrs)
        for trial in study.get_trials(deepcopy=False)
    }
    others = [name for name in study.user_attrs if name.startswith(tuple(f"{extra}/" for extra in EXTRAS))]
    return {**trials, **dict.fromkeys(others, 1)}


def check_rows(study: optuna.Study) -> None:
    """Refuse a study that has lost a training, or a part of one, since the last `note_checked`.

    Raises:
        DamagedError: with the first missing training.
    """
    progress = measure_progress(study)
    numbers = range(max((trial.number for trial in study.get_trials(deepcopy=False)), default=-1))
    wanted = {f"search/{n:05d}": 0 for n in numbers} | unpack_value(study.user_attrs, CHECKED, {})
    gone = sorted(name for name, seen in wanted.items() if progress.get(name, -1) < seen)
    if gone:
        missing = format_count(
            len(gone), "training is missing, or a part of it", "trainings are missing, or parts of them"
        )
        raise DamagedError(f"study {study.study_name!r}", f"{missing}: {', '.join(gone[:3])}")


def note_checked(study: optuna.Study) -> None:
    """Record that all trainings so far used unchanged decoded images."""
    study.set_user_attr(CHECKED, pack_value(measure_progress(study)))


def drop_unchecked(study: optuna.Study) -> list[str]:
    """Discard all training since `note_checked`, and all results from it; return names like `search/00012`.

    Trials from before are requeued, later ones are deleted, so that the study continues as if the session had not
    happened.
    """
    checked, progress = unpack_value(study.user_attrs, CHECKED, {}), measure_progress(study)
    gone = [name for name, seen in progress.items() if checked.get(name) != seen]
    numbers = {name: int(name.partition("/")[2]) for name in gone if name.startswith("search/")}
    has_used_rates = any(name.startswith(("first/", "search/")) for name in checked)
    follows = [SAME, TAKEN, FINAL_ENDED, *([] if has_used_rates else [RATES])]
    queued = {number for name, number in numbers.items() if name in checked}
    others = [name for name in gone if name not in numbers]
    reset_trials(study, queued=queued, deleted={*numbers.values()} - queued, attributes=[*others, *follows])
    if (probe := read_budget_probe(study.user_attrs)) is not None:
        study.set_user_attr(PROBED, pack(BudgetProbe(first=probe.first)))
    dropped = [name for name in gone if progress[name]]
    study.set_user_attr(DROPPED, pack_value(dropped))
    return dropped


def format_run_command(options: dict[str, Any], source: str) -> str:
    """Return the command with these options; `source` of its data is in it even if it was the default."""
    data = options.pop("data", None if "images" in options else source)
    pairs = [(name, one) for name, value in options.items() for one in (value if isinstance(value, list) else [value])]
    words = [word for name, value in pairs for word in (f"--{name.replace('_', '-')}", str(value))]
    return hide_command_secrets(shlex.join(["sweeper", "run", *filter(None, [data]), *words]))


def load_sweep(storage: RetryingStorage, name: str) -> SweepRecord:
    """Load all data for the report from only the storage.

    Raises:
        StudyError: as `read_plan`.
    """
    plan = read_plan(storage, name)
    study = open_study(storage, name)
    check_rows(study)
    attributes = study.user_attrs
    trials = study.get_trials(deepcopy=False)
    probe = read_budget_probe(attributes) or BudgetProbe(first=0)
    return SweepRecord(
        study=name,
        storage=storage.address,
        created=plan.created,
        conditions=plan.conditions,
        profile=plan.profile,
        space=plan.space,
        imbalance=plan.imbalance,
        trials_asked=int(unpack_value(attributes, "trials", 0)),
        settles=bool(attributes.get(SETTLES, False)),
        margin=float(unpack_value(attributes, MARGIN, 0.01)),
        trials=link_runs(search_results(study), attributes),
        abandoned=sum(ABANDONED in t.user_attrs for t in trials),
        confirmations=link_runs(parse_extra_results(attributes, "confirm"), attributes),
        probes=link_runs(parse_extra_results(attributes, "probe"), attributes),
        at_rates=link_runs(parse_extra_results(attributes, "rate"), attributes),
        first=link_runs(parse_extra_results(attributes, "first"), attributes),
        replications=link_runs(parse_extra_results(attributes, "replicate"), attributes),
        final=link_runs(parse_extra_results(attributes, "final"), attributes),
        budget=probe.sentence,
        learned=probe.learned,
        rungs=probe.rungs,
        minutes=probe.minutes,
        rates=read_rates(attributes),
        same_losses=(read_equivalent_losses(attributes) or SameLosses(trials=0, found=())).found,
        analyses_planned=read_planned_analyses(attributes),
        analyses_taken=read_analyses(attributes).analyses,
        cut=tuple(attributes.get(CUT, [])),
        experiment_id=attributes.get("experiment_id"),
        parent_run_id=attributes.get("parent_run_id"),
        seconds=float(attributes.get("seconds", 0.0)),
        command=format_run_command(unpack_options(attributes), plan.conditions.dataset.source),
        places=str(attributes.get("places", "")),
        concluded=is_concluded(attributes),
        conclusions=max(1, len(unpack_value(attributes, CONCLUDED, []))),
        workers=attributes.get("workers"),
        machine=unpack_value(attributes, MACHINE, {}),
        versions=plan.versions,
    )


def read_budget_probe(attributes: Mapping[str, Any]) -> BudgetProbe | None:
    """Read the result of the budget probe; None before there is one."""
    return unpack_if(BudgetProbe, attributes, PROBED, "the record of the budget probe")


def read_rates(attributes: Mapping[str, Any]) -> StudyRates | None:
    """Read the learning rates of a study's losses; None before they were found."""
    return unpack_if(StudyRates, attributes, RATES, "the learning rates")


def read_equivalent_losses(attributes: Mapping[str, Any]) -> SameLosses | None:
    """Read which search trials are equivalent to a simpler loss; None before that was measured."""
    return unpack_if(SameLosses, attributes, SAME, "the record of losses that are the same")


class StoredAnalysis(Record):
    """Interim analysis with the state that an interrupted session needs to continue."""

    found: AnalysisTaken
    used: tuple[str, ...]
    """Names of the trainings in the analysis."""
    go_on: bool
    """Whether the confirmation continues; studies store this name."""
    families: tuple[str, ...]
    """Finalists that continue."""


class StoredAnalyses(Record):
    """The interim analyses of one confirmation, with its finalists and plan."""

    finalists: tuple[str, ...] = ()
    """Each finalist's configuration, as text."""
    steps: int = 0
    planned: tuple[InterimAnalysis, ...] = ()
    shown: int = 0
    """Number of planned analyses, from the first, that were made, also of other finalists."""
    stored: tuple[StoredAnalysis, ...] = ()
    cut: AnalysisTaken | None = None
    """Analysis when the time limit was reached between two planned ones."""

    @property
    def analyses(self) -> tuple[AnalysisTaken, ...]:
        """Analyses for the report; one at the time limit replaces a planned one of the same seeds."""
        analyses = [analysis.found for analysis in self.stored]
        if self.cut is None:
            return tuple(analyses)
        return (*(analysis for analysis in analyses if analysis.seeds != self.cut.seeds), self.cut)

    @property
    def made(self) -> tuple[InterimAnalysis, ...]:
        """The plan's analyses that were made; one at the time limit spent what the next planned one would have."""
        made = self.planned[: self.shown]
        seeds = 0 if self.cut is None else self.cut.seeds
        if seeds < max([DECIDING_SEEDS, *(analysis.seeds + 1 for analysis in made)]):
            return made
        return (*made, self.planned[self.shown].model_copy(update={"seeds": seeds}))


def read_analyses(attributes: Mapping[str, Any]) -> StoredAnalyses:
    """Read the interim analyses from a study's attributes."""
    return unpack_if(StoredAnalyses, attributes, TAKEN, "the record of the interim analyses") or StoredAnalyses()


def read_planned_analyses(attributes: Mapping[str, Any]) -> tuple[InterimAnalysis, ...]:
    """Read the planned interim analyses; () before they are planned."""
    return tuple(map(InterimAnalysis.model_validate, unpack_value(attributes, PLANNED, [])))


def note_session(study: optuna.Study) -> None:
    """Record that this process has begun a session, which is not concluded."""
    study.set_user_attr(OVER, pack_value(False))
    study.set_user_attr(SESSION, f"process {os.getpid()} on {socket.gethostname()}")


def is_concluded(attributes: Mapping[str, Any]) -> bool:
    """Return whether a study's last session was concluded."""
    return bool(unpack_value(attributes, OVER, False))


def note_conclusion(study: optuna.Study) -> None:
    """Record that the session is concluded, and how the test scores were used, if that is new.

    Other finalists or steps are another chance of error; more seeds and another margin are not, as all interim analyses
    share one error. Without confirmations no test scores were used.
    """
    study.set_user_attr(OVER, pack_value(True))
    attributes, analyses = study.user_attrs, read_analyses(study.user_attrs)
    if not analyses.finalists:
        return
    drawn = [list(analyses.finalists), analyses.steps]
    concluded = list(unpack_value(attributes, CONCLUDED, []))
    if not concluded or concluded[-1] != drawn:
        study.set_user_attr(CONCLUDED, pack_value([*concluded, drawn]))
