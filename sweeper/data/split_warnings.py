"""Describe the weaknesses of a split in plain sentences: missing classes and too few images."""

from __future__ import annotations

from collections.abc import Iterable

from sweeper.core.errors import DataError
from sweeper.core.records import Dataset, Split
from sweeper.core.text import format_count
from sweeper.data.folds import NOT_HELD_OUT
from sweeper.data.groups import format_groups
from sweeper.data.split import divide_images

FEW_SPLIT_GROUPS = 20
"""Fewest groups of images without a warning; fewer leave at most four to test, too few for a verdict."""


def list_split_warnings(dataset: Dataset, split: Split) -> tuple[str, ...]:
    """Return warnings about this split's scores: sides that lack a class, and too few test images."""
    notes = list_missing_classes(dataset, split)
    whole = len(_name_units(dataset, range(len(dataset.images))))
    has_test = any(image.split == "test" for image in dataset.images)
    if (len(split.test) < FEW_SPLIT_GROUPS // 5) if has_test else (whole < FEW_SPLIT_GROUPS):
        kind = "images" if whole == len(dataset.images) else "groups of images"
        free = all(image.split is None for image in dataset.images)
        tests = f", or test all of them in turn with --folds {min(whole, 5)} ({NOT_HELD_OUT} then)" if free else ""
        notes.append(
            f"{whole} {kind} leave {format_count(len(split.test), 'image')} to test on: intervals will be wide, and "
            f"one odd image can decide; take the result as a hint, and add images before much depends on it{tests}"
        )
    return tuple(notes)


def list_fold_warnings(dataset: Dataset, split: Split, folds: int) -> tuple[str, ...]:
    """Return warnings about scores over folds; `split` is the search's, without test images.

    The first says that nothing was held out. The others list classes in only one image (or group), which no training
    scored on them has seen, and classes that the search's sides lack.
    """
    notes = [
        f"--folds {folds}: the result is {NOT_HELD_OUT}, as the search sees every image; each confirmation seed is "
        f"{folds} trainings of every finalist, and each of them is scored on the fold that it did not see"
    ]
    for label, name in enumerate(dataset.classes):
        units = _name_units(dataset, [i for i, image in enumerate(dataset.images) if image.pixels[label]])
        if len(units) == 1:
            notes.append(
                f"{name} occurs in {units.pop()} only: where that is tested it was never learned, and counts as "
                "missed; add images that show it"
            )
    return (*notes, *list_missing_classes(dataset, split))


def list_missing_classes(dataset: Dataset, split: Split) -> list[str]:
    """Return the sides with images that lack a class which occurs elsewhere, and the consequence."""
    notes, everywhere = [], dataset.count_class_pixels()
    for side, part in (("training", split.train), ("validation", split.val), ("test", split.test)):
        shown = dataset.count_class_pixels(tuple(part))
        names = [
            n for n, is_present, here in zip(dataset.classes, everywhere, shown, strict=True) if is_present and not here
        ]
        if part and names:
            notes.append(
                f"the {side} split ({format_count(len(part), 'image')}) has no pixel of: {', '.join(names)}; "
                "it is not learned there, chosen for or scored; add images that show it"
            )
    return notes


def _name_units(dataset: Dataset, indices: Iterable[int]) -> set[str]:
    """Return the names of these images' groups; of images without a group, their own names."""
    images = [dataset.images[index] for index in indices]
    return {f"image {image.stem}" if image.group is None else f"group {image.group}" for image in images}


def describe_split(dataset: Dataset, seed: int = 0) -> tuple[str, ...]:
    """Return how `sweeper run --seed SEED` would divide the set, with warnings, or why it fails."""
    try:
        split = divide_images(dataset, test_seed=seed, seed=seed)
    except DataError as error:
        return tuple(problem.removeprefix("split: ") for problem in error.problems)  # the caller names the split
    sides = {"train": split.train, "val": split.val, "test": split.test}
    assigned = sum(dataset.images[i].split == side for side, indices in sides.items() for i in indices)
    how = f"{assigned} of them given" if assigned else "stratified"
    sizes = f"{len(split.train)} images train, {len(split.val)} validate, {len(split.test)} test ({how}, seed {seed})"
    whole = f"; kept together: {line}" if (line := format_groups(dataset)) else ""
    return (sizes + whole, *list_split_warnings(dataset, split))
