"""Score a training from only its confusion counts, whoever trained it: operating point, objective, collapse.

A collapse is a result, not an error.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sweeper.core import metrics, point_choice
from sweeper.core.metrics import Counts, compute_constant_miou, compute_objective, find_present_classes
from sweeper.core.records import Collapse, Conditions, ImageCounts, OperatingPoint, PartScores, TrialSpec
from sweeper.core.tasks import RULES

MARGIN = 0.002
"""mIoU by which a prediction must beat every constant one to count as having learned."""


class TrainingEnd(NamedTuple):
    """Judgement of a training's last predictions."""

    collapse: Collapse
    collapse_at_default: Collapse
    never_predicted: tuple[str, ...]


def score_counts(counts: ImageCounts, spec: TrialSpec, conditions: Conditions, *, diverged: bool) -> PartScores:
    """Compute objective and metrics of images; a diverged training gets the lowest values, 0 for most metrics."""
    recipe, dataset = conditions.recipe, conditions.dataset
    default = RULES[dataset.task].plain_point
    metric, groups = recipe.metric, dataset.list_groups(counts.images)
    if spec.is_tested:
        point = point_choice.choose_point(counts, metric, groups)
    else:
        point = point_choice.find_best_point(counts, metric, groups)[0]
    compared = metrics.count_at_point(metrics.select_metric_counts(counts, metric), point)
    classes = metrics.find_scored_classes(counts, metric)
    at_chosen, at_default = (metrics.count_at_point(counts, each) for each in (point, default))
    if diverged:  # counts of NaN logits must not look like a constant prediction
        at_chosen, at_default = map(metrics.make_all_wrong_counts, (at_chosen, at_default))
        value = metrics.compute_metric_floor(compared.sum(axis=0), classes, metric)
    else:
        summed = metrics.sum_image_rows(compared, metric, counts.task, groups)
        value = float(compute_objective(summed, classes, metric))
    chosen, plain = (metrics.compute_scores(each, dataset.task) for each in (at_chosen, at_default))
    return PartScores(value=value, point=point, chosen=chosen, default=plain, images=len(counts.images))


def judge_end(counts: ImageCounts, point: OperatingPoint, conditions: Conditions, *, diverged: bool) -> TrainingEnd:
    """Judge whether a network has learned anything, by its validation counts at its operating point."""
    if diverged:
        return TrainingEnd(Collapse.DIVERGED, Collapse.DIVERGED, ())
    dataset = conditions.dataset
    plain = RULES[dataset.task].plain_point
    missing = find_never_predicted(metrics.count_at_point(counts, point), dataset.classes)
    return TrainingEnd(judge_collapse(counts, point), judge_collapse(counts, plain), missing)


def judge_collapse(counts: ImageCounts, point: OperatingPoint) -> Collapse:
    """Judge images by their counts at one operating point.

    `all_background` if only the most common class is predicted, or none of a multi-label task; else
    `no_better_than_constant` if not better (by `MARGIN` in mIoU) than the best constant prediction; else
    `class_never_predicted` if a class that occurs is never predicted.
    """
    class_counts = metrics.count_at_point(counts, point)
    classes = find_present_classes(class_counts)
    summed = class_counts.sum(axis=0)
    predicted = summed[:, 0] + summed[:, 1]
    common = [] if RULES[counts.task].has_planes else [int((summed[:, 0] + summed[:, 2]).argmax())]
    if np.flatnonzero(predicted).tolist() == common:
        return Collapse.ALL_BACKGROUND
    if float(compute_objective(summed, classes)) <= compute_constant_miou(counts) + MARGIN:
        return Collapse.NO_BETTER_THAN_CONSTANT
    if bool(((predicted == 0) & classes).any()):
        return Collapse.CLASS_NEVER_PREDICTED
    return Collapse.NONE


def find_never_predicted(class_counts: Counts, names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the names of the classes that occur and are never predicted; class_counts (n, C, 3)."""
    summed = class_counts.sum(axis=0)
    missing = find_present_classes(class_counts) & (summed[:, 0] + summed[:, 1] == 0)
    return tuple(names[i] for i in np.flatnonzero(missing))
