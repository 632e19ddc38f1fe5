"""`sweeper run --dry-run`: everything that can be said, and refused, before anything is trained or written."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from contextlib import closing, suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlsplit

from sweeper import storage as studies
from sweeper.core.base import Record
from sweeper.core.document import DatasetSummary, Document
from sweeper.core.errors import MissingStudyError, UsageError
from sweeper.core.paths import step_times_file
from sweeper.core.recipe import Recipe
from sweeper.core.records import ImbalanceProfile, InterimAnalysis, SearchSpace
from sweeper.core.text import at_a_time, time_text, to_one
from sweeper.data.folds import NOT_HELD_OUT, scored_images, split_of
from sweeper.executors.protocol import Backend
from sweeper.system.postgres import check_answers, is_postgres
from sweeper.workflow.forecast import Left, answers_text, measured_pace, seconds_left
from sweeper.workflow.options import asked_of, given_options, resumed
from sweeper.workflow.planned_trainings import NOTHING, Trainings, there_of, trainings_left
from sweeper.workflow.prepare import Speaker, prepare
from sweeper.workflow.recipe_choice import describe
from sweeper.workflow.request_checks import check_conditions, check_places, check_request, is_new_file
from sweeper.workflow.settings import Settings

if TYPE_CHECKING:
    from optuna.storages import RDBStorage


MADE_BY_MLFLOW = {"sqlite", "mysql", "mssql"}
"""Schemes of the databases whose tables MLflow makes when it opens them; PostgreSQL's are others."""


class Preview(Record):
    """What a sweep would do."""

    plan: studies.Plan
    pictures: tuple[int, int, int]
    """Of the search to train and to validate, of the confirmation to test."""
    done: int
    """Trials that a resume finds."""
    analyses: tuple[InterimAnalysis, ...]
    trainings: dict[str, Trainings]
    """By phase: probe, search, recheck, confirm."""
    pace: float | None
    """Seconds of a training by the step, evaluations and all; None where there is nothing to train, or it failed."""
    workers: int
    """Trainings at a time."""

    @property
    def seconds(self) -> Left | None:
        """How long these trainings take."""
        return None if self.pace is None else seconds_left(self.trainings, self.pace, self.workers)


class PicturesRow(Record):
    """How many images train, validate and test."""

    train: int
    val: int
    test: int


class SecondsRow(Record):
    """How long the sweep takes."""

    least: float
    first_answer: float
    """Until the first tested answer, at most."""
    most: float
    """Until the last, at most."""


class PreviewDocument(Document):
    """What `sweeper run --dry-run` prints."""

    SCHEMA: ClassVar[str] = "sweeper.preview/1"

    dataset: DatasetSummary
    pictures: PicturesRow
    profile: ImbalanceProfile
    imbalance: float
    """Of the training images, or of balanced crops of them: what `pos_weight` is a power of (two classes); commonest to
    rarest (more)."""
    space: SearchSpace
    recipe: Recipe
    seed: int
    folds: int | None
    held_out: bool
    looks: tuple[InterimAnalysis, ...]
    """The interim analyses that are planned."""
    trials_done: int
    """Trials that a resume finds."""
    trainings: dict[str, Trainings]
    """What is still to be trained, by phase: probe, search, recheck, confirm."""
    seconds: SecondsRow | None
    seconds_per_step: float | None
    """Of a training, evaluations included; null where nothing was measured."""
    workers: int


def preview(
    settings: Settings,
    speaker: Speaker,
    *,
    backend: Callable[[Settings], Backend],
    clock: Callable[[], datetime],
) -> Preview:
    """Read and check data, space, recipe and study, and measure how long a training step takes.

    The images are decoded into a folder that goes with the answer.

    Args:
        settings: what was asked for.
        speaker: is told of warnings.
        backend: makes the place where a sweep of these settings would train: it tells the hardware, and a few steps
            are taken there.
        clock: the time in UTC.

    Raises:
        UsageError: (DataError, SpaceError, StudyError among them) as `run_sweep` would.
    """
    check_places(settings)
    storage = _storage(settings)
    if storage is not None:
        settings = resumed(settings, storage)
    check_request(storage, settings)
    _check_tracking(settings)
    with tempfile.TemporaryDirectory() as folder, closing(backend(settings)) as place:
        own = settings.model_copy(update={"cache": Path(folder) / "cache"})  # weights would lie beside it
        with suppress(OSError):
            shutil.copy(step_times_file(settings.cache), step_times_file(own.cache))
        prepared = prepare(own, storage, place, speaker, clock())
        with prepared.held:
            plan = prepared.plan
            check_conditions(plan.conditions, on_cpu=prepared.on_cpu)
            there = NOTHING
            if prepared.old is not None and storage is not None:
                options = studies.read_options(storage, prepared.name)
                study = studies.load_study(storage, prepared.name)
                asked = asked_of({**options, **given_options(settings)}, studies.held(study))
                there = there_of(study, plan, asked)
            else:
                asked = asked_of(given_options(settings))
            trainings = trainings_left(plan, asked, there)
            workers = prepared.executor.slots
            each = _slots_each(settings, workers, 0 if prepared.on_cpu else place.hardware().devices)
            pace = measured_pace(prepared.executor, plan, speaker.warn, each) if trainings else None
    split = split_of(plan.conditions, plan.conditions.seed)
    return Preview(
        plan=plan,
        pictures=(len(split.train), len(split.val), len(scored_images(plan.conditions))),
        done=there.trials,
        analyses=asked.analyses,
        trainings=trainings,
        pace=pace,
        workers=workers,
    )


