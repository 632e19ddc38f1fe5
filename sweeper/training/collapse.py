"""Did the training learn anything? Judged from confusion counts; a collapse is a result, not an error."""

from __future__ import annotations

import numpy as np

from sweeper.core.metrics import Counts, compute_constant_miou, compute_objective, find_present_classes
from sweeper.core.records import Collapse

MARGIN = 0.002
"""mIoU by which an answer must beat every constant answer to count as having learned."""


def judge_collapse(class_counts: Counts) -> Collapse:
    """Judge images with class counts (n, C, 3) at one operating point.

    `all_background` when only the most common class is predicted; else `no_better_than_constant` when no better (by
    `MARGIN` in mIoU) than the best constant answer; else `class_never_predicted` when a class that occurs is predicted
    nowhere.
    """
    classes = find_present_classes(class_counts)
    summed = class_counts.sum(axis=0)
    predicted = summed[:, 0] + summed[:, 1]
    if np.flatnonzero(predicted).tolist() == [int((summed[:, 0] + summed[:, 2]).argmax())]:
        return Collapse.ALL_BACKGROUND
    if float(compute_objective(summed, classes)) <= compute_constant_miou(class_counts) + MARGIN:
        return Collapse.NO_BETTER_THAN_CONSTANT
    if bool(((predicted == 0) & classes).any()):
        return Collapse.CLASS_NEVER_PREDICTED
    return Collapse.NONE


def find_never_predicted(class_counts: Counts, names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of the classes that occur and are predicted nowhere; class_counts (n, C, 3)."""
    summed = class_counts.sum(axis=0)
    missing = find_present_classes(class_counts) & (summed[:, 0] + summed[:, 1] == 0)
    return tuple(names[i] for i in np.flatnonzero(missing))
