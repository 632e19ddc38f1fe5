"""Scores of a training from confusion counts alone, whoever trained: operating point, objective, end."""

from __future__ import annotations

from typing import NamedTuple

from sweeper.core import metrics
from sweeper.core.records import Collapse, Conditions, ImageCounts, PartScores, TrialSpec
from sweeper.training.collapse import find_never_predicted, judge_collapse


class TrainingEnd(NamedTuple):
    """Judgement of a training's last answer."""

    collapse: Collapse
    collapse_at_default: Collapse
    never_predicted: tuple[str, ...]


def score_counts(counts: ImageCounts, spec: TrialSpec, conditions: Conditions, *, diverged: bool) -> PartScores:
    """Return objective and metrics of images; where the training diverged the least, which is 0 of most metrics."""
    recipe, dataset = conditions.recipe, conditions.dataset
    default = metrics.default_operating_point(dataset.task)
    tuned, metric = recipe.threshold == "tuned", recipe.metric
    groups = dataset.list_groups(counts.images)
    point = default
    if tuned and spec.purpose == "confirm":
        point = metrics.choose_point(counts, metric, groups)
    elif tuned:
        point = metrics.find_best_point(counts, metric, groups)[0]
    compared = metrics.count_at_point(metrics.select_metric_counts(counts, metric), point)
    if diverged:
        value = metrics.metric_floor(compared.sum(axis=0), metrics.find_present_classes(compared), metric)
    else:
        summed = metrics.sum_image_rows(compared, metric, groups)
        value = float(metrics.compute_objective(summed, metrics.find_present_classes(compared), metric))
    at_chosen, at_default = (metrics.count_at_point(counts, each) for each in (point, default))
    if diverged:  # what NaN logits were counted as is no answer, and must not read like a constant one
        at_chosen, at_default = map(metrics.all_wrong_counts, (at_chosen, at_default))
    chosen, plain = metrics.compute_scores(at_chosen), metrics.compute_scores(at_default)
    return PartScores(value=value, point=point, chosen=chosen, default=plain, images=len(counts.images))


def judge_end(counts: ImageCounts, point: float, conditions: Conditions, *, diverged: bool) -> TrainingEnd:
    """Judge whether a network learned anything, by its counts on validation at its operating point."""
    if diverged:
        return TrainingEnd(Collapse.DIVERGED, Collapse.DIVERGED, ())
    chosen = metrics.count_at_point(counts, point)
    plain = metrics.count_at_point(counts, metrics.default_operating_point(conditions.dataset.task))
    return TrainingEnd(
        judge_collapse(chosen), judge_collapse(plain), find_never_predicted(chosen, conditions.dataset.classes)
    )
