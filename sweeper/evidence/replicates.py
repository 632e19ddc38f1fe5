"""Replicates: all trainings of one seed of a finalist (one, or one per outer fold), on the same test images.

With folds every image is scored once for each seed, by the training that did not see it. Together these trainings are
one row of the seeds × images table, like a single training on a test split. Where one of several diverged, its images
count as not answered: each of their labelled pixels is missed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sweeper.core import metrics
from sweeper.core.records import Interval, OperatingPoint, TrialResult
from sweeper.core.tasks import RULES
from sweeper.evidence.intervals import Floats, ImageTable, compute_paired_interval, make_image_table

FEW_GROUPS = 5
"""With fewer groups of test images their variance has hardly a degree of freedom, so that no comparison settles."""

Table = npt.NDArray[Any]


@dataclass(frozen=True)
class Replicate:
    """The completed trainings of one configuration and one seed: one, or one for each fold, in ascending order."""

    runs: tuple[TrialResult, ...]

    @property
    def runs_with_counts(self) -> tuple[TrialResult, ...]:
        """Runs with counts; the others diverged."""
        return tuple(run for run in self.runs if run.test is not None)

    @property
    def has_no_counts(self) -> bool:
        """Whether all diverged; the score is then 0, whatever the images."""
        return not self.runs_with_counts


def group_by_seed(runs: Iterable[TrialResult]) -> dict[int, Replicate]:
    """Group the trainings of one configuration by ascending seed; of a repeated one the highest number counts.

    With folds the trainings of each seed must cover all folds.
    """
    latest: dict[int, dict[int, TrialResult]] = {}
    for run in sorted(runs, key=lambda r: r.spec.number):
        latest.setdefault(run.spec.seed, {})[run.spec.fold or 0] = run
    return {seed: Replicate(tuple(folds[fold] for fold in sorted(folds))) for seed, folds in sorted(latest.items())}


def list_scored_images(replicates: Iterable[Replicate]) -> tuple[int, ...]:
    """Return the images that were scored in any replicate, ascending."""
    images = (run.test.images for replicate in replicates for run in replicate.runs if run.test is not None)
    return tuple(sorted(set().union(*images)))


def get_own_point(run: TrialResult) -> OperatingPoint:
    """Return the operating point chosen on the run's validation images; the default one without an evaluation."""
    if run.evaluations:
        return run.evaluations[-1].point
    return get_default_point(run)


def get_default_point(run: TrialResult) -> float:
    """Return 0.5, or τ = 0 with more than two classes; 0.5 for a run without an answer."""
    return RULES["binary" if run.test is None else run.test.task].plain_point


def stack_rows(
    replicates: Sequence[Replicate], images: Sequence[int], point: Callable[[TrialResult], OperatingPoint], metric: str
) -> Table:
    """Stack what the metric sums over images, (R, n, …), at each run's `point`; 0 for a lost one.

    For a mean over images a run without an answer scores 0 on an image without foreground, too, where missing nothing
    would otherwise be right.
    """

    def read(run: TrialResult) -> tuple[Sequence[int], Table] | None:
        if run.test is None:
            return None
        counts = metrics.count_at_point(metrics.select_metric_counts(run.test, metric), point(run))
        return run.test.images, metrics.make_image_rows(counts, metric, run.test.task)

    def lose(rows: Table) -> Table:
        return np.asarray(rows * (0, 1))

    return stack_measurements(
        replicates, images, read, make_missed_counts if metrics.METRICS[metric].rows is None else lose
    )


def make_missed_counts(counts: Table) -> Table:
    """Make counts (…, C, 3) of images without an answer: all labelled pixels are missed, none predicted."""
    missed = np.zeros_like(counts)
    missed[..., 2] = counts[..., 0] + counts[..., 2]
    return missed


