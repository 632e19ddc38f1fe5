"""The training of `sweeper train`: its spec, its images, its number of steps."""

from __future__ import annotations

from pathlib import Path

from sweeper.core.errors import DataError, UsageError
from sweeper.core.records import Conditions, Dataset, Split, TrainedOn, TrialSpec
from sweeper.data.folds import get_split
from sweeper.data.store import is_intact
from sweeper.deployment.recommended_network import RecommendedAnswer
from sweeper.workflow.prepare import MessageSink, resolve_dataset_request
from sweeper.workflow.settings import Settings, TrainOptions

NUMBERS: dict[TrainedOn, int] = {"train": 0, "train+val": 1, "all": 2}
"""Training images → number of the training, which distinguishes checkpoints."""


def make_conditions(
    answer: RecommendedAnswer, options: TrainOptions, messages: MessageSink
) -> tuple[Conditions, tuple[int, ...], Split]:
    """Return the study's conditions with available images, the images to train on, and the search's split.

    Raises:
        UsageError: if the images are not the study's.
    """
    conditions = answer.sweep.conditions
    dataset = _load_dataset(conditions.dataset, options, messages)
    conditions = conditions.model_copy(update={"dataset": dataset})
    split = get_split(conditions, conditions.seed)
    images = {
        "train": split.train,
        "train+val": tuple(sorted((*split.train, *split.val))),
        "all": tuple(range(len(dataset.images))),
    }[options.on]
    if options.on != "all" and not split.test:
        messages.log(f"the study has {conditions.folds} folds and no test split: nothing is left out to be scored")
    return conditions, images, split


def _load_dataset(stored: Dataset, options: TrainOptions, messages: MessageSink) -> Dataset:
    """Return the study's data set with its decoded images; read the files again if these are missing or damaged.

    If the files still exist, they must be unchanged.

    Raises:
        UsageError: if the images are not the study's.
    """
    is_asked = (options.data, options.images, options.masks) != (None, None, None)
    is_kept = is_intact(Path(stored.store))
    is_alone = is_kept and not Path(stored.source).exists()
    if is_alone and not is_asked:
        return stored
    format_ = stored.format if (options.images, options.masks) == (None, None) else None
    settings = Settings(
        data=options.data, images=options.images, masks=options.masks, format=format_, cache=options.cache
    )
    try:
        requested = resolve_dataset_request(settings, stored, messages)
    except DataError:
        if is_asked or not is_kept:
            raise
        messages.warn(f"{stored.source} cannot be read any more; the study's decoded images are used")
        return stored
    if requested.digest != stored.digest:
        raise UsageError(
            f"the images and labels in {settings.data or stored.source} must be those of the study, and have changed "
            "since: its recommendation is for others; name the folder that holds them with --data, or run a new study"
        )
    return requested


def make_train_spec(answer: RecommendedAnswer, conditions: Conditions, options: TrainOptions) -> TrialSpec:
    """Make the spec of the training."""
    chosen = answer.chosen
    seed = conditions.seed if options.seed is None else options.seed
    return TrialSpec(
        purpose="train",
        number=NUMBERS[options.on],
        family=chosen.loss,
        params=chosen.params,
        lr=answer.rate,
        seed=seed,
        steps=options.steps or conditions.recipe.final_steps,
    )
