"""Checks and preparation before any training: names, folders, data, space, recipe, network."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from sweeper import storage as studies
from sweeper.core.errors import DataError, StudyError
from sweeper.core.events import WorkerHardware
from sweeper.core.own_code import locate_code
from sweeper.core.paths import get_step_times_file, make_slug
from sweeper.core.recipe import Recipe
from sweeper.core.records import Conditions, Dataset, SearchSpace, UserLoss
from sweeper.core.training_files import get_checkpoints_dir
from sweeper.data import load_dataset
from sweeper.data.class_map import read_class_map
from sweeper.data.folds import check_folds, divide_for_training
from sweeper.data.formats.file_patterns import get_requested_patterns
from sweeper.data.formats.patterns import NAME as PATTERNS
from sweeper.data.groups import AUTO, format_groups
from sweeper.data.split_warnings import list_fold_warnings, list_split_warnings
from sweeper.data.store import is_changed
from sweeper.data.variants import resize_dataset
from sweeper.executors.protocol import Backend, Executor
from sweeper.fingerprint.imbalance import measure_imbalance, profile_dataset
from sweeper.space import list_first_trials, list_named_losses, load_named_losses, load_space
from sweeper.study.finalist import derive_confirmation_seed, list_fold_numbers
from sweeper.version import read_versions
from sweeper.workflow.advice import add_advice, add_present_loss
from sweeper.workflow.encoder_weights import choose_weights
from sweeper.workflow.machine_choice import choose_measured_precision, read_step_seconds
from sweeper.workflow.options import MACHINE
from sweeper.workflow.own_losses import add_user_losses, declare_loss
from sweeper.workflow.own_script import adapt_space, divide_by_script, make_script_recipe, resolve_sources
from sweeper.workflow.recipe_choice import check_encoder_weights, make_recipe, resolve_resumed_recipe
from sweeper.workflow.settings import DATA, DEFAULT_SEEDS, Settings, parse_seed_range

if TYPE_CHECKING:
    from sweeper.storage.resilient_storage import RetryingStorage

ENOUGH_CLASSES = 2
"""Least number of classes in a split: with fewer, constant answers score best."""


class MessageSink(Protocol):
    """Receiver of messages to the user."""

    def log(self, text: str) -> None:
        """Log one line."""

    def warn(self, text: str) -> None:
        """Log one line that the user should not miss."""

    def progress(self, what: str, done: int, total: int) -> None:
        """Report, after each image, that `done` of `total` images have passed the step `what`."""


class PreparedStudy(NamedTuple):
    """A prepared sweep; `old` is the study's stored plan, None for a new study."""

    name: str
    plan: studies.StudyPlan
    old: studies.StudyPlan | None
    executor: Executor
    """Ready to train; closed with its backend."""
    machine: dict[str, Any]
    """Settings of the machine with `auto` resolved, which a resume takes over."""
    is_precision_measured: bool
    """Whether the precision was measured now."""
    step_seconds: float | None
    """Seconds of the recipe's step as measured on this machine; None = not measured."""
    is_changed: bool
    """Whether the decoded images of a resumed study changed since they were last checked."""


