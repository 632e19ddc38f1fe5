"""Cross-validation for sets too small for a test split: each image is tested once per seed.

The search trains and validates on the whole set; a confirmation seed is a full rotation, with as many trainings as
folds. The result is *not held out*: the search saw every image on which it is scored.
"""

from __future__ import annotations

from collections.abc import Sequence

from sweeper.core.errors import DataError
from sweeper.core.records import Conditions, Dataset, Split
from sweeper.core.text import format_count
from sweeper.data.split import (
    VAL_SHARE,
    SplitUnit,
    count_images,
    divide_images,
    exclude_units,
    list_indices,
    make_keyed_rng,
    make_strata,
    make_units,
    take_units,
)

NOT_HELD_OUT = "not held out"
"""Label of every reported result with folds."""


def divide_for_training(
    dataset: Dataset, *, study_seed: int, folds: int | None, seed: int, fold: int | None = None
) -> Split:
    """Return the split of a training with `seed`, with or without folds.

    Without folds, the test images depend only on the study's seed. With folds, a training of the search (`fold` None)
    has no test images, and fold k tests its own images; these depend on `seed`, so that each seed is another rotation.
    A user's script that has divided the images itself also decides about folds.

    Raises:
        DataError: a side would be empty, or the set does not allow the folds.
    """
    if folds is None or dataset.images[0].split is not None:
        return divide_images(dataset, test_seed=study_seed, seed=seed)
    if fold is None:
        return hold_out_validation(dataset, seed)
    return divide_for_fold(dataset, folds=folds, number=fold, test_seed=seed, seed=seed)


def get_split(conditions: Conditions, seed: int, fold: int | None = None) -> Split:
    """Return the split under a study's conditions."""
    return divide_for_training(
        conditions.dataset, study_seed=conditions.seed, folds=conditions.folds, seed=seed, fold=fold
    )


def list_scored_by_seed(conditions: Conditions) -> tuple[int, ...]:
    """Return the indices of the images on which each confirmation seed is scored, ascending: with folds all images."""
    if conditions.folds is None:
        return get_split(conditions, conditions.seed).test
    return tuple(range(len(conditions.dataset.images)))


def hold_out_validation(dataset: Dataset, seed: int, test: Sequence[SplitUnit] = ()) -> Split:
    """Return a split in which a quarter of the images outside `test` validate, the rest train; groups stay whole."""
    units = exclude_units(make_units(dataset), test)
    wanted, rng = VAL_SHARE * count_images(units), make_keyed_rng(seed, 1)
    val = take_units(units, wanted, make_strata(dataset), rng, least=True, leave=1)
    return Split(train=list_indices(exclude_units(units, val)), val=list_indices(val), test=list_indices(test))


def check_folds(dataset: Dataset, folds: int) -> None:
    """Refuse folds that the set does not allow.

    Raises:
        DataError: splits are given, or there are fewer groups than folds (4 for 2 folds).
    """
    assigned = sum(image.split is not None for image in dataset.images)
    units, problems = len(make_units(dataset)), []
    if assigned:
        problems.append(
            f"--folds rotates the test images, and {format_count(assigned, 'image has', 'images have')} a given split; "
            "a split.csv whose column `split` is empty takes it away, or leave --folds out"
        )
    least = max(folds, 4 if folds == 2 else 0)
    if units < least:
        problems.append(
            f"--folds {folds} needs {least} groups of images at least, found {units}; take fewer folds, make the "
            "groups smaller, or add images"
        )
    DataError.refuse(dataset.name, problems)


def divide_for_fold(dataset: Dataset, *, folds: int, number: int, test_seed: int, seed: int) -> Split:
    """Return the split of fold `number`: its images test, a quarter of the others validate, the rest train.

    Over all folds every image is tested exactly once; groups stay whole, and folds are stratified like splits.

    Args:
        dataset: without given splits; the order of its images matters.
        folds: 2 to the number of groups (each leaves images to train and to validate).
        number: 0 to `folds` − 1.
        test_seed: determines the folds.
        seed: divides the other images into train and validation.

    Raises:
        DataError: as `check_folds`, or a fold leaves a single group for training and validation.
    """
    check_folds(dataset, folds)
    units, strata, rng = make_units(dataset), make_strata(dataset), make_keyed_rng(test_seed, 2)
    left, test = units, units
    for remaining in range(folds, folds - number - 1, -1):
        wanted, leave = count_images(left) / remaining, max(remaining - 1, 4 - folds)
        # The last fold takes the remaining images.
        test = left if remaining == 1 else take_units(left, wanted, strata, rng, least=True, leave=leave)
        left = exclude_units(left, test)
    others = len(units) - len(test)
    if others < 2:
        raise DataError(
            dataset.name,
            [
                f"split: fold {number + 1} of {folds} leaves {format_count(others, 'group')} of images, and "
                "training and validation need one each; take more folds, or make the groups smaller"
            ],
        )
    return hold_out_validation(dataset, seed, test)
