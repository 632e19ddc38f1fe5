"""`sweeper run --dry-run`: preview and check a run before anything is trained or written."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import closing, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import ClassVar

from sweeper import storage as studies
from sweeper.core.base import Record
from sweeper.core.document import DatasetSummary, Document
from sweeper.core.paths import get_step_times_file
from sweeper.core.recipe import Recipe
from sweeper.core.records import ImbalanceProfile, InterimAnalysis, SearchSpace
from sweeper.core.text import format_count, format_parallel_trainings, format_ratio
from sweeper.data.folds import NOT_HELD_OUT, get_split, list_scored_by_seed
from sweeper.data.groups import format_groups
from sweeper.system.machine import count_available_cores
from sweeper.workflow.executor_choice import make_backend
from sweeper.workflow.forecast import PlannedTrainings, count_trainings_left, format_steps, plan_text
from sweeper.workflow.options import list_stored_options, read_request, resolve_request
from sweeper.workflow.prepare import MessageSink, prepare_study
from sweeper.workflow.recipe_choice import describe_recipe
from sweeper.workflow.request_checks import open_request
from sweeper.workflow.settings import Settings
from sweeper.workflow.study_state import read_study_state


class ImagesRow(Record):
    """Number of images that train, validate and test."""

    train: int
    val: int
    test: int


class PreviewDocument(Document):
    """Document that `sweeper run --dry-run` prints."""

    SCHEMA: ClassVar[str] = "sweeper.preview/1"

    dataset: DatasetSummary
    images: ImagesRow
    groups: str | None
    """Groups that stay whole in every split: `6 groups by folder (P01, …)`; null = each image is divided by itself."""
    profile: ImbalanceProfile
    imbalance: float
    """Imbalance of the training images: base of `pos_weight` (two classes); most common to
    rarest (more)."""
    space: SearchSpace
    recipe: Recipe
    is_precision_measured: bool
    """Whether the recipe's precision was chosen by a time measurement, which may differ the next time."""
    seed: int
    folds: int | None
    held_out: bool
    analyses: tuple[InterimAnalysis, ...]
    """The interim analyses that are planned."""
    trials_done: int
    """Trials that a resume finds."""
    steps: str
    """How the steps of a trial will be found, if they are not known yet; else empty."""
    trainings: dict[str, PlannedTrainings]
    """Trainings still to come, by phase: rate, first, search, replicate, confirm, final."""
    workers: int


def make_preview(settings: Settings, messages: MessageSink) -> PreviewDocument:
    """Read and check data, space, recipe and study, and count the trainings to come.

    The images are decoded into a temporary folder. MLflow is not contacted, as it creates its tables in every database
    that it opens.

    Raises:
        UsageError: (DataError, SpaceError, StudyError among them) as `run_sweep` would.
    """
    storage, settings = open_request(settings, create=False, warn=messages.warn)
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(make_backend(settings, count_available_cores(), messages.warn)) as backend,
    ):
        temporary = settings.model_copy(update={"cache": Path(folder) / "cache"})  # weights are stored next to it
        with suppress(OSError):
            shutil.copy(get_step_times_file(settings.cache), get_step_times_file(temporary.cache))
        prepared = prepare_study(temporary, storage, backend, messages, datetime.now(UTC))
        plan = prepared.plan
        study, options = None, list_stored_options(settings)
        if prepared.old is not None and storage is not None:
            study = studies.open_study(storage, prepared.name)
        request = resolve_request(options) if study is None else read_request(study, options)
        state = read_study_state(study, plan, request)
        trainings = count_trainings_left(plan, request, state)
        workers = prepared.executor.workers
    conditions = plan.conditions
    split = get_split(conditions, conditions.seed)
    return PreviewDocument(
        dataset=DatasetSummary.from_dataset(conditions.dataset),
        images=ImagesRow(train=len(split.train), val=len(split.val), test=len(list_scored_by_seed(conditions))),
        groups=format_groups(conditions.dataset),
        profile=plan.profile,
        imbalance=plan.imbalance,
        space=plan.space,
        recipe=conditions.recipe,
        is_precision_measured=prepared.is_precision_measured,
        seed=conditions.seed,
        folds=conditions.folds,
        held_out=conditions.folds is None,
        analyses=request.analyses,
        trials_done=state.trials,
        steps=format_steps(plan, request) if study is None else "",
        trainings=trainings,
        workers=workers,
    )


def format_preview(preview: PreviewDocument) -> str:
    """Format the preview as a few lines of text."""
    dataset, images, folds = preview.dataset, preview.images, preview.folds
    *before, last = (analysis.seeds for analysis in preview.analyses)
    seeds = "".join(f"{number}, " for number in before) + format_count(last, "seed")
    lines = [
        f"data: {dataset.name}, {dataset.task}, {preview.profile.images} images ({images.train} to train, {images.val} "
        f"to validate, {images.test} to test), {preview.groups + ', ' if preview.groups else ''}"
        f"classes {', '.join(dataset.classes)}",
        f"imbalance: {format_ratio(preview.imbalance)} in the training images",
        f"space: {preview.space.name}, {len(preview.space.families)} losses: {', '.join(preview.space.by_name)}",
        f"recipe: {describe_recipe(preview.recipe)}"
        + f" (measured; --precision {preview.recipe.precision} repeats it)" * preview.is_precision_measured,
        f"interim analyses: after {seeds} of each finalist, while it is open",
    ]
    if folds is not None:
        lines.append(
            f"{folds} folds, {NOT_HELD_OUT}: the search sees every image; each seed of a finalist is {folds} "
            "trainings, each scored on the fold that it did not see"
        )
    if preview.trainings:
        lines += [f"plan: {plan_text(preview.trainings, preview.recipe)}", *filter(None, [preview.steps])]
    else:
        lines.append(
            f"nothing is left to train: the study has its {preview.trials_done} trials and the confirmations they "
            "call for"
        )
    return "\n".join([*lines, f"{format_parallel_trainings(preview.workers)}; nothing was trained or written"])
