"""Who trains, who validates, who tests: given splits kept, the rest stratified, groups whole."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sweeper.core.errors import DataError
from sweeper.core.records import Dataset, Split
from sweeper.data.stratify import Unit, indices_of, keyed, size_of, strata_of, take, units_of, without

TEST_SHARE = 0.2
"""Of all images."""
VAL_SHARE = 0.25
"""Of those that are not in the test split: 60/20/20 altogether."""


def divide(dataset: Dataset, *, test_seed: int, seed: int) -> Split:
    """Train, validation and test images.

    Given splits are kept, and images of a group follow its given members. The others are assigned so that the whole
    comes as near to 60/20/20 as the given part allows. Where no validation image is given, and the unassigned ones
    are too few, a quarter of the training images is taken; likewise a fifth for a missing test split.

    Args:
        dataset: its images' class counts, splits and groups decide; the order of images matters.
        test_seed: the test split depends on this seed alone.
        seed: divides the remaining images into train and validation, where that is not given.

    Raises:
        DataError: a side would be empty: fewer groups than sides to fill.
    """
    strata = strata_of(dataset)
    units = units_of(dataset)
    free = [unit for unit in units if unit.fixed is None]
    given = {side: [unit for unit in units if unit.fixed == side] for side in ("train", "val", "test")}
    if len(free) + len(given["train"]) + bool(given["val"]) + bool(given["test"]) < 3:
        raise _too_few(dataset, len(units))

    wanted = TEST_SHARE * size_of(units) - size_of(given["test"])
    pool = _pool(free, given["train"], wanted, needed=not given["test"])
    others = bool(given["val"]) + len(without(given["train"], pool))
    test = take(pool, wanted, strata, keyed(test_seed, 0), least=not given["test"], leave=max(0, 2 - others))
    free = without(free, test)
    train = without(given["train"], test)

    wanted = VAL_SHARE * size_of([*free, *train, *given["val"]]) - size_of(given["val"])
    pool = _pool(free, train, wanted, needed=not given["val"])
    val = take(pool, wanted, strata, keyed(seed, 1), least=not given["val"], leave=not without(train, pool))
    train = without([*free, *train], val)

    sides = [indices_of(side) for side in (train, [*given["val"], *val], [*given["test"], *test])]
    if not all(sides):
        raise _too_few(dataset, len(units))
    return Split(train=sides[0], val=sides[1], test=sides[2])


def stratified_subset(dataset: Dataset, indices: Sequence[int], count: int) -> tuple[int, ...]:
    """At most `count` of the images `indices`, ascending; always the same ones, without a seed.

    Every class that occurs in `indices` keeps an image where `count` allows it, the rarest first; the rest are
    spread evenly over the images ordered by their share of pixels outside the commonest class.

    Raises:
        ValueError: if `count` is below 1.
    """
    if count < 1:
        raise ValueError(f"a subset must keep at least 1 image, got {count}; ask for more")
    order = sorted(set(indices))
    if len(order) <= count:
        return tuple(order)
    pixels = np.array([dataset.pictures[i].pixels for i in order], dtype=np.int64)
    chosen: list[int] = []
    occurs = pixels > 0
    for label in np.argsort(occurs.sum(axis=0), kind="stable"):
        if len(chosen) < count and occurs[:, label].any() and not occurs[chosen, label].any():
            missing = ~occurs[chosen].any(axis=0)
            gain = np.where(occurs[:, label], occurs[:, missing].sum(axis=1), 0)
            best = np.flatnonzero(gain == gain.max())
            chosen.append(int(best[pixels[best, label].argmax()]))
    uncommon = 1 - pixels[:, pixels.sum(axis=0).argmax()] / np.maximum(1, pixels.sum(axis=1))
    rest = [int(i) for i in np.argsort(uncommon, kind="stable") if i not in chosen]
    fill = count - len(chosen)
    chosen += [rest[int((k + 0.5) * len(rest) / fill)] for k in range(fill)]
    return tuple(sorted(order[i] for i in chosen))


def _pool(free: list[Unit], train: list[Unit], wanted: float, *, needed: bool) -> list[Unit]:
    """Where a side is taken from: the unassigned; given training images only for a side that would else be poor."""
    return [*free, *train] if needed and size_of(free) < wanted / 2 else free


def _too_few(dataset: Dataset, units: int) -> DataError:
    counts = {side: sum(p.split == side for p in dataset.pictures) for side in ("train", "val", "test")}
    given = ", ".join(f"{side} {number}" for side, number in counts.items())
    return DataError(
        dataset.name,
        [
            f"split: train, validation and test need a group of images each, found {units} (images with a given split: "
            f"{given}); add images, make the groups smaller, or assign them in split.csv"
        ],
    )
