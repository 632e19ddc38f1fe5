"""All confirmation trainings side by side on the same test images, and what is read off them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial

import numpy as np
import numpy.typing as npt

from sweeper.core import metrics
from sweeper.core.records import Collapse
from sweeper.evidence.intervals import Counts, Floats, ImageTable, image_table
from sweeper.evidence.replicates import Replicate, class_counts, default_of, own_point, scored_images, united


@dataclass(frozen=True)
class Bench:
    """All replicates side by side on the same images (or groups, their counts summed); row r is one seed's."""

    classes: np.ndarray  # (C,) bool: which occur in the test split
    counts: Counts  # (R, n, C, 3) at each run's operating point
    at_default: Counts  # (R, n, C, 3) at 0.5 or τ = 0
    lost: np.ndarray  # (R,) bool: diverged and left no counts; scores 0

    @property
    def images(self) -> int:
        """Test images (or groups)."""
        return int(self.counts.shape[1])

    def scored(self, summed: Counts, metric: str = "miou") -> Floats:
        """(..., R, C, 3) → (..., R)."""
        return np.where(self.lost, 0.0, metrics.objective(summed, self.classes, metric))

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
    def miou_at_default(self) -> Floats:
        """(R,) mIoU at 0.5 or τ = 0."""
        return self.scored(self.at_default.sum(axis=1))

    @cached_property
    def miou(self) -> ImageTable:
        """mIoU at each run's operating point."""
        return image_table(self.counts, self.scored)

    def at_default_only(self, rows: Sequence[int]) -> ImageTable:
        """The runs `rows` at 0.5 or τ = 0."""
        own = list(rows)
        counts = self.at_default[own]
        there = replace(self, counts=counts, at_default=counts, lost=self.lost[own])
        return there.miou

    @cached_property
    def fg_iou(self) -> ImageTable:
        """Mean IoU of the foreground classes at each run's operating point."""
        return image_table(self.counts, partial(self.scored, metric="fg_iou"))


def bench_of(replicates: Sequence[Replicate], classes: int, units: npt.NDArray[np.intp] | None) -> Bench:
    """Put replicates side by side.

    Args:
        replicates: of all finalists, in the order of the rows.
        classes: number C of classes.
        units: (n,) the unit of each image (`image_units`); None where each is its own.

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
        return Bench(classes=np.zeros(classes, dtype=np.bool_), counts=counts, at_default=counts, lost=lost)
    images = scored_images(replicates)
    counts = class_counts(replicates, images, own_point)
    at_default = class_counts(replicates, images, lambda run: default_of(run.test) if run.test else 0.0)
    if units is not None:
        counts, at_default = united(counts, units), united(at_default, units)
    present = metrics.present(counts.reshape(-1, classes, 3))
    return Bench(classes=present, counts=counts, at_default=at_default, lost=lost)