def stack_measurements(
    replicates: Sequence[Replicate],
    images: Sequence[int],
    read: Callable[[TrialResult], tuple[Sequence[int], Table] | None],
    unanswered: Callable[[Table], Table],
) -> Table:
    """Stack the measurements of every image in every replicate: (R, n, …) int64 or float64.

    Args:
        replicates: R replicates, not all lost; a lost one has 0 everywhere.
        images: n ascending indices; every replicate with a complete answer was scored on them.
        read: the images of a run, in any order, and an array over them; None for a run without an answer.
        unanswered: turns another replicate's values for some images into those of a run without an answer for them.
    """
    place = {image: n for n, image in enumerate(images)}
    every = [[read(run) for run in r.runs] for r in replicates]
    parts = [[part for part in of_seed if part is not None] for of_seed in every]
    like = next(values for replicate in parts for _, values in replicate)
    kind = np.float64 if like.dtype.kind == "f" else np.int64
    table: Table = np.zeros((len(replicates), len(images), *like.shape[1:]), dtype=kind)
    is_measured = np.zeros(table.shape[:2], dtype=np.bool_)
    for r, replicate in enumerate(parts):
        for where, values in replicate:
            rows = [place[image] for image in where]
            table[r, rows], is_measured[r, rows] = values, True
    for r, replicate in enumerate(parts):
        gaps = np.flatnonzero(~is_measured[r] & is_measured.any(axis=0)) if replicate else np.array([], dtype=np.intp)
        if len(gaps):
            table[r, gaps] = unanswered(table[is_measured[:, gaps].argmax(axis=0), gaps])
    return table


def count_few_groups(groups: Sequence[str | None] | None) -> int | None:
    """Count the groups of the test images if they are too few to represent others; else None.

    Images without a group count as one each.
    """
    if groups is None or all(group is None for group in groups):
        return None
    return find_few_groups(
        len({group for group in groups if group is not None}) + sum(group is None for group in groups)
    )


def find_few_groups(count: int | None) -> int | None:
    """Return the number of groups if they are too few to represent others; else, or without groups, None."""
    if count is None or count >= FEW_GROUPS:
        return None
    return count


def count_folds(replicates: Sequence[Replicate]) -> int:
    """Return the number of trainings in each seed: the folds, or 1."""
    return max((len(replicate.runs) for replicate in replicates), default=1)


# --- All seeds side by side -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ReplicateRows:
    """The replicates of several finalists, a row each, from which tables of any measure are made."""

    rows: tuple[Replicate, ...]
    at: tuple[dict[int, int], ...]
    """Per finalist, seed → row."""
    units: npt.NDArray[np.intp] | None
    """(n,) the unit of each counted test image, by ascending index; None where each is its own."""

    def make_table(self, counts: Table, score: Callable[[Any], Floats]) -> ImageTable:
        """Return the scores of all rows, 0 to 1.

        `score` turns the counts (R, n, …) summed over images into a number; a row without any answer scores 0.
        """
        lost = np.array([row.has_no_counts for row in self.rows])
        summed = metrics.sum_by_unit(counts, self.units, "miou")
        return make_image_table(summed, lambda s: np.where(lost, 0.0, score(s)), count_folds(self.rows))

    def score_finalists(self, table: ImageTable) -> tuple[Interval, ...]:
        """Return the mean score of each finalist's rows, 0 to 1, with its interval."""
        return tuple(compute_paired_interval(table.select_rows(list(rows.values())), (0.0, 1.0)) for rows in self.at)

    def pair(self, table: ImageTable, first: int, second: int) -> ImageTable:
        """Return the differences of two finalists on the seeds that both have."""
        one, other = self.at[first], self.at[second]
        common = [seed for seed in one if seed in other]
        return table.select_rows([one[s] for s in common], [other[s] for s in common])


def arrange_rows(
    finalists: Iterable[Mapping[int, Replicate]], groups: Sequence[str | None] | None = None
) -> ReplicateRows:
    """Arrange the replicates of all finalists (seed → replicate) as rows; `groups` of the test images are the units.

    They are so however few they are: images of one group fail together, and with images as the units 4 and 3 groups
    gave 37 and 43 % false winners. A single group allows no conclusion.
    """
    rows: list[Replicate] = []
    at = []
    for seeds in finalists:
        at.append(dict(zip(seeds, range(len(rows), len(rows) + len(seeds)), strict=True)))
        rows += seeds.values()
    units = metrics.number_units(groups) if list_scored_images(rows) else None
    return ReplicateRows(tuple(rows), tuple(at), units)
