"""Scores from `TestDetail`, beyond confusion counts: contours, centre lines. Pure NumPy."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sweeper.core.metrics import Counts, Floats, average_classes, compute_iou, divide_or_nan
from sweeper.core.records import TestDetail


def compute_cldice(summed: Counts) -> Floats:
    """Compute the centre-line Dice of each class from (..., C, 4) counts as in `TestDetail.centreline` → (..., C).

    Harmonic mean of the shares of the answer's centre line inside the label and of the label's inside the answer (Shit
    et al. 2021, eq. 1–2); 0 where either is 0 or one of the lines is missing, NaN where both are.
    """
    precision = np.nan_to_num(divide_or_nan(summed[..., 0], summed[..., 1]))
    recall = np.nan_to_num(divide_or_nan(summed[..., 2], summed[..., 3]))
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.where(precision + recall > 0, 2 * precision * recall / (precision + recall), 0.0)
    result: Floats = np.where(summed[..., 1] + summed[..., 3] > 0, mean, np.nan)
    return result


def find_classes_with_contour(boundary: Counts) -> npt.NDArray[np.bool_]:
    """Return which classes have a contour in the labels; (n, C, 3) → (C,). Binary: only the foreground's."""
    summed = boundary.sum(axis=0)
    has_contour: npt.NDArray[np.bool_] = (summed[:, 0] + summed[:, 2]) > 0
    if len(has_contour) == 2:
        has_contour[0] = False
    return has_contour


def find_classes_with_centreline(centreline: Counts) -> npt.NDArray[np.bool_]:
    """Return which classes have a centre line in the labels; (n, C, 4) → (C,)."""
    has_centreline: npt.NDArray[np.bool_] = centreline[..., 3].sum(axis=0) > 0
    return has_centreline


def compute_detail_scores(detail: TestDetail) -> dict[str, float]:
    """Compute boundary IoU and clDice (means over the classes with contours, or measured centre lines).

    Keys `boundary_iou`, `cldice`; an undefined one is left out. Values in 0–1.
    """
    boundary, centreline = detail.boundary.astype(np.int64), detail.centreline.astype(np.int64)
    contours, lines = find_classes_with_contour(boundary), find_classes_with_centreline(centreline)
    scores = {}
    if contours.any():
        scores["boundary_iou"] = float(average_classes(compute_iou(boundary.sum(axis=0)), contours))
    if lines.any():
        scores["cldice"] = float(average_classes(compute_cldice(centreline.sum(axis=0)), lines))
    return scores
