"""Counts from whole label maps, rather than single pixels: components, the regions around them, contours.

A component of a class is a set of its pixels that are connected at edges or corners (8-connected). Class 0 has none.
Ignored pixels belong to no component, and cut those that they cross.

Each function takes a label map (H, W), 255 = ignore, and the number C of classes. It returns a function from an answer
(H, W) to counts (C, 3) int64, so that computations on the label are done once.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from sweeper.core.contours import Marks, Mask, count_boundary_pixels
from sweeper.core.records import IGNORE

UNIT = 2**16
"""Resolution of a component's Dice, which is counted in integers."""

Counter = Callable[[Mask], npt.NDArray[np.int64]]


def label_components(inside: Marks) -> tuple[npt.NDArray[np.int32], int]:
    """Label the components of a mask: each pixel's component number, (H, W), from 1, 0 outside; and their number."""
    from scipy.ndimage import label  # not at the top: workers should start quickly

    ids = np.zeros(inside.shape, dtype=np.int32)
    return ids, int(label(inside, structure=np.ones((3, 3)), output=ids))


def count_lesions(mask: Mask, classes: int) -> Counter:
    """Count the components of each class that are found, falsely alarmed, and missed.

    One is found by a component of the answer with an IoU above 0.5; at most one has that.
    """
    labelled = mask != IGNORE
    truth = {c: label_components(mask == c) for c in np.unique(mask[labelled]).tolist() if c}

    def count(answer: Mask) -> npt.NDArray[np.int64]:
        counts = np.zeros((classes, 3), dtype=np.int64)
        for c in {*truth, *np.flatnonzero(np.bincount(answer[labelled], minlength=classes)).tolist()} - {0}:
            ids, number = truth.get(c, (None, 0))
            predicted, alarms = label_components(labelled & (answer == c))
            hits = 0 if ids is None or not alarms else _match_components(ids, predicted, alarms)
            counts[c] = hits, alarms - hits, number - hits
        return counts

    return count


def _match_components(ids: npt.NDArray[np.int32], predicted: npt.NDArray[np.int32], alarms: int) -> int:
    both = (ids > 0) & (predicted > 0)
    pairs, common = np.unique(ids[both].astype(np.int64) * (alarms + 1) + predicted[both], return_counts=True)
    sizes = np.bincount(ids.ravel())[pairs // (alarms + 1)] + np.bincount(predicted.ravel())[pairs % (alarms + 1)]
    return int((2 * common > sizes - common).sum())


def sum_component_dice(mask: Mask, classes: int) -> Counter:
    """Sum the Dice of each component in its region: reached, 0, lost, in units of `UNIT`.

    A component's region is the pixels that are nearest to it (CC-Dice: Jaus et al. 2024, *Every Component Counts*,
    arXiv:2410.18684). A class without a component in the image loses 1 if it is predicted. If it is not, it reaches 1
    with two classes, and does not count with more.
    """
    from scipy.ndimage import distance_transform_edt

    labelled = mask != IGNORE
    truth = {}
    for c in np.unique(mask[labelled]).tolist():
        if c:
            ids, number = label_components(mask == c)
            nearest = distance_transform_edt(ids == 0, return_distances=False, return_indices=True)
            truth[c] = ids, number, ids[tuple(nearest)], np.bincount(ids.ravel(), minlength=number + 1)[1:]

    def count(answer: Mask) -> npt.NDArray[np.int64]:
        counts = np.zeros((classes, 3), dtype=np.int64)
        for c, (ids, number, region, sizes) in truth.items():
            predicted = labelled & (answer == c)
            hits = np.bincount(ids[predicted], minlength=number + 1)[1:]
            answered = np.bincount(region[predicted], minlength=number + 1)[1:]
            reached = int(np.rint(UNIT * (2 * hits / (sizes + answered)).sum()))
            counts[c] = reached, 0, UNIT * number - reached
        answers = np.bincount(answer[labelled], minlength=classes) > 0
        for c in set(range(1, classes)) - truth.keys() if labelled.any() else ():
            counts[c] = UNIT * (classes == 2 and not answers[c]), 0, UNIT * answers[c]
        return counts

    return count


def count_contour_pixels(mask: Mask, classes: int) -> Counter:
    """Count the pixels in the inner bands of the contours (`count_boundary_pixels`); binary: only the foreground's."""

    def count(answer: Mask) -> npt.NDArray[np.int64]:
        counts = count_boundary_pixels(mask, answer, classes)
        if classes == 2:
            counts[0] = 0
        return counts

    return count
