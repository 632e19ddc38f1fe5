"""The choice of an operating point: the threshold, or τ, at which a metric is best on validation images."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from sweeper.core.metrics import (
    METRICS,
    Floats,
    compute_objective,
    count_at_all_points,
    count_at_point,
    find_scored_classes,
    number_units,
    select_metric_counts,
    split_counts,
    sum_image_rows,
)
from sweeper.core.records import ImageCounts, OperatingPoint
from sweeper.core.tasks import RULES, make_point

FOLDS = 20
"""Parts of the images, each of which is scored at the operating point that is best on the others."""


def find_best_point(
    counts: ImageCounts, metric: str = "miou", groups: Sequence[str | None] | None = None
) -> tuple[OperatingPoint, float]:
    """Find the operating point with the highest metric over these images; return it with that metric.

    Ties go to the point nearest the default, so that a flat optimum does not look like a shift. Each of several
    independent classes gets the threshold that is best for itself. `groups`: see `sum_image_rows`.
    """
    best = _choose_each(counts, lambda one: _find_best(one, metric, groups))
    counted = count_at_point(select_metric_counts(counts, metric), best)
    summed = sum_image_rows(counted, metric, counts.task, groups)
    return best, float(compute_objective(summed, find_scored_classes(counts, metric), metric))


def choose_point(
    counts: ImageCounts, metric: str = "miou", groups: Sequence[str | None] | None = None
) -> OperatingPoint:
    """Choose the operating point on these images, for each class by itself if each has its own (`_choose_single`)."""
    return _choose_each(counts, lambda one: _choose_single(one, metric, groups))


def _choose_each(counts: ImageCounts, choose: Callable[[ImageCounts], float]) -> OperatingPoint:
    chosen = [choose(one) for one in split_counts(counts)]
    return make_point(np.array(chosen) if RULES[counts.task].has_planes else np.array(chosen[0]))


def _find_best(counts: ImageCounts, metric: str, groups: Sequence[str | None] | None) -> float:
    counted = select_metric_counts(counts, metric)
    return float(counted.points[_pick_best_index(counted, score_all_points([counts], metric, groups))])


def _choose_single(counts: ImageCounts, metric: str, groups: Sequence[str | None] | None) -> float:
    """Return the best operating point, or the plain one if a tuned point scores worse on images that did not choose it.

    The images (groups whole) are divided into `FOLDS` parts, or as many as there are, and each part is scored at the
    point that is best on the others. Tuning loses if this metric is below that at the plain point by more than its
    standard error, a jackknife over the parts. Fewer than two parts show no loss.
    """
    counted = select_metric_counts(counts, metric)
    units = number_units(groups)
    folds = (np.arange(len(counted.data)) if units is None else units) % FOLDS
    swept = []
    for fold_images in (np.flatnonzero(folds == fold).tolist() for fold in np.unique(folds)):
        part = counted.model_copy(update={"data": counted.data[fold_images], "images": ()})
        part = part.summed if METRICS[metric].rows is None else part
        swept.append(
            sum_image_rows(
                count_at_all_points(part),
                metric,
                counts.task,
                None if groups is None else [groups[i] for i in fold_images],
            )
        )
    rows, plain = np.stack(swept), len(counted.points) // 2
    if len(rows) > 1:
        marked = find_scored_classes(counts, metric)
        others = compute_objective(rows.sum(axis=0) - rows, marked, metric)
        chosen = np.stack([row[_pick_best_index(counted, values)] for row, values in zip(rows, others, strict=True)])

        pair = np.stack([chosen, rows[:, plain]])  # (2, folds, …)
        total = pair.sum(axis=1, keepdims=True)
        gain, without = (np.subtract(*compute_objective(sums, marked, metric)) for sums in (total, total - pair))
        if gain[0] < -math.sqrt((len(rows) - 1) * without.var()):
            return float(counted.points[plain])
    return _find_best(counts, metric, groups)


def score_all_points(parts: Sequence[ImageCounts], metric: str, groups: Sequence[str | None] | None = None) -> Floats:
    """Return the metric over the images of all parts together at every operating point, (T,).

    `groups` as in `sum_image_rows`, of the images of all parts one after another.
    """
    counted = [select_metric_counts(part, metric) for part in parts]
    if METRICS[metric].rows is None:  # sums are enough: one sweep in place of one for each image
        counted, groups = [part.summed for part in counted], None
    swept = np.concatenate([count_at_all_points(part) for part in counted])
    summed = sum_image_rows(swept, metric, parts[0].task, groups)
    marked = np.any([find_scored_classes(part, metric) for part in parts], axis=0)
    return compute_objective(summed, marked, metric)


def _pick_best_index(counts: ImageCounts, values: Floats) -> int:
    points = np.asarray(counts.points)
    distance = np.abs(points - np.median(points))  # the default is in the middle
    best = np.flatnonzero(values >= values.max() - 1e-12)
    return int(best[distance[best].argmin()])