def prepare_study(
    settings: Settings, storage: RetryingStorage | None, backend: Backend, messages: MessageSink, now: datetime
) -> PreparedStudy:
    """Make a plan from the data, the space and the machine; for a resume, compare it with the study's own.

    Raises:
        UsageError: (DataError, SpaceError, StudyError among them) with what is wrong.
    """
    old = None
    if storage is not None and settings.resume and settings.study:
        old = studies.read_plan(storage, settings.study)
        settings = _fill_in_stored(settings, old, studies.read_options(storage, settings.study))
    before = None if old is None else old.conditions.dataset
    check_encoder_weights(settings, old.conditions.recipe if old else None, backend.get_hardware)
    damaged = old is not None and is_changed(settings.cache / old.conditions.dataset.digest.removeprefix("sha256:"))
    dataset = resolve_dataset_request(settings, before, messages)
    sources = resolve_sources(settings.command, old)
    dataset = divide_by_script(dataset, settings, before, messages.log)
    for warning in dataset.warnings:
        messages.warn(warning)
    seed, folds = settings.seed or 0, settings.folds
    if folds is not None and settings.command is None:
        check_folds(dataset, folds)
    split = divide_for_training(dataset, study_seed=seed, folds=folds, seed=seed)
    _check_splits(dataset, seed, folds, parse_seed_range(settings.seeds or DEFAULT_SEEDS)[1], messages)
    user_losses = _load_user_losses(settings, old)
    imbalance = measure_imbalance(dataset, split.train)
    space = _resolve_space(settings, old, dataset, imbalance, messages, losses=user_losses)
    hardware, times = backend.get_hardware(), get_step_times_file(settings.cache)
    recipe = _resolve_recipe(settings, old, dataset, hardware, messages)
    given = {"dataset": dataset, "recipe": recipe, "seed": seed, "folds": folds, "losses": user_losses}
    is_new = old is None and recipe.command is None
    is_open = settings.precision is None and hardware.device == "cpu"
    is_measured = is_new and is_open
    if old is not None:
        plan = _plan_resume(old, given, space, imbalance, sources, name=str(settings.study))
    else:
        conditions = Conditions(**given)
        if is_measured:
            conditions = choose_measured_precision(conditions, backend, times, messages.log)
        messages.log(f"device: {hardware.name}")
        profile = profile_dataset(dataset)
        space = add_advice(space, profile, imbalance)
        messages.log(f"losses by their gain on measured data sets: {', '.join(list_first_trials(space))}")
        plan = studies.StudyPlan(
            created=now.isoformat(timespec="seconds"),
            versions=read_versions(),
            conditions=conditions,
            profile=profile,
            space=space,
            imbalance=imbalance,
            sources=sources,
        )
    name = settings.study or f"{make_slug(dataset.name)}-{now:%Y%m%dT%H%M%S}"
    workers = 0 if settings.executor == "inline" else backend.layout.workers
    found = {"device": hardware.device, "workers": workers}
    machine = {name: found.get(name, getattr(settings, name)) for name in MACHINE}
    folder = get_checkpoints_dir(settings.cache, name)
    if sources is not None:  # a later study of the same name must not find a script's own files
        folder /= make_slug(plan.created)
    step_seconds = read_step_seconds(plan.conditions, backend, times)
    executor = backend.open(plan.conditions, folder)
    return PreparedStudy(name, plan, old, executor, machine, is_measured, step_seconds, damaged)


def _resolve_space(
    settings: Settings,
    old: studies.StudyPlan | None,
    dataset: Dataset,
    imbalance: float,
    messages: MessageSink,
    *,
    losses: tuple[UserLoss, ...],
) -> SearchSpace:
    """Return the requested space, else the study's, with the present loss."""
    words = list_named_losses(settings.space or "")
    if old and settings.space is None:
        space = old.space
    elif words:
        space = load_named_losses(words, dataset.task, imbalance)
    else:
        space = add_user_losses(load_space(settings.space or dataset.task, dataset.task), losses)
    if settings.command is not None and old is None:
        space = adapt_space(space, messages.log)
    if settings.present is not None:
        space = add_present_loss(space, settings.present, imbalance)
    return space


def _fill_in_stored(settings: Settings, old: studies.StudyPlan, options: Mapping[str, Any]) -> Settings:
    """Return the settings of a resume with the study's own where none were given."""
    stored: dict[str, Any] = {"seed": old.conditions.seed, "folds": old.conditions.folds}
    stored |= {name: options.get(name) for name in ("present", "seeds")}
    stored["loss"] = tuple(loss.code.name for loss in old.conditions.losses)
    return settings.model_copy(update={n: value for n, value in stored.items() if getattr(settings, n) in (None, ())})


def _resolve_recipe(
    settings: Settings, old: studies.StudyPlan | None, dataset: Dataset, hardware: WorkerHardware, messages: MessageSink
) -> Recipe:
    """Return the recipe of a new study, or the one that a resume requests."""
    if old is not None:
        return resolve_resumed_recipe(settings, old.conditions.recipe, hardware)
    if settings.command is not None:
        return make_script_recipe(settings, settings.command)
    return make_recipe(
        settings,
        dataset,
        hardware,
        weights=partial(choose_weights, settings.encoder_weights, synthetic=dataset.synthetic, log=messages.log),
    )


