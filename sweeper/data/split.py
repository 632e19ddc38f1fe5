"""Divide images into train, validation and test: given splits are kept, the rest is stratified, groups stay whole.

Iterative stratification (Sechidis, Tsoumakas & Vlahavas 2011, "On the stratification of multi-label data"): the rarest
class is distributed first, and each unit goes to the side that lacks this class most. Units are groups of images. In
binary sets, where nearly every image may contain the foreground, bins of its pixel share replace the classes.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sweeper.core.errors import DataError
from sweeper.core.records import Dataset, Split, SplitName

TEST_SHARE = 0.2
"""Share of all images."""
VAL_SHARE = 0.25
"""Share of the images that are not in the test split; the result is 60/20/20."""
SHARE_BINS = 4
"""Bins of the foreground's pixel share in binary sets, plus one for images without foreground."""

END_COST = 0.5
"""Largest share of a training's work for its last validation, if training on a pixel costs as much as scoring three."""
END_IMAGES = 32
"""Fewest images of the last validation."""

Strata = npt.NDArray[np.bool_]


class SplitUnit(NamedTuple):
    """Images that stay on one side."""

    images: tuple[int, ...]
    fixed: SplitName | None
    """Given side of these images."""


def make_units(dataset: Dataset) -> list[SplitUnit]:
    """Return groups, and images without one; a group with given members on several sides is cut between the sides."""
    groups: dict[object, list[int]] = defaultdict(list)
    for index, image in enumerate(dataset.images):
        groups[index if image.group is None else image.group].append(index)
    units = []
    for members in groups.values():
        given: Counter[SplitName] = Counter(filter(None, (dataset.images[index].split for index in members)))
        (most, _), *_ = [*given.most_common(1), (None, 0)]
        sides: dict[int, SplitName | None] = {i: dataset.images[i].split or most for i in members}
        units += [
            SplitUnit(tuple(index for index in members if sides[index] == side), side)
            for side in dict.fromkeys(sides.values())
        ]
    return sorted(units)


def make_strata(dataset: Dataset) -> Strata:
    """Return the strata, (images, L) bool: presence of each class (multi-label: also much of it), or share bins."""
    pixels = np.array([image.pixels for image in dataset.images], dtype=np.float64)
    shares = pixels / np.maximum(1, [[image.labelled] for image in dataset.images])
    if dataset.planes:  # most images may have every class: those with much of it are divided, too
        usual = np.ma.median(np.ma.masked_equal(shares, 0), axis=0).filled(1.0)  # type: ignore[no-untyped-call]
        return np.concatenate([shares > 0, shares > usual], axis=1)
    if dataset.task == "multiclass":
        return pixels > 0
    share = shares[:, 1]
    filled = share > 0
    bins = np.zeros(len(share), dtype=np.int64)
    ranks = np.argsort(np.argsort(share[filled], kind="stable"), kind="stable")
    bins[filled] = 1 + ranks * SHARE_BINS // max(1, int(filled.sum()))
    strata: Strata = bins[:, None] == np.arange(SHARE_BINS + 1)
    return strata


