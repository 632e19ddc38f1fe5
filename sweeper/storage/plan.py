"""The plan of a study: written at its creation, compared at each resume."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import optuna
from optuna.pruners import NopPruner

from sweeper.core.base import Record
from sweeper.core.errors import MissingStudyError, StudyError
from sweeper.core.own_metric import register_metric
from sweeper.core.records import Conditions, Dataset, ImbalanceProfile, SearchSpace
from sweeper.core.text import shorten, suggest_or_list
from sweeper.losses.own_losses import register_user_losses
from sweeper.storage.record_format import MACHINE, OPTIONS, PLAN, pack, pack_value, unpack, unpack_value
from sweeper.storage.resilient_storage import RetryingStorage

NAME_LIMIT = 200


class StudyPlan(Record):
    """Plan of a study."""

    created: str
    conditions: Conditions
    profile: ImbalanceProfile
    space: SearchSpace
    imbalance: float
    versions: dict[str, str]
    sources: dict[str, str] | None = None
    """Hash of each file of the user's training script; None = sweeper trains."""


def check_name(name: str) -> None:
    """Refuse names that are unfit for a database, folder or terminal.

    Raises:
        StudyError: if the name is empty, longer than 200 characters, or has control characters.
    """
    is_text = bool(name.strip()) and name.isprintable()
    if not is_text or len(name) > NAME_LIMIT:
        raise StudyError(
            f"--study must be 1 to {NAME_LIMIT} printable characters, got {len(name)}: {shorten(name, 40)!r}; choose a "
            "shorter, plainer name"
        )


def list_study_names(storage: RetryingStorage) -> list[str]:
    """Return the names of all studies, newest last."""
    return [study.study_name for study in storage.get_all_studies()]


def create_study(
    storage: RetryingStorage,
    name: str,
    plan: StudyPlan,
    options: Mapping[str, Any] = {},
    machine: Mapping[str, Any] = {},
) -> optuna.Study:
    """Create a study; its plan is stored last, because a study with a plan can be resumed.

    Raises:
        StudyError: if the name is taken.
    """
    storage.study = name
    try:
        # NopPruner: sweeper.study.successive_halving decides.
        study = optuna.create_study(storage=storage, study_name=name, direction="maximize", pruner=NopPruner())
    except optuna.exceptions.DuplicatedStudyError:
        raise StudyError(
            f"study {name!r} exists already; add --resume to continue it, or choose another name with --study"
        ) from None
    study.set_user_attr(OPTIONS, pack_value(dict(options)))
    study.set_user_attr(MACHINE, pack_value(dict(machine)))
    replace_plan(study, plan)
    return study


def open_study(storage: RetryingStorage, name: str) -> optuna.Study:
    """Open an existing study to continue it.

    Raises:
        MissingStudyError: if the study does not exist.
    """
    _require_study(storage, name)
    storage.study = name
    return optuna.load_study(storage=storage, study_name=name, pruner=NopPruner())


def delete_study(storage: RetryingStorage, name: str) -> None:
    """Delete an existing study and all its data from the database; call it within `hold_study`."""
    optuna.delete_study(study_name=open_study(storage, name).study_name, storage=storage)


def replace_plan(study: optuna.Study, plan: StudyPlan) -> None:
    """Store the plan of a resume, which may differ in confirmation steps and the pixels' location."""
    study.set_user_attr(PLAN, pack(plan))


def read_plan(storage: RetryingStorage, name: str) -> StudyPlan:
    """Read the plan of an existing study.

    Raises:
        StudyError: if the study does not exist, or is not sweeper's.
    """
    _require_study(storage, name)
    attributes = storage.get_study_user_attrs(storage.get_study_id_from_name(name))
    if PLAN not in attributes:
        raise StudyError(
            f"study {name!r} was not made by sweeper, or was cut off while being made; choose another name"
        )
    plan = unpack(StudyPlan, attributes[PLAN], f"the plan of study {name!r}")
    register_user_losses(plan.conditions.losses)
    register_metric(plan.conditions.recipe.own_metric)
    return plan


def _require_study(storage: RetryingStorage, name: str) -> None:
    if name not in (names := list_study_names(storage)):
        raise MissingStudyError(f"there is no study {name!r} in this storage{suggest_or_list(name, names[::-1])}")


def read_options(storage: RetryingStorage, name: str) -> dict[str, Any]:
    """Read the options given on the command line in all sessions."""
    return unpack_options(storage.get_study_user_attrs(storage.get_study_id_from_name(name)))


def unpack_options(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options among a study's attributes."""
    return {**unpack_value(attributes, OPTIONS, {})}


def read_machine(storage: RetryingStorage, name: str) -> dict[str, Any]:
    """Read the machine settings of the last session; empty if the study does not exist."""
    if name not in list_study_names(storage):
        return {}
    attributes = storage.get_study_user_attrs(storage.get_study_id_from_name(name))
    machine: dict[str, Any] = unpack_value(attributes, MACHINE, {})
    return machine


def list_plan_differences(old: StudyPlan, new: StudyPlan) -> list[str]:
    """Return the differences between two plans that make trials incomparable, each as `what: old → new`."""
    before, after = _list_compared(old), _list_compared(new)
    datasets = [plan.conditions.dataset for plan in (old, new)]
    if datasets[0].digest != datasets[1].digest:
        before["data set"], after["data set"] = map(_describe_dataset, datasets)
    return [
        f"{key}: {before.get(key, 'absent')} → {after.get(key, 'absent')}"
        for key in before | after
        if before.get(key) != after.get(key)
    ]


def _list_compared(plan: StudyPlan) -> dict[str, object]:
    """Return everything that all trainings of a study must have in common, by the names in messages."""
    conditions, recipe = plan.conditions, plan.conditions.recipe
    # Other confirmation steps only need other confirmations; the search stays valid.
    settings = recipe.model_dump(exclude={"confirm_steps", "model", "own_metric"})
    codes = [code for code in (recipe.model, recipe.own_metric, *(loss.code for loss in conditions.losses)) if code]
    return {
        "seed": conditions.seed,
        "folds": conditions.folds or "none",
        **{f"recipe.{name}": value for name, value in settings.items()},
        **{f"SHA-256 of the source of {code.name}": code.digest for code in codes},
        "space.lr": plan.space.lr.model_dump(),
        "present loss": plan.space.present.model_dump(),
        **{f"space.{family.family}": family.model_dump()["coordinates"] for family in plan.space.families},
    }


def _describe_dataset(dataset: Dataset) -> str:
    options = f"class map {dataset.class_map}, groups {dataset.groups}, resized to {dataset.resized}"
    return f"{dataset.name} ({len(dataset.images)} images, {options}, {dataset.digest})"
