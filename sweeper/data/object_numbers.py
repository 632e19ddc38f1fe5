"""Recognise masks of instances: they number objects where classes are expected.

Object numbers start at 1 in each image, or occur in one image only; each number is one connected object; and, unlike a
class, a number does not predict its object's look, size or place.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sweeper.core.label_parts import label_components
from sweeper.core.records import IGNORE
from sweeper.data.store import PixelStore

STEP = "echo 'object: any' > objects.yaml, then --class-map objects.yaml makes them one class"
"""Next step for masks of instances."""
SAMPLED_IMAGES = 48
"""Images whose masks are examined; of more every n-th, fewer than twice this number."""
MIN_OBJECT_NUMBERS = 5
"""Fewest numbers; fewer may be classes of one component each."""
_MOST = 0.9
"""Least share of numbers that are one connected object, and of images that are numbered like instances."""
_EXPLAINED, _CHANCE = 0.4, 1e-4
"""Least share of the variance between objects that classes explain, and largest p-value."""


def explain_object_numbers(highest: int) -> str:
    """Return the message about masks that number their objects up to `highest`."""
    return (
        f"numbers must be classes, found 1 to {highest}, which look like objects that are numbered in each image (each "
        f"is connected, and neither look nor place follows from it); {STEP}; where they are classes, name them in "
        "classes.txt, one a line"
    )


def number_objects(counts: npt.NDArray[np.int64], store: PixelStore) -> int:
    """Return the highest number if masks number their objects; 0 if their numbers may be classes.

    Args:
        counts: pixels of each number in each mask, (n, 256).
        store: images and masks; some of them are read.
    """
    from scipy.ndimage import find_objects  # not at the top: workers should start soon

    present = counts[:, 1:IGNORE] > 0
    number, highest = present.sum(axis=1), (present * np.arange(1, IGNORE)).max(axis=1, initial=0)
    some = np.flatnonzero(number)
    if not some.size or highest.max() < 3:
        return 0
    again = float(np.mean(number[some] >= 0.8 * highest[some]))
    once = float(np.mean(present.sum(axis=0)[present.any(axis=0)] == 1))
    if max(again, once * (np.median(number[some]) > 1)) < _MOST:
        return 0
    labels: list[int] = []
    looks, whole, ranked = [], [], []
    for index in some[:: max(1, len(some) // SAMPLED_IMAGES)]:
        image, mask = store.get_view(int(index)), store.get_mask(int(index))
        rows = []
        boxes = find_objects(mask, max_label=IGNORE - 1)
        for label in np.flatnonzero(present[index]) + 1:
            box = boxes[label - 1]
            inside = mask[box] == label
            size = int(inside.sum())
            whole.append(np.bincount(label_components(inside)[0].ravel())[1:].max() > _MOST * size)
            place = [(box[axis].start + box[axis].stop) / mask.shape[axis] for axis in (0, 1)]
            rows.append((*image[box][inside].mean(axis=0), np.log(size), *place))
        labels += [*np.flatnonzero(present[index])]
        steps = np.diff([row[-3] for row in rows])
        ranked.append((steps <= 0).all() or (steps >= 0).all())
        looks.append(np.array(rows) - np.mean(rows, axis=0))  # relative to the image's other objects
        if len(whole) > 20 and np.mean(whole) < _MOST / 2:
            return 0
    if np.mean(whole) < _MOST:
        return 0
    *look, large, down, right = (_follows(np.array(labels), values) for values in np.concatenate(looks).T)
    # Numbers often follow the rows, or the columns; only classes follow both. Numbers may also rank by size.
    large &= bool(np.mean(ranked) < _MOST or highest.max() < MIN_OBJECT_NUMBERS or np.ptp(number[some]) == 0)
    return 0 if any(look) or large or (down and right) else int(highest.max())


def _follows(labels: npt.NDArray[np.int64], values: npt.NDArray[np.float64]) -> bool:
    """Return whether labels explain a good share of the variance of the values' ranks (Kruskal-Wallis, η²)."""
    from scipy.stats import kruskal

    groups = [group for label in np.unique(labels) if len(group := values[labels == label]) > 1]
    if len(groups) < 2 or np.ptp(values) < 1e-6:
        return len(groups) > 1
    test, free = kruskal(*groups), sum(map(len, groups)) - len(groups)
    return bool(test.pvalue < _CHANCE and (test.statistic - len(groups) + 1) / free >= _EXPLAINED)