def _load_user_losses(settings: Settings, old: studies.StudyPlan | None) -> tuple[UserLoss, ...]:
    """Return the requested losses; those that the study has with the present hash of their code."""
    known = {} if old is None else {loss.code.name: loss for loss in old.conditions.losses}
    located = {n: o.model_copy(update={"code": locate_code(o.code, "--loss")}) for n, o in known.items()}
    return tuple(located[name] if name in located else declare_loss(name) for name in settings.own_losses)


def _plan_resume(
    old: studies.StudyPlan,
    given: Mapping[str, Any],
    space: SearchSpace,
    imbalance: float,
    sources: Mapping[str, str] | None,
    *,
    name: str,
) -> studies.StudyPlan:
    """Return the stored plan with these conditions and this space, but its own first trials.

    Raises:
        StudyError: if its trials could not be compared with those to come.
    """
    update = {
        "conditions": old.conditions.model_copy(update=given),
        "space": space.model_copy(update={"starts": old.space.starts}),
        "imbalance": imbalance,
        "sources": sources,
    }
    plan = old.model_copy(update=update)
    if changed := studies.list_plan_differences(old, plan):
        raise StudyError(
            f"study {name!r} cannot be resumed: its trials could not be compared, as this has changed:\n"
            + "\n".join(f"  - {line}" for line in changed)
            + f"\nLeave these options out, put changed files back, or start another study: --study {name}-2"
        )
    return plan


def resolve_dataset_request(settings: Settings, old: Dataset | None, messages: MessageSink) -> Dataset:
    """Return the requested data set, else the study's: source, names, format, classes, size.

    If the images have moved, the study's patterns of names still count, unless another format is requested.
    """
    patterns_folder, patterns = get_requested_patterns(settings.data, settings.images, settings.masks)
    before = old.source if old else DATA
    source = patterns_folder or before
    format_ = settings.format
    if patterns is None and old is not None and format_ in (None, PATTERNS):
        patterns = old.patterns
        format_ = old.format if patterns_folder is None or patterns is not None else None
    class_map = old.class_map if old else None
    if settings.class_map is not None:
        class_map = read_class_map(settings.class_map)
    usual = old.groups if old else AUTO
    groups = settings.groups or usual
    dataset = load_dataset(
        source,
        settings.cache,
        messages.log,
        format=format_,
        patterns=patterns,
        class_map=class_map,
        groups=groups,
        tick=partial(messages.progress, "decoding"),
    )
    resized = old.resized if old else None
    short_side = settings.resize or resized
    return (
        dataset
        if short_side is None
        else resize_dataset(dataset, short_side, settings.cache, partial(messages.progress, "shrinking"), messages.log)
    )


def _check_splits(dataset: Dataset, seed: int, folds: int | None, most_seeds: int, messages: MessageSink) -> None:
    """Refuse splits that allow no conclusion; warn of what else a split lacks.

    A class that training never sees is allowed, and will be reported as never predicted. So is a fold that tests only
    one class: its images are scored together with those of the other folds.
    """
    problems: list[str] = []
    confirmed = [
        (derive_confirmation_seed(seed, n), fold) for n in range(most_seeds) for fold in list_fold_numbers(folds)
    ]
    for split_seed, fold in [(seed, None), *confirmed]:
        split = divide_for_training(dataset, study_seed=seed, folds=folds, seed=split_seed, fold=fold)
        sides = {"training": split.train, "validation": split.val, **({} if folds else {"test": split.test})}
        where = f"seed {split_seed}" + ("" if fold is None else f", fold {fold + 1}")
        for side, indices in sides.items():
            here = dataset.count_class_pixels(indices) > 0
            if here.sum() < ENOUGH_CLASSES:
                names = ", ".join(name for name, is_here in zip(dataset.classes, here, strict=True) if is_here)
                problems.append(
                    f"the {side} split ({len(indices)} images, {where}) must hold at least two classes, found "
                    f"{names or 'no labelled pixel'}; label more images, or divide them yourself in split.csv"
                )
    first = divide_for_training(dataset, study_seed=seed, folds=folds, seed=seed)
    notes = list_split_warnings(dataset, first) if folds is None else list_fold_warnings(dataset, first, folds)
    DataError.refuse(dataset.name, sorted(set(problems)))
    if (line := format_groups(dataset)) is not None:
        messages.log(f"kept together in every split: {line}")
    for note in notes:
        messages.warn(note)
