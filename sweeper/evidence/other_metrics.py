"""The confirmed finalists by other measures than the one that the verdict compares, and by the IoU of each class.

Every measure comes from counts summed over the test images, at each training's own operating point. Its intervals are
formed as the verdict's, with a seed part and an image part (`sweeper.evidence.intervals`), for each finalist alone and
at 95 %.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from sweeper.core import metrics
from sweeper.core.metrics import compute_cldice, find_classes_with_centreline, find_classes_with_contour
from sweeper.core.records import ClassEvidence, Evidence, OtherMeasure, TrialResult
from sweeper.core.tasks import RULES
from sweeper.evidence.intervals import LEVEL, Counts, Floats, compute_paired_interval
from sweeper.evidence.replicates import (
    Replicate,
    ReplicateRows,
    Table,
    arrange_rows,
    get_own_point,
    group_by_seed,
    list_scored_images,
    make_missed_counts,
    stack_measurements,
    stack_rows,
)

Score = Callable[[Any], Floats]
"""From counts (…, R, …), summed over images, to (…, R)."""


def measure_finalists(
    confirmations: Sequence[TrialResult], evidence: Evidence, groups: Sequence[str | None] | None = None
) -> tuple[OtherMeasure, ...]:
    """Measure the finalists by all that their trainings counted, each with its interval.

    `confirmations` and `groups` are those that the evidence was computed from. Of two classes only the foreground is
    measured; of several the mean over those that occur. Contours and centre lines need runs that counted them.
    """
    rows, images = _arrange_finalists(confirmations, evidence, groups)
    if not images:
        return ()
    counts = stack_rows(rows.rows, images, get_own_point, "miou")
    classes = metrics.find_present_classes(counts.reshape(-1, *counts.shape[2:]))
    task = next(run.test.task for row in rows.rows for run in row.runs_with_counts if run.test is not None)
    classes[: RULES[task].first_channel] = False
    measures: dict[str, tuple[Table, Score]] = {
        "IoU": (counts, _average(metrics.compute_iou, classes)),
        "Dice": (counts, _average(metrics.compute_dice, classes)),
        "precision": (counts, _average(metrics.compute_precision, classes)),
        "recall": (counts, _average(metrics.compute_recall, classes)),
    }
    if classes.sum() > 1:
        measures["IoU of the worst class"] = counts, partial(_find_worst_iou, classes=classes)
    if all(run.detail is not None for row in rows.rows for run in row.runs_with_counts):
        boundary = _stack_details(rows, images, "boundary", make_missed_counts)
        contours = find_classes_with_contour(boundary.reshape(-1, *boundary.shape[2:]), task)
        measures["boundary IoU"] = boundary, _average(metrics.compute_iou, contours)
        lines = _stack_details(rows, images, "centreline", _make_missed_centrelines)
        thin = find_classes_with_centreline(lines.reshape(-1, *lines.shape[2:]))
        if thin.any():
            measures["clDice"] = lines, _average(compute_cldice, thin)
    return tuple(
        OtherMeasure(name=name, scores=rows.score_finalists(rows.make_table(table, score)))
        for name, (table, score) in measures.items()
    )


def measure_classes(
    confirmations: Sequence[TrialResult], evidence: Evidence, floors: Floats, groups: Sequence[str | None] | None = None
) -> tuple[ClassEvidence, ...]:
    """Measure the finalists by the IoU of each class that occurs in the test images.

    `floors` (C,) are the IoU above which a class counts as learned; the others are as in `measure_finalists`.
    """
    rows, images = _arrange_finalists(confirmations, evidence, groups)
    if not images:
        return ()
    counts = stack_rows(rows.rows, images, get_own_point, "miou")
    present = np.flatnonzero(metrics.find_present_classes(counts.reshape(-1, *counts.shape[2:])))
    level, base = 1 - (1 - LEVEL) / len(present), evidence.baseline
    ends = np.array([_count_ends([rows.rows[row] for row in at.values()], floors) for at in rows.at])
    measured = []
    for c in present:
        table = rows.make_table(counts[..., c, :], lambda summed: np.nan_to_num(metrics.compute_iou(summed)))
        pairs = [] if base is None else [rows.pair(table, i, base) for i in range(len(rows.at))]
        joint = [compute_paired_interval(pair, (-1.0, 1.0), level, strict=True) for pair in pairs]
        learned, missed = ends[:, :, c].T.tolist()
        measured.append(
            ClassEvidence(
                name=evidence.classes[c],
                scores=rows.score_finalists(table),
                gains=tuple(compute_paired_interval(pair, (-1.0, 1.0)) for pair in pairs),
                established=tuple(gain.low * gain.high > 0 for gain in joint),
                learned=learned,
                missed=missed,
            )
        )
    return tuple(measured)


def _arrange_finalists(
    confirmations: Sequence[TrialResult], evidence: Evidence, groups: Sequence[str | None] | None
) -> tuple[ReplicateRows, tuple[int, ...]]:
    """Return the finalists' completed trainings as rows, and the images that any of them was scored on."""
    complete = [run for run in confirmations if run.state == "complete"]
    replicates = [group_by_seed(run for run in complete if run.spec.family == f.family) for f in evidence.finalists]
    rows = arrange_rows(replicates, groups)
    return rows, list_scored_images(rows.rows)


def _count_ends(seeds: Sequence[Replicate], floors: Floats) -> Counts:
    """Count the trainings that learned each class, and those without a collapse that did not: (2, C).

    A training counts only for the classes that its own test images show.
    """
    ends = np.zeros((2, len(floors)), dtype=np.int64)
    for run in (run for replicate in seeds for run in replicate.runs_with_counts):
        assert run.test is not None
        counts = metrics.count_at_point(run.test, get_own_point(run))
        occurs = metrics.find_present_classes(counts)
        is_learned = np.nan_to_num(metrics.compute_iou(counts.sum(axis=0))) > floors
        ends += occurs & np.stack([is_learned, ~is_learned & (not run.has_collapsed)])
    return ends


def _average(measure: Callable[[Counts], Floats], classes: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> Score:
    return lambda summed: metrics.average_classes(measure(summed), classes)


def _find_worst_iou(summed: Counts, classes: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> Floats:
    return np.asarray(np.nan_to_num(metrics.compute_iou(summed)[..., classes], nan=1.0).min(axis=-1))


def _stack_details(
    rows: ReplicateRows, images: Sequence[int], name: str, unanswered: Callable[[Table], Table]
) -> Table:
    """Stack one array of the details: (R, n, …)."""

    def read(run: TrialResult) -> tuple[Sequence[int], Table] | None:
        return None if run.detail is None else (run.detail.images, getattr(run.detail, name))

    return stack_measurements(rows.rows, images, read, unanswered)


def _make_missed_centrelines(lines: Counts) -> Counts:
    """Make the centre lines (…, C, 4) of images without an answer: only those of the labels."""
    missed = np.zeros_like(lines)
    missed[..., 3] = lines[..., 3]
    return missed