def take_units(
    pool: Sequence[SplitUnit], wanted: float, strata: Strata, rng: np.random.Generator, *, least: bool, leave: int
) -> list[SplitUnit]:
    """Choose units with about `wanted` images out of `pool`, stratified.

    Args:
        pool: units to choose from.
        wanted: number of images; below one half nothing is chosen, unless `least`.
        strata: (images, L), the strata to distribute evenly.
        rng: breaks ties.
        least: whether at least one unit must be chosen.
        leave: number of units that must remain.
    """
    if not pool or (wanted < 0.5 and not least):
        return []
    units = [pool[i] for i in rng.permutation(len(pool))]
    units.sort(key=lambda unit: -len(unit.images))  # large units first, while both sides have room
    sizes = np.array([len(unit.images) for unit in units], dtype=np.float64)
    inside = np.array([strata[list(unit.images)].sum(axis=0) for unit in units], dtype=np.float64)  # (units, L)
    share = min(1.0, max(wanted, 1.0) / sizes.sum())
    demand = np.array([[share], [1 - share]]) * inside.sum(axis=0)  # (2, L): taken, left
    room = np.array([share, 1 - share]) * sizes.sum()
    fitting = sizes <= 2 * max(wanted, 1.0)
    waiting = fitting | ~fitting.any()  # if none fits, one of the large ones must be chosen
    sides: list[list[int]] = [[], np.flatnonzero(~waiting).tolist()]
    demand[1] -= inside[~waiting].sum(axis=0)
    room[1] -= sizes[~waiting].sum()
    while count := int(waiting.sum()):
        open_labels = inside[waiting].sum(axis=0)
        label = int(np.where(open_labels > 0, open_labels, np.inf).argmin()) if open_labels.any() else None
        for index in np.flatnonzero(waiting if label is None else waiting & (inside[:, label] > 0)):
            missing = max(0, leave - len(sides[1]))
            if count <= missing:
                side = 1
            elif least and not sides[0] and count == 1:
                side = 0
            else:
                side = _assign_sides(label, demand, room, float(sizes[index]))
            sides[side].append(int(index))
            demand[side] -= inside[index]
            room[side] -= sizes[index]
            waiting[index] = False
            count -= 1
    return [units[i] for i in sides[0]]


def _assign_sides(
    label: int | None, demand: npt.NDArray[np.float64], room: npt.NDArray[np.float64], size: float
) -> int:
    """Return 0 = taken or 1 = left: the side with room, then the one that lacks the label most, then images most."""
    for side in (0, 1):
        if room[side] < size / 2 and room[1 - side] >= size / 2:
            return 1 - side
    if label is not None and abs(demand[0, label] - demand[1, label]) > 1e-9:
        return int(demand[1, label] > demand[0, label])
    return int(room[1] >= room[0])


def make_keyed_rng(seed: int, purpose: int) -> np.random.Generator:
    """Return a random generator for one purpose, which depends only on the seed and the purpose."""
    return np.random.default_rng([seed % 2**64, purpose])


def count_images(units: Iterable[SplitUnit]) -> int:
    """Count the images in these units."""
    return sum(len(unit.images) for unit in units)


def exclude_units(units: Sequence[SplitUnit], excluded: Sequence[SplitUnit]) -> list[SplitUnit]:
    """Return the units without the excluded ones, in order."""
    gone = set(excluded)
    return [unit for unit in units if unit not in gone]


def list_indices(units: Iterable[SplitUnit]) -> tuple[int, ...]:
    """Return the indices of the units' images, ascending."""
    return tuple(sorted(index for unit in units for index in unit.images))


def divide_images(dataset: Dataset, *, test_seed: int, seed: int) -> Split:
    """Divide images into train, validation and test.

    Given splits are kept, and images of a group follow its given members. The others are assigned to come as near to
    60/20/20 as the given splits allow. If no validation image is given, and the unassigned images are too few, a
    quarter of the training images is taken; likewise a fifth for a missing test split.

    Args:
        dataset: its images' class counts, splits and groups are used; the order of images matters.
        test_seed: determines the test split.
        seed: divides the remaining images into train and validation, unless these are given.

    Raises:
        DataError: a side would be empty, as there are fewer groups than sides to fill.
    """
    units = make_units(dataset)
    sides = {side: [unit for unit in units if unit.fixed == side] for side in (None, "train", "val", "test")}
    strata = make_strata(dataset)
    fills: list[tuple[SplitName, list[SplitName], float, np.random.Generator]] = [
        ("test", ["val"], TEST_SHARE, make_keyed_rng(test_seed, 0)),
        ("val", [], VAL_SHARE, make_keyed_rng(seed, 1)),
    ]
    for side, later, share, rng in fills:  # the later sides, and last the training, need units, too
        given, free, trained = sides[side], sides[None], sides["train"]
        others = [*free, *trained, *(unit for name in later for unit in sides[name])]
        wanted = share * count_images([*others, *given]) - count_images(given)
        # Given training images are moved only if the side has none, and the unassigned ones are too few.
        pool = [*free, *trained] if not given and count_images(free) < wanted / 2 else free
        filled = len(exclude_units(trained, pool)) + sum(bool(sides[name]) for name in later)
        leave = max(0, 1 + len(later) - filled)
        taken = take_units(pool, wanted, strata, rng, least=not given, leave=leave)
        taken = _leave_each_class(dataset, taken, others, 1 + len(later))
        sides = {name: exclude_units(part, taken) for name, part in sides.items()} | {side: [*given, *taken]}
    train, val, test = (list_indices(part) for part in ([*sides[None], *sides["train"]], sides["val"], sides["test"]))
    if not all([train, val, test]):
        counts = {side: sum(p.split == side for p in dataset.images) for side in ("train", "val", "test")}
        counts_text = ", ".join(f"{side} {number}" for side, number in counts.items())
        rule = f"split: train, validation and test need a group of images each, found {len(units)}"
        step = "add images, make the groups smaller (--groups none: each image is one), or assign them in split.csv"
        raise DataError(dataset.name, [f"{rule} (images with a given split: {counts_text}); {step}"])
    return Split(train=train, val=val, test=test)


