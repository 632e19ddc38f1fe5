"""Scores of a training by a script: operating point, counts of pixels, and one number for a split."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sweeper.core import metrics
from sweeper.core.base import Record
from sweeper.core.operating_points import TAUS, THRESHOLDS
from sweeper.core.records import ImageCounts, Task
from sweeper.scripts.contract import Split, SplitScores, What, read_split_scores


class ScriptTask(Record):
    """Properties of the script's data that every training of it shares."""

    task: Task
    classes: int
    kinds: dict[Split, What]
    """Scores that come back of each split."""
    metric: str
    """Metric of logits and counts."""
    class_pixels: tuple[int, ...]
    """Pixels of each class, for class weights and τ."""

    @property
    def has_counts(self) -> bool:
        """Whether the test scores are pixels, of which the metric is made; else they are the script's own scores."""
        return self.kinds["test"] in ("logits", "counts")

    @property
    def test_name(self) -> str:
        """Name of what is compared."""
        return metrics.METRICS[self.metric].title if self.has_counts else "score"

    @property
    def usual_point(self) -> float:
        """Threshold 0.5, or τ = 0."""
        return metrics.default_operating_point(self.task)

    @property
    def frequencies(self) -> tuple[float, ...]:
        """Shares of the classes; one that was not seen counts as one pixel."""
        pixels = [max(1, n) for n in self.class_pixels]
        return tuple(n / sum(pixels) for n in pixels)

    def read_scores(self, folder: Path, split: Split) -> SplitScores:
        """Return the scores of a split in a training's folder."""
        return read_split_scores(folder, split, self.kinds[split], self.classes)

    def choose_point(self, val: SplitScores, *, diverged: bool) -> float | None:
        """Return the operating point that validation chooses; None where the script decides itself."""
        if val.what != "logits":
            return None
        return self.usual_point if diverged else metrics.choose_point(self._make_counts(val), self.metric)

    def count_pixels(self, scores: SplitScores, point: float | None, *, diverged: bool) -> metrics.Counts:
        """Return tp, fp and fn of each image and class, (n, C, 3).

        Args:
            scores: logits or counts.
            point: operating point of logits.
            diverged: whether all answers count as wrong.
        """
        if scores.what == "counts" or point is None:
            return scores.data.astype(np.int64)
        counts = metrics.count_at_point(self._make_counts(scores), point)
        return metrics.all_wrong_counts(counts) if diverged else counts

    def score_split(self, scores: SplitScores, point: float | None, *, diverged: bool) -> float:
        """Return one number for a split; arguments as for `count_pixels`."""
        if scores.what in ("score", "number"):
            return float(scores.data.mean())
        counts = self.count_pixels(scores, point, diverged=diverged)
        present = metrics.find_present_classes(counts)
        return float(metrics.compute_objective(counts.sum(axis=0), present, self.metric))

    def score_validation(self, val: SplitScores, *, diverged: bool) -> float:
        """Return one number for validation: of logits at the point that is best there, as sweeper's search does."""
        if val.what == "logits" and not diverged:
            return metrics.find_best_point(self._make_counts(val), self.metric)[1]
        return self.score_split(val, self.usual_point, diverged=diverged)

    def _make_counts(self, scores: SplitScores) -> ImageCounts:
        is_binary = self.classes == 2
        return ImageCounts(
            kind="histogram" if is_binary else "points",
            images=tuple(range(len(scores.names))),
            points=THRESHOLDS if is_binary else TAUS,
            data=scores.data,
        )
