"""What a split cannot do, in plain sentences: classes in too few images, sides without a class, too few images."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from sweeper.core.errors import DataError
from sweeper.core.records import Dataset, Split
from sweeper.core.text import count
from sweeper.data.folds import NOT_HELD_OUT
from sweeper.data.label_values import some
from sweeper.data.split import divide

SMALL = 20
"""With fewer groups of images a test split has four at most: too few for a verdict."""
_SIDES = ("training", "validation", "test")
_LOST = {
    "training": "it can be learned there, but neither its operating point nor its score can be told",
    "validation": "it is never learned, and counts as missed",
    "test": "it is never learned, and counts as missed",
}


def split_notes(dataset: Dataset, split: Split) -> tuple[str, ...]:
    """What a reader of scores of this split should know.

    A class in one image (or group) can lie on one side only, a class in two on two: where they went, and what that
    means. For other classes, the sides that lack them (given splits, as a rule). And sets so small that their test
    split says little.
    """
    side_of = {
        index: side for side, part in zip(_SIDES, (split.train, split.val, split.test), strict=True) for index in part
    }
    notes, missing = [], defaultdict(list)
    for label, name in enumerate(dataset.classes):
        holders = [i for i, image in enumerate(dataset.images) if image.pixels[label]]
        units = _units(dataset, holders)
        if len(units) in (1, 2):
            notes.append(_rare(dataset, name, holders, units, side_of))
            continue
        present = {side_of[i] for i in holders if i in side_of}
        for side in _SIDES:
            if holders and side not in present:
                missing[side].append(name)
    sizes = dict(zip(_SIDES, map(len, (split.train, split.val, split.test)), strict=True))
    notes += [
        f"the {side} split ({count(sizes[side], 'image')}) has no pixel of: {', '.join(missing[side])}"
        for side in _SIDES
        if missing[side]
    ]
    whole = len(_units(dataset, range(len(dataset.images))))
    given = any(image.split == "test" for image in dataset.images)
    if (sizes["test"] < SMALL // 5) if given else (whole < SMALL):
        kind = "images" if whole == len(dataset.images) else "groups of images"
        free = all(image.split is None for image in dataset.images)
        tests = f", or test all of them in turn with --folds {min(whole, 5)} ({NOT_HELD_OUT} then)" if free else ""
        notes.append(
            f"{whole} {kind} leave {count(sizes['test'], 'image')} to test on: intervals will be wide, and one odd "
            f"image can decide; take the result as a hint, and add images before much depends on it{tests}"
        )
    return tuple(notes)


def fold_notes(dataset: Dataset, split: Split, folds: int) -> tuple[str, ...]:
    """What a reader of scores over folds should know; `split` is the search's, without test images.

    First of all that nothing was held out. Then classes in one image (or group), which no training that is scored on
    them has seen, and classes that the search's sides lack.
    """
    notes = [
        f"--folds {folds}: the result is {NOT_HELD_OUT}, as the search sees every image; each confirmation seed is "
        f"{folds} trainings of every finalist, and each of them is scored on the fold that it did not see"
    ]
    missing = defaultdict(list)
    for label, name in enumerate(dataset.classes):
        holders = [i for i, image in enumerate(dataset.images) if image.pixels[label]]
        units = _units(dataset, holders)
        if len(units) == 1:
            kind = "image" if len(holders) == 1 else "group"
            notes.append(
                f"{name} occurs in 1 {kind} only ({some(units)}): where that is tested it was never learned, and "
                "counts as missed; add images that show it"
            )
            continue
        for side, part in zip(_SIDES, (split.train, split.val), strict=False):
            if holders and not set(holders) & set(part):
                missing[side].append(name)
    notes += [f"the search's {side} images have no pixel of: {', '.join(found)}" for side, found in missing.items()]
    return tuple(notes)


def _rare(dataset: Dataset, name: str, holders: Sequence[int], units: Sequence[str], side_of: dict[int, str]) -> str:
    """Where a class of one or two images went."""
    kind = "image" if len(units) == len(holders) else "group"
    where = f"{name} occurs in {len(units)} {kind}{'s' * (len(units) > 1)} only ({some(units)})"
    sides = sorted({side_of[i] for i in holders if i in side_of}, key=_SIDES.index)
    if len(sides) == 1:
        return f"{where}, on the {sides[0]} side: {_LOST[sides[0]]}; add images that show it"
    absent = next((side for side in _SIDES if side not in sides), None)
    without = f"the {absent} split has none" if absent else "every side has a little"
    return f"{where}, on the {' and '.join(sides)} sides: {without}, and its score rests on single images"


def _units(dataset: Dataset, indices: Sequence[int] | range) -> list[str]:
    """Names of the groups, or images without one, that these images belong to."""
    found = {}
    for index in indices:
        image = dataset.images[index]
        found[(image.group is not None, image.group or image.stem)] = image.group or image.stem
    return list(found.values())


def split_lines(dataset: Dataset, seed: int = 0) -> tuple[str, ...]:
    """How `sweeper run --seed SEED` would divide the set and what that split cannot do, or why it cannot be divided."""
    try:
        split = divide(dataset, test_seed=seed, seed=seed)
    except DataError as error:
        return error.problems
    given = sum(image.split is not None for image in dataset.images)
    how = "as given" if given == len(dataset.images) else f"{given} of them given" if given else "stratified"
    sizes = f"{len(split.train)} images train, {len(split.val)} validate, {len(split.test)} test ({how}, seed {seed})"
    return (sizes, *split_notes(dataset, split))
