"""The request for a study: options given now, else those given before, else the defaults. Resolved only here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from sweeper.core.records import BudgetProbe, InterimAnalysis
from sweeper.evidence.interim_analyses import ERROR, ERROR_AFTER_LOOK, plan_analyses
from sweeper.storage import count_trials, list_extra_results, pack_value, read_budget_probe, unpack_options
from sweeper.storage.results import read_analyses
from sweeper.study.finalist import FINALISTS
from sweeper.workflow.settings import (
    DEFAULT_MARGIN,
    DEFAULT_SEEDS,
    TRIALS,
    FinalOptions,
    Settings,
    parse_duration,
    parse_final,
    parse_seed_range,
)

if TYPE_CHECKING:
    import optuna

ELSEWHERE = {*("study", "resume", "storage", "tracking_uri", "out", "cache"), "workers"}
"""Settings that say where and how, not what; the command that repeats a study does not contain them."""


class StudyRequest(NamedTuple):
    """Request for a study."""

    trials: int
    """Total number of trials, or the maximum if the search ends by itself."""
    analyses: tuple[InterimAnalysis, ...]
    margin: float
    finds_steps: bool
    """Whether the steps of the search are those at which losses can be compared, as none were given."""
    confirm_steps: int | None
    """None = twice the search's."""
    looks_first: bool = False
    """Whether the ladder's pair is compared before the search."""
    time: float | None = None
    """Seconds that a study is planned for, and after which each session ends; None = no end, and the device's plan."""
    seeds: tuple[int, int] | None = None
    """Seeds of a finalist, at least and at most; None where none were given."""
    final: FinalOptions | None = None
    """What is asked of the final training; None = none, as with folds."""
    final_given: bool = False
    """Whether the user asked for one."""
    finalists: int = FINALISTS
    """Most losses that are confirmed."""
    settles: bool = False
    """Whether the search ends by itself once trials bring no gain, as no total was given."""
    made: tuple[InterimAnalysis, ...] = ()
    """The interim analyses that were made, which every plan begins with."""
    has_looked: bool = False
    """Whether the study has a first look."""


MACHINE = ("device", "executor", "workers", "command")
"""Settings of the machine's use, which a resume takes from the study's earlier sessions."""


def restore_machine_options(settings: Settings, stored: Mapping[str, Any]) -> Settings:
    """Return the settings of a resume: the machine is used as before, except for options given now.

    Another device or executor gets its own default workers.
    """
    names = {"device", "workers", "command"} - settings.model_fields_set
    restored = settings.model_copy(update={name: stored[name] for name in names & stored.keys()})
    is_same = restored.executor == stored.get("executor") and settings.device in ("auto", stored.get("device"))
    return restored if is_same else restored.model_copy(update={"workers": settings.workers})


def list_stored_options(settings: Settings) -> dict[str, Any]:
    """Return the options given on the command line, as they are stored with the study.

    A resume does not store its device, which is the earlier one or belongs to another machine.
    """
    excluded = ELSEWHERE | {"device"} if settings.resume else ELSEWHERE
    return settings.model_dump(mode="json", exclude=excluded, exclude_none=True, exclude_defaults=True)


def resolve_request(
    options: Mapping[str, Any], held: int = 0, made: tuple[InterimAnalysis, ...] = (), *, has_looked: bool = False
) -> StudyRequest:
    """Return the request that these options make, with defaults filled in.

    `options` are as `list_stored_options` returns them, for a resume those of earlier sessions, updated by those given
    now. The study has `held` trials, of which a smaller total removes none, and these interim analyses and first look.
    """
    usual = "none" if "command" in options else "auto"
    final = parse_final("none" if "folds" in options else options.get("final", usual))
    time = parse_duration(options["time"]) if "time" in options else None
    seeds = parse_seed_range(options["seeds"]) if "seeds" in options else None
    finds_steps = not {"steps", "command"} & options.keys()
    request = StudyRequest(
        trials=max(held, int(options.get("trials", TRIALS))),
        settles="trials" not in options,
        analyses=(),
        margin=float(options.get("margin", DEFAULT_MARGIN)),
        finds_steps=finds_steps,
        confirm_steps=options.get("confirm_steps"),
        looks_first=finds_steps and "folds" not in options,
        final=final,
        final_given="final" in options,
        time=time,
        seeds=seeds,
        made=made,
        has_looked=has_looked,
    )
    return _plan_analyses(request, parse_seed_range(DEFAULT_SEEDS))


def read_request(study: optuna.Study, options: Mapping[str, Any] | None = None) -> StudyRequest:
    """Return the request for a study, within its budget.

    `options` are those given now; the study has those of its sessions, its trials, interim analyses and its budget.
    """
    asked, looked = {**unpack_options(study.user_attrs), **(options or {})}, list_extra_results(study, "first")
    made = read_analyses(study.user_attrs).made
    request = resolve_request(asked, count_trials(study), made, has_looked=bool(looked))
    return apply_budget(request, read_budget_probe(study.user_attrs))


def apply_budget(request: StudyRequest, probed: BudgetProbe | None) -> StudyRequest:
    """Return the request with the trials, seeds and looks that fit the time, unless they were given."""
    if probed is None or probed.breadth is None:
        return request
    trials = probed.breadth.trials if request.settles else request.trials
    keeps_final = request.final_given or probed.breadth.has_final
    final = request.final if keeps_final else None
    first = request.looks_first and probed.breadth.has_first
    return _plan_analyses(request._replace(trials=trials, final=final, looks_first=first), probed.breadth.seeds)


def _plan_analyses(request: StudyRequest, seeds: tuple[int, int]) -> StudyRequest:
    """Return the request with its plan of interim analyses, of these seeds unless others were given."""
    has_look = request.looks_first or request.has_looked
    error = ERROR_AFTER_LOOK if has_look else ERROR
    return request._replace(analyses=plan_analyses(*(request.seeds or seeds), error=error, made=request.made))


def store_request(study: optuna.Study, request: StudyRequest) -> None:
    """Store with the study how many trials and seeds it is to have."""
    study.set_user_attr("trials", pack_value(request.trials))
