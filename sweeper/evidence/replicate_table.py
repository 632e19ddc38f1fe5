"""All confirmation trainings side by side on the same test images, and what is read off them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import numpy.typing as npt

from sweeper.core import metrics
from sweeper.core.records import Collapse
from sweeper.evidence.intervals import Counts, Floats, ImageTable, Sums, image_table
from sweeper.evidence.replicates import Replicate, class_counts, default_of, own_point, scored_images, united


@dataclass(frozen=True)
class Bench:
    """All replicates side by side on the same images (or groups); row r is one seed's."""

    classes: np.ndarray  # (C,) bool: which occur in the test split
    counts: Counts  # (R, n, C, 3) at each run's operating point; of groups their sums
    rows: Sums  # (R, n, …) what `metric` is measured from, at the same points
    at_default: Sums  # (R, n, …) the same at 0.5 or τ = 0
    miou_at_default: Floats  # (R,) mIoU there
    lost: np.ndarray  # (R,) bool: diverged and left no counts
    metric: str
    marked: np.ndarray  # (C,) bool: classes that the metric is a mean over
    least: float  # what a lost run scores

    @property
    def images(self) -> int:
        """Test images (or groups)."""
        return int(self.counts.shape[1])

    def scored(self, summed: Counts, metric: str = "miou") -> Floats:
        """(..., R, C, 3) → (..., R)."""
        return np.where(self.lost, 0.0, metrics.objective(summed, self.classes, metric))

    def _measured(self, summed: Sums) -> Floats:
        return np.where(self.lost, self.least, metrics.objective(summed, self.marked, self.metric))

    @cached_property
    def score(self) -> ImageTable:
        """The verdict's metric at each run's operating point."""
        return image_table(self.rows, self._measured)

    @cached_property
    def score_at_default(self) -> ImageTable:
        """The same at 0.5 or τ = 0."""
        return image_table(self.at_default, self._measured)

    @cached_property
    def summed(self) -> Counts:
        """(R, C, 3) over all images."""
        summed: Counts = self.counts.sum(axis=1)
        return summed

    @cached_property
    def per_class(self) -> Floats:
        """(3, R, C) IoU, precision and recall; lost runs and undefined ratios count as 0."""
        true, false, missed = np.moveaxis(self.summed, -1, 0)
        ratios = (metrics.iou(self.summed), metrics.ratio(true, true + false), metrics.ratio(true, true + missed))
        return np.where(self.lost[:, None], 0.0, np.nan_to_num(np.stack(ratios), nan=0.0))

    def class_means(self, rows: Sequence[int]) -> list[tuple[float | None, ...]]:
        """Mean IoU, precision and recall over the runs `rows`; None where a class does not occur in the test split."""
        means = self.per_class[:, list(rows)].mean(axis=1).tolist()
        return [tuple(v if occurs else None for v, occurs in zip(m, self.classes, strict=True)) for m in means]

    @cached_property
    def dice(self) -> Floats:
        """(R,) mean Dice."""
        return self.scored(self.summed, "dice")

    @cached_property
    def miou(self) -> ImageTable:
        """mIoU at each run's operating point."""
        return image_table(self.counts, self.scored)

    @cached_property
    def fg_iou(self) -> ImageTable:
        """Mean IoU of the foreground classes at each run's operating point."""
        return image_table(self.counts, partial(self.scored, metric="fg_iou"))


def bench_of(
    replicates: Sequence[Replicate], classes: int, units: npt.NDArray[np.intp] | None, metric: str = "miou"
) -> Bench:
    """Put replicates side by side.

    Args:
        replicates: of all finalists, in the order of the rows.
        classes: number C of classes.
        units: (n,) the unit of each image (`image_units`); None where each is its own.
        metric: what the verdict compares.

    Raises:
        ValueError: if a run that should have counts has none, or the runs saw different images.
    """
    for run in (run for replicate in replicates for run in replicate.runs):
        if run.test is None and run.collapse is not Collapse.DIVERGED:
            raise ValueError(
                f"a completed confirmation must carry counts of the test images, got none from number "
                f"{run.spec.number} ({run.spec.family}, seed {run.spec.seed}); train it again"
            )
    whole = [replicate for replicate in replicates if len(replicate.answered) == len(replicate.runs)]
    seen = {scored_images([replicate]) for replicate in whole}
    if len(seen) > 1:
        raise ValueError(
            f"all confirmations must be scored on the same test images, got {len(seen)} different sets; "
            "weigh only runs of one study"
        )
    lost = np.array([replicate.lost for replicate in replicates], dtype=np.bool_)
    if lost.all():
        counts = np.zeros((len(replicates), 0, classes, 3), dtype=np.int64)
        nothing, none = np.zeros(len(replicates)), np.zeros(classes, dtype=np.bool_)
        rows = metrics.image_rows(counts, metric)
        return Bench(none, counts, rows, rows, nothing, lost, metric, none, 0.0)
    images = scored_images(replicates)
    counts = class_counts(replicates, images, own_point)
    plain = class_counts(replicates, images, lambda run: default_of(run.test) if run.test else 0.0)
    compared = counts, plain
    if metrics.METRICS[metric].parts is not None:
        compared = (
            class_counts(replicates, images, own_point, metric),
            class_counts(replicates, images, lambda run: default_of(run.test) if run.test else 0.0, metric),
        )
    marked = metrics.present(compared[0].reshape(-1, classes, 3))
    rows, at_default = (metrics.image_rows(each, metric) for each in compared)
    if units is not None:
        rows, at_default = (metrics.united_rows(each, units, metric) for each in (rows, at_default))
        counts = united(counts, units)
    present = metrics.present(counts.reshape(-1, classes, 3))
    return Bench(
        classes=present,
        counts=counts,
        rows=rows,
        at_default=at_default,
        miou_at_default=np.where(lost, 0.0, metrics.objective(plain.sum(axis=1), present)),
        lost=lost,
        metric=metric,
        marked=marked,
        least=metrics.least(counts[~lost].sum(axis=1), present, metric),
    )
