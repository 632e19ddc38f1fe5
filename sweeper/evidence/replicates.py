"""What one seed says of a finalist: one training scored on the test split, or one for each outer fold.

With folds every image is scored once for each seed, by the training that did not see it. Side by side these trainings
are one row of the seeds × images table, like a single training on a test split. Where one of several diverged, its
images count as not answered: each labelled pixel of theirs is missed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

from sweeper.core import metrics
from sweeper.core.records import ImageCounts, TrialResult

FEW_GROUPS = 5
"""With fewer groups of test images their variance has hardly a degree of freedom: nothing could ever be settled."""

Table = npt.NDArray[Any]


@dataclass(frozen=True)
class Replicate:
    """The completed trainings of one configuration and one seed: one, or one for each fold, in ascending order."""

    runs: tuple[TrialResult, ...]

    @property
    def answered(self) -> tuple[TrialResult, ...]:
        """Those with counts: the others diverged."""
        return tuple(run for run in self.runs if run.test is not None)

    @property
    def lost(self) -> bool:
        """Whether all diverged: it scores 0, whatever the images."""
        return not self.answered

    def point(self, of: Callable[[TrialResult], float]) -> float:
        """One operating point for all its runs: the median of what `of` says."""
        return float(median([of(run) for run in self.runs]))


def by_seed(runs: Iterable[TrialResult]) -> dict[int, Replicate]:
    """Trainings of one configuration by ascending seed; of one made twice the highest number counts.

    Raises:
        ValueError: if the seeds were not trained on the same folds.
    """
    latest: dict[int, dict[int | None, TrialResult]] = {}
    for run in sorted(runs, key=lambda r: r.spec.number):
        latest.setdefault(run.spec.seed, {})[run.spec.fold] = run
    if len(kinds := {frozenset(own) for own in latest.values()}) > 1:
        shown = sorted(sorted("whole" if f is None else str(f) for f in own) for own in kinds)
        raise ValueError(
            f"every seed must have been trained on the same folds, got {shown}; weigh whole rotations only"
        )
    return {
        seed: Replicate(tuple(own[fold] for fold in sorted(own, key=lambda f: -1 if f is None else f)))
        for seed, own in sorted(latest.items())
    }


def scored_images(replicates: Iterable[Replicate]) -> tuple[int, ...]:
    """The images that were scored in any replicate, ascending."""
    found = (run.test.images for replicate in replicates for run in replicate.runs if run.test is not None)
    return tuple(sorted(set().union(*found)))


def own_point(run: TrialResult) -> float:
    """Operating point chosen on the run's validation images; the default one where it was never evaluated."""
    if run.evaluations:
        return run.evaluations[-1].point
    return default_of(run.test) if run.test is not None else metrics.default_point("binary")


def default_of(test: ImageCounts) -> float:
    """0.5, or τ = 0."""
    return metrics.default_point("binary" if test.kind == "histogram" else "multiclass")


def class_counts(
    replicates: Sequence[Replicate],
    images: Sequence[int],
    point: Callable[[TrialResult], float],
    metric: str = "miou",
) -> Table:
    """(R, n, C, 3) true positives, false positives and false negatives at each run's `point`; all 0 for a lost one.

    They are of pixels, or of what the metric counts. By a mean over images a run without an answer scores 0 on an image
    without foreground, too: to miss nothing there would be right.
    """

    def read(run: TrialResult) -> tuple[Sequence[int], Table] | None:
        if run.test is None:
            return None
        return run.test.images, metrics.at_point(metrics.measured(run.test, metric), point(run))

    of_images = metrics.METRICS[metric].rows is not None and metrics.METRICS[metric].parts is None
    return stacked(replicates, images, read, metrics.none_right if of_images else all_missed)


def all_missed(counts: Table) -> Table:
    """The same images without an answer, (…, C, 3): no pixel is found or falsely alarmed, all are missed."""
    missed = np.zeros_like(counts)
    missed[..., 2] = counts[..., 0] + counts[..., 2]
    return missed


def stacked(
    replicates: Sequence[Replicate],
    images: Sequence[int],
    read: Callable[[TrialResult], tuple[Sequence[int], Table] | None],
    unanswered: Callable[[Table], Table],
) -> Table:
    """What was measured of every image in every replicate, side by side: (R, n, …) int64 or float64.

    Args:
        replicates: R of them; all 0 for one that is lost.
        images: n indices, ascending, that every replicate with an answer for all was scored on.
        read: the images of a run, in any order, and an array over them; None for a run without an answer.
        unanswered: makes of another replicate's values for some images those of a run that gave no answer for them.
    """
    place = {image: n for n, image in enumerate(images)}
    parts = [[part for run in r.runs if (part := read(run)) is not None] for r in replicates]
    like = next((values for own in parts for _, values in own), None)
    if like is None:
        raise ValueError("at least one training must have been scored, got none; weigh finished confirmations")
    kind = np.float64 if like.dtype.kind == "f" else np.int64
    table: Table = np.zeros((len(replicates), len(images), *like.shape[1:]), dtype=kind)
    known = np.zeros(table.shape[:2], dtype=np.bool_)
    for r, own in enumerate(parts):
        for where, values in own:
            rows = [place[image] for image in where]
            table[r, rows], known[r, rows] = values, True
    for r, own in enumerate(parts):
        gaps = np.flatnonzero(~known[r] & known.any(axis=0)) if own else np.array([], dtype=np.intp)
        if len(gaps):
            table[r, gaps] = unanswered(table[known[:, gaps].argmax(axis=0), gaps])
    return table


def few_groups(groups: Sequence[str | None] | None) -> int | None:
    """How many groups the test images come in, where these are too few to stand for others; else None.

    Images without a group stand for themselves.
    """
    if groups is None or all(group is None for group in groups):
        return None
    count = len({group for group in groups if group is not None}) + sum(group is None for group in groups)
    return count if count < FEW_GROUPS else None


def image_units(replicates: Sequence[Replicate], groups: Sequence[str | None] | None) -> npt.NDArray[np.intp] | None:
    """(n,) the unit that each counted test image (by ascending index) belongs to; None where each is its own.

    However few the groups are, they are the units: that images of one group fail together made 37 and 43 % false
    winners of 4 and 3 groups where images were the units instead. With a single one nothing can be told.
    """
    images = len(scored_images(replicates))
    if groups is None or not images:
        return None
    if len(groups) != images:
        raise ValueError(f"`groups` must name the group of each of the {images} test images, got {len(groups)}")
    return metrics.units_of(groups)


def united(counts: Table, units: npt.NDArray[np.intp]) -> Table:
    """(R, n, …) counts summed over the images of each unit."""
    return metrics.united_rows(counts, units, "miou")