def _slots_each(settings: Settings, slots: int, gpus: int) -> int:
    """Trainings at a time in each worker, of so many in all."""
    if isinstance(settings.slots, int):
        return settings.slots
    if settings.executor != "processes" or not gpus:
        return 1
    return max(1, slots // (settings.workers or gpus))


def _storage(settings: Settings) -> RDBStorage | None:
    """The storage that is there; None where it would be made."""
    if is_new_file(settings.storage) and not settings.resume:
        return None
    try:
        return studies.open_storage(settings.storage, create=False)
    except MissingStudyError:
        if settings.resume:
            raise
        return None


def _check_tracking(settings: Settings) -> None:
    """Ask a server whether it answers.

    MLflow makes its tables in every database that it opens. So PostgreSQL is asked without it, other databases are not
    asked, and a file is checked with the places.

    Raises:
        UsageError: if it does not answer.
    """
    uri = settings.tracking_uri
    if is_postgres(uri):
        try:
            check_answers(uri)
        except UsageError as error:
            from sweeper.tracking import no_store

            raise no_store(uri, error) from error
    elif urlsplit(uri).scheme.partition("+")[0] not in MADE_BY_MLFLOW:
        from sweeper.tracking import connect

        connect(uri)


def preview_text(found: Preview) -> str:
    """The same for people, a few lines."""
    plan, dataset = found.plan, found.plan.conditions.dataset
    train, val, test = found.pictures
    folds = plan.conditions.folds
    seeds = ", ".join(str(analysis.seeds) for analysis in found.analyses)
    lines = [
        f"data: {dataset.name}, {dataset.task}, {len(dataset.pictures)} images ({train} to train, {val} to validate, "
        f"{test} to test), classes {', '.join(dataset.classes)}",
        f"imbalance: {to_one(plan.imbalance)} in the training images"
        + ", as balanced crops show them" * (plan.conditions.recipe.crops == "balanced"),
        f"space: {plan.space.name}, {len(plan.space.families)} losses: "
        + ", ".join(family.family for family in plan.space.families),
        f"recipe: {describe(plan.conditions.recipe)}",
        f"interim analyses: after {seeds} seeds of each finalist, while it is open",
    ]
    if folds is not None:
        lines.append(
            f"{folds} folds, {NOT_HELD_OUT}: the search sees every image; each seed of a finalist is {folds} "
            "trainings, each scored on the fold that it did not see"
        )
    names = {"probe": "budget probe", "search": "search", "recheck": "rechecks", "confirm": "confirmation"}
    for name, trainings in found.trainings.items():
        ends = (trainings.least, trainings.most)
        number = str(ends[0]) if ends[0] == ends[1] else f"{ends[0]} to {ends[1]}"
        more = " and more" if name == "probe" else ""
        lines.append(f"{names[name]}: {number} trainings of {trainings.steps} steps{more}")
    if not found.trainings:
        lines.append(
            f"nothing is left to train: the study has its {found.done} trials and the confirmations they call for"
        )
    if found.seconds is not None and found.pace is not None:
        lines.append(
            f"time: {answers_text(found.seconds)}; a step takes {time_text(found.pace)} here, evaluations "
            f"included, and {at_a_time(found.workers)}"
        )
    measured = "a few steps were trained to measure their time" if found.pace is not None else "nothing was trained"
    return "\n".join([*lines, f"{measured}; nothing was written"])


def preview_json(found: Preview) -> dict[str, Any]:
    """The same for programs, schema `sweeper.preview/1`."""
    dataset, plan, left = found.plan.conditions.dataset, found.plan, found.seconds
    train, val, test = found.pictures
    return PreviewDocument(
        dataset=DatasetSummary.of(dataset),
        pictures=PicturesRow(train=train, val=val, test=test),
        profile=plan.profile,
        imbalance=plan.imbalance,
        space=plan.space,
        recipe=plan.conditions.recipe,
        seed=plan.conditions.seed,
        folds=plan.conditions.folds,
        held_out=plan.conditions.folds is None,
        looks=found.analyses,
        trials_done=found.done,
        trainings=found.trainings,
        seconds=left and SecondsRow(least=left.least, first_answer=left.first, most=left.most),
        seconds_per_step=found.pace,
        workers=found.workers,
    ).document
