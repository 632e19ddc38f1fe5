"""Scores of all replicates on the same images, at their own operating points and at the plain one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import numpy.typing as npt

from sweeper.core import metrics
from sweeper.core.tasks import guess_task
from sweeper.evidence.intervals import Counts, Floats, ImageTable, Sums, make_image_table
from sweeper.evidence.replicates import (
    Replicate,
    count_folds,
    get_default_point,
    get_own_point,
    list_scored_images,
    stack_rows,
)


@dataclass(frozen=True)
class PairedScores:
    """Scores of all replicates on the same images (or groups); row r is one seed of a finalist."""

    classes: np.ndarray  # (C,) bool: classes that occur in the test split
    counts: Counts  # (R, n, C, 3) at each run's operating point; summed over groups
    rows: Sums  # (R, n, …) sums that `metric` is computed from, at the same points
    at_default: Sums  # (R, n, …) the same at 0.5 or τ = 0
    lost: np.ndarray  # (R,) bool: diverged and left no counts
    metric: str
    marked: np.ndarray  # (C,) bool: classes that the metric averages over
    least: float  # score of a lost run
    folds: int = 1  # trainings of a run

    @property
    def images(self) -> int:
        """Test images (or groups)."""
        return int(self.counts.shape[1])

    def score_counts(self, summed: Counts, metric: str = "miou") -> Floats:
        """Compute scores (..., R) from counts (..., R, C, 3)."""
        return np.where(self.lost, 0.0, metrics.compute_objective(summed, self.classes, metric))

    def _measure(self, summed: Sums) -> Floats:
        return np.where(self.lost, self.least, metrics.compute_objective(summed, self.marked, self.metric))

    @property
    def found(self) -> npt.NDArray[np.bool_]:
        """(R, C): whether a run finds any pixel of a class."""
        return np.asarray(self.counts[..., 0].sum(axis=1) > 0)

    @cached_property
    def metric_scores(self) -> ImageTable:
        """The verdict's metric at each run's operating point."""
        return make_image_table(self.rows, self._measure, self.folds)

    @cached_property
    def score_at_default(self) -> ImageTable:
        """Scores at 0.5 or τ = 0."""
        return make_image_table(self.at_default, self._measure, self.folds)

    def compute_class_means(self, rows: list[int]) -> list[tuple[float | None, ...]]:
        """Return mean IoU, precision and recall over the runs `rows`; None for classes that the test split lacks.

        Lost runs and undefined ratios count as 0.
        """
        summed = self.counts.sum(axis=1)
        ratios = metrics.compute_iou(summed), metrics.compute_precision(summed), metrics.compute_recall(summed)
        means = np.where(self.lost[:, None], 0.0, np.nan_to_num(np.stack(ratios)))[:, rows].mean(axis=1).tolist()
        return [tuple(v if occurs else None for v, occurs in zip(m, self.classes, strict=True)) for m in means]

    @cached_property
    def dice(self) -> Floats:
        """(R,) mean Dice."""
        return self.score_counts(self.counts.sum(axis=1), "dice")

    @cached_property
    def miou(self) -> ImageTable:
        """MIoU at each run's operating point."""
        return make_image_table(self.counts, self.score_counts, self.folds)

    @cached_property
    def fg_iou(self) -> ImageTable:
        """Mean IoU of the foreground classes at each run's operating point."""
        return make_image_table(self.counts, partial(self.score_counts, metric="fg_iou"), self.folds)


def make_paired_scores(
    replicates: Sequence[Replicate], classes: int, units: npt.NDArray[np.intp] | None, metric: str = "miou"
) -> PairedScores:
    """Score the replicates of all finalists on the same images; `units` (n,) are those of `arrange_rows`.

    Raises:
        ValueError: if the runs saw different images.
    """
    whole = [replicate for replicate in replicates if len(replicate.runs_with_counts) == len(replicate.runs)]
    seen = {list_scored_images([replicate]) for replicate in whole}
    if len(seen) > 1:
        raise ValueError(
            f"all confirmations must be scored on the same test images, got {len(seen)} different sets; "
            "weigh only runs of one study"
        )
    lost = np.array([replicate.has_no_counts for replicate in replicates], dtype=np.bool_)
    if lost.all():
        counts = np.zeros((len(replicates), 0, classes, 3), dtype=np.int64)
        none = np.zeros(classes, dtype=np.bool_)
        rows = metrics.make_image_rows(counts, metric, guess_task(classes))
        return PairedScores(none, counts, rows, rows, lost, metric, none, 0.0)
    images = list_scored_images(replicates)
    tested = [run.test for replicate in replicates for run in replicate.runs_with_counts if run.test is not None]
    marked = np.any([metrics.find_scored_classes(test, metric) for test in tested], axis=0)
    counts, rows, at_default = (
        metrics.sum_by_unit(stack_rows(replicates, images, point, measure), units, measure)
        for point, measure in ((get_own_point, "miou"), (get_own_point, metric), (get_default_point, metric))
    )
    present = metrics.find_present_classes(counts.reshape(-1, classes, 3))
    return PairedScores(
        classes=present,
        counts=counts,
        rows=rows,
        at_default=at_default,
        lost=lost,
        metric=metric,
        marked=marked,
        least=metrics.compute_metric_floor(counts[~lost].sum(axis=1), present, metric),
        folds=count_folds(replicates),
    )