def select_stratified_subset(dataset: Dataset, indices: Sequence[int], count: int) -> tuple[int, ...]:
    """Return at most `count` (≥ 1) of the images `indices`, ascending, chosen without a random seed.

    Each class that occurs in `indices` keeps an image if `count` allows it, the rarest first; the rest are spread
    evenly over the images ordered by their share of pixels outside the most common class.
    """
    order = sorted(set(indices))
    if len(order) <= count:
        return tuple(order)
    pixels = np.array([dataset.images[i].pixels for i in order], dtype=np.int64)
    chosen: list[int] = []
    occurs = pixels > 0
    for label in np.argsort(occurs.sum(axis=0), kind="stable"):
        if len(chosen) < count and occurs[:, label].any() and not occurs[chosen, label].any():
            missing = ~occurs[chosen].any(axis=0)
            gain = np.where(occurs[:, label], occurs[:, missing].sum(axis=1), 0)
            best = np.flatnonzero(gain == gain.max())
            chosen.append(int(best[pixels[best, label].argmax()]))
    labelled = np.array([dataset.images[i].labelled for i in order])
    uncommon = 1 - pixels[:, pixels.sum(axis=0).argmax()] / np.maximum(1, labelled)
    rest = [int(i) for i in np.argsort(uncommon, kind="stable") if i not in chosen]
    fill = count - len(chosen)
    chosen += [rest[int((k + 0.5) * len(rest) / fill)] for k in range(fill)]
    return tuple(sorted(order[i] for i in chosen))


def select_scored_images(
    dataset: Dataset, images: Sequence[int], work: int, cost: float = END_COST, least: int = END_IMAGES
) -> tuple[int, ...]:
    """Return the validation images on which a training is scored: all, or a subset spread over the classes.

    Args:
        dataset: the images.
        images: indices of the validation images, at least one.
        work: number of training pixels; trainings with equal work are scored on the same images.
        cost: largest share of the training's work for the evaluation.
        least: fewest images to return.
    """
    pixels = sum(dataset.images[i].height * dataset.images[i].width for i in images) / len(images)
    return select_stratified_subset(dataset, images, max(least, int(cost * 3 * work / pixels)))


def _leave_each_class(
    dataset: Dataset, chosen: Sequence[SplitUnit], units: Sequence[SplitUnit], least: int
) -> list[SplitUnit]:
    """Return the chosen units without the smallest of a class that fewer than `least` other units have.

    One unit of each class stays. This matters for a few large groups, which stratification divides only coarsely.
    """
    kept, left = [*chosen], exclude_units(units, chosen)
    for label in range(len(dataset.classes)):

        def has_class(unit: SplitUnit, label: int = label) -> bool:
            return any(dataset.images[i].pixels[label] for i in unit.images)

        missing = least - len([*islice(filter(has_class, left), least)])
        owners = sorted(filter(has_class, kept), key=lambda unit: len(unit.images)) if missing else []
        for unit in owners[: max(0, min(missing, len(owners) - 1))]:
            kept.remove(unit)
            left.append(unit)
    return kept
