"""Other measures of confirmed runs: one number per run, from counts that add up over images."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, get_args

import numpy as np

from sweeper.core import metrics, point_choice
from sweeper.core.detail_scores import (
    compute_calibration_error,
    compute_cldice,
    find_classes_with_centreline,
    find_classes_with_contour,
)
from sweeper.core.records import ImbalanceProfile, PreferenceName, TrialResult
from sweeper.evidence.intervals import Counts, Floats, Sums
from sweeper.evidence.replicates import (
    Replicate,
    Table,
    count_class_pixels,
    get_own_point,
    list_scored_images,
    make_missed_counts,
    stack_measurements,
)

MIN_THINNESS = 0.5
"""A class is a thin structure where more than this share of its pixels is thin (`ClassProfile.thinness`)."""
Marks = np.ndarray[tuple[int, ...], np.dtype[np.bool_]]


@dataclass(frozen=True)
class PreferenceMeasure:
    """One number per replicate (row), from counts that add up over images."""

    name: PreferenceName
    text: str
    counts: Sums  # (R, n, …)
    score: Callable[[Any], Floats]  # (…, R, …) sums → (…, R), unchanged when all are multiplied by one number
    points: tuple[float, ...] = ()  # per replicate
    higher: bool = True
    lost: float = 0.0
    """Value of a run without any answer."""


def list_measures(
    replicates: Sequence[Replicate], profile: ImbalanceProfile | None, *, tuned: bool, metric: str = "miou"
) -> list[PreferenceMeasure]:
    """Return all measures that these replicates and this profile allow, in the order of `PreferenceName`.

    At least one replicate must have an answer. Where points are `tuned`, they are chosen on validation again for F2 and
    F½; the runs' own points were chosen by `metric`, which the verdict compares.
    """
    binary = (
        next(run.test.kind for r in replicates for run in r.runs_with_counts if run.test is not None) == "histogram"
    )
    images = list_scored_images(replicates)
    own_points = _list_points(replicates, get_own_point)
    at_own = count_class_pixels(replicates, images, get_own_point)
    classes = metrics.find_present_classes(at_own.reshape(-1, *at_own.shape[2:]))

    def plain(_: TrialResult) -> float:
        return metrics.get_default_operating_point("binary" if binary else "multiclass")

    def worst_iou(summed: Counts) -> Floats:
        return np.asarray(np.nan_to_num(metrics.compute_iou(summed)[..., classes], nan=1.0).min(axis=-1))

    of_what = "of the foreground" if binary else "mean over the classes"
    measures = []
    wanted: tuple[tuple[PreferenceName, float, str], ...] = (("misses", 2.0, "F2"), ("false_alarms", 0.5, "F½"))
    for name, beta, sign in wanted:
        score, point, at = _make_f_measure(beta, classes, binary), plain, "at 0.5" if binary else "at τ = 0"
        if tuned:
            point = partial(_find_best_f_point, binary=binary, beta=beta)
            at = "at the operating point best for it on validation"
        counts, points = count_class_pixels(replicates, images, point), _list_points(replicates, point)
        measures.append(PreferenceMeasure(name, f"{sign} {of_what}, {at}", counts, score, points))
    if metric != "miou":
        miou = partial(metrics.compute_objective, classes=classes)
        measures.append(PreferenceMeasure("overlap", "mIoU", at_own, miou, own_points))
    detailed = _list_detail_measures(replicates, images, profile, own_points, binary)
    measures += [measure for measure in detailed if metric != "boundary_iou" or measure.name != "boundaries"]
    if not binary and classes.any():
        measures.append(PreferenceMeasure("rare_classes", "IoU of the worst class", at_own, worst_iou, own_points))
    order = get_args(PreferenceName)
    return sorted(measures, key=lambda m: order.index(m.name))


def _list_detail_measures(
    replicates: Sequence[Replicate],
    images: Sequence[int],
    profile: ImbalanceProfile | None,
    points: tuple[float, ...],
    binary: bool,
) -> list[PreferenceMeasure]:
    """Return the measures that need `TestDetail` of every run that has an answer."""
    answered = [run for replicate in replicates for run in replicate.runs_with_counts]
    if any(run.detail is None or run.test is None or run.detail.images != run.test.images for run in answered):
        return []
    width = next(run.detail.boundary_pixels for run in answered if run.detail is not None)
    measures = []
    boundary = _stack_details(replicates, images, "boundary", make_missed_counts)
    contours = find_classes_with_contour(boundary.reshape(-1, *boundary.shape[2:]))
    if contours.any():
        of_what = "of the foreground" if binary else "mean over the classes with contours"
        text = f"boundary IoU {of_what}, within {width} pixels"
        score = _average(metrics.compute_iou, contours)
        measures.append(PreferenceMeasure("boundaries", text, boundary, score, points))
    lines = _stack_details(replicates, images, "centreline", _make_missed_centrelines)
    of_profile = () if profile is None else profile.classes
    thin = find_classes_with_centreline(lines.reshape(-1, *lines.shape[2:]))
    thin &= [0 < c < len(of_profile) and (of_profile[c].thinness or 0.0) > MIN_THINNESS for c in range(len(thin))]
    if thin.any():
        text = "clDice of the foreground" if binary else "clDice, mean over the thin classes"
        measures.append(PreferenceMeasure("thin_structures", text, lines, _average(compute_cldice, thin), points))
    confidence = _stack_details(replicates, images, "confidence", make_confidently_wrong)
    text = "expected calibration error of the winning class's probability"
    measures.append(
        PreferenceMeasure("probabilities", text, confidence, compute_pooled_calibration_error, higher=False, lost=1.0)
    )
    return measures


def compute_pooled_calibration_error(summed: Floats) -> Floats:
    """Return the expected calibration error of (…, B, 3); 1 without pixels."""
    return np.nan_to_num(compute_calibration_error(summed), nan=1.0)


def _make_f_measure(beta: float, classes: Marks, binary: bool) -> Callable[[Counts], Floats]:
    chosen = classes & np.array([False, True]) if binary else classes
    return _average(partial(metrics.compute_f_beta, beta=beta), chosen)


def _average(measure: Callable[[Counts], Floats], classes: Marks) -> Callable[[Counts], Floats]:
    return lambda summed: metrics.average_classes(measure(summed), classes)


def _list_points(replicates: Sequence[Replicate], point: Callable[[TrialResult], float]) -> tuple[float, ...]:
    return tuple(replicate.get_median_point(point) for replicate in replicates)


def _find_best_f_point(run: TrialResult, binary: bool, beta: float) -> float:
    """Return the operating point with the highest F_β on the run's own validation images."""
    if run.val is None:
        return get_own_point(run)
    point, _ = point_choice.find_best_point_by(run.val, lambda s, classes: _make_f_measure(beta, classes, binary)(s))
    return point


def _stack_details(
    replicates: Sequence[Replicate], images: Sequence[int], name: str, unanswered: Callable[[Table], Table]
) -> Table:
    """Stack one array of the details: (R, n, …)."""

    def read(run: TrialResult) -> tuple[Sequence[int], Table] | None:
        return None if run.detail is None else (run.detail.images, getattr(run.detail, name))

    return stack_measurements(replicates, images, read, unanswered)


def _make_missed_centrelines(lines: Counts) -> Counts:
    """Make the centre lines (…, C, 4) of images without an answer: only those of the labels."""
    missed = np.zeros_like(lines)
    missed[..., 3] = lines[..., 3]
    return missed


def make_confidently_wrong(confidence: Table) -> Table:
    """Make the confidence (…, B, 3) of images without an answer: wrong at every pixel, with full confidence."""
    wrong = np.zeros_like(confidence)
    pixels = confidence[..., 0].sum(axis=-1)
    wrong[..., -1, 0] = wrong[..., -1, 2] = pixels
    return wrong
