"""The request for a study: what is given now, else what was given before, else the default. Resolved only here."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from sweeper.core.records import BudgetProbe, InterimAnalysis, Until
from sweeper.evidence.interim_analyses import plan_analyses
from sweeper.storage import OPTIONS, count_trials, pack_value, read_budget_probe, unpack_value
from sweeper.workflow.settings import (
    CONFIRM_SEEDS,
    LONGER,
    ROPE,
    TRIALS,
    Budget,
    Settings,
    parse_duration,
    resolve_budget_mode,
    seed_range,
)

if TYPE_CHECKING:
    import optuna

ELSEWHERE = {
    *("study", "resume", "storage", "tracking_uri", "log_to", "out", "cache"),
    *("workers", "threads", "executor", "ray_address"),
}
"""Settings that say where and how, not what: they are no part of the command that repeats a study."""


class StudyRequest(NamedTuple):
    """Request for a study."""

    trials: int
    """The search's total, or its end at the latest."""
    analyses: tuple[InterimAnalysis, ...]
    rope: float
    budget: Budget
    """Way to find the steps of the search: `given` by the user, or else the first at which a loss `learns`."""
    until: Until
    """When the confirmation ends at the latest."""
    confirm_steps: int | None
    """None = twice the search's."""
    timeout: float | None = None
    """Seconds that a session may take; None = any."""
    minutes: int | None = None
    """Time that steps and breadth are chosen for, where no steps were given; None = the default of the device."""
    seeds: tuple[int, int] | None = None
    """Seeds of a finalist, at least and at most; None where none were given."""
    longer: int | None = None
    """Times the confirmation's steps of the longer look; None = none is made."""
    longer_given: bool = False
    """Whether the user said so."""
    settles: bool = False
    """Whether the search ends by itself before its total, once trials bring no gain: where none was given."""


MACHINE = ("device", "executor", "ray_address", "workers", "threads", "command", "gpus_per_trial", "time_limit")
"""Settings that say how a machine is used; a resume takes those of the study's sessions before."""


def restore_machine_options(settings: Settings, stored: Mapping[str, Any]) -> Settings:
    """Return the settings of a resume: the machine is used as before, except for what is given now.

    On another device as many workers and threads as pay there; with another executor its own address.
    """
    changed, restored = settings.model_fields_set, dict(stored)
    for option, others in (("device", ("workers", "threads")), ("executor", ("ray_address",))):
        if option in changed and getattr(settings, option) not in ("auto", stored.get(option)):
            restored = {name: value for name, value in restored.items() if name not in others}
    return settings.model_copy(update={name: value for name, value in restored.items() if name not in changed})


def list_stored_options(settings: Settings) -> dict[str, Any]:
    """Return the options given on the command line, as they are stored with the study.

    A resume stores no device, which is as before, or another machine's.
    """
    excluded = ELSEWHERE | {"device"} if settings.resume else ELSEWHERE
    options = settings.model_dump(mode="json", exclude=excluded, exclude_none=True, exclude_defaults=True)
    # Who requests other seeds of a study that ended at *probable* wants it to continue.
    return {"until": "settled", **options} if settings.resume and "confirm_seeds" in options else options


def resolve_request(options: Mapping[str, Any], held: int = 0) -> StudyRequest:
    """Return the request that these options make, defaults filled in.

    Args:
        options: as `list_stored_options` returns them; for a resume those of earlier sessions, what is given now over
            them.
        held: trials that the study holds. A total below takes nothing away: the command asks for all of them again.
    """
    return StudyRequest(
        trials=max(held, int(options.get("trials", TRIALS))),
        settles="trials" not in options,
        analyses=plan_analyses(*seed_range(options.get("confirm_seeds", CONFIRM_SEEDS))),
        rope=float(options.get("rope", ROPE)),
        budget=resolve_budget_mode(options),
        until=options.get("until", "settled"),
        confirm_steps=options.get("confirm_steps"),
        longer=None
        if (times := options.get("longer", "none" if "command" in options else LONGER)) == "none"
        else int(times),
        longer_given="longer" in options,
        timeout=parse_duration(options["timeout"]) if "timeout" in options else None,
        minutes=options.get("minutes"),
        seeds=seed_range(options["confirm_seeds"]) if "confirm_seeds" in options else None,
    )


def read_request(study: optuna.Study, options: Mapping[str, Any] | None = None) -> StudyRequest:
    """Return what is asked of a study, as its budget allows.

    Args:
        study: keeps the options of its sessions, its trials and its budget.
        options: those given now; None = none are.
    """
    stored = unpack_value(study.user_attrs, OPTIONS, {})
    request = resolve_request({**stored, **(options or {})}, count_trials(study))
    return apply_budget(request, read_budget_probe(study.user_attrs))


def apply_budget(request: StudyRequest, probed: BudgetProbe | None) -> StudyRequest:
    """Return what is asked for, with trials, seeds and longer look as the time allows where none were given."""
    if probed is None or probed.breadth is None:
        return request
    trials = probed.breadth.trials if request.settles else request.trials
    analyses = plan_analyses(*probed.breadth.seeds) if request.seeds is None else request.analyses
    longer = request.longer if request.longer_given or probed.breadth.has_longer else None
    return request._replace(trials=trials, analyses=analyses, longer=longer)


def store_request(study: optuna.Study, request: StudyRequest) -> None:
    """Keep with the study how many trials and seeds it is to have."""
    study.set_user_attr("trials", pack_value(request.trials))
    study.set_user_attr("confirm_seeds", pack_value(request.analyses[-1].seeds))
