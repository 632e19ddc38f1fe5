"""Scores of a training by a script: operating point, counts of pixels, and one number for a split."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from sweeper.core import metrics, point_choice
from sweeper.core.base import Record
from sweeper.core.records import OperatingPoint, Task
from sweeper.core.tasks import RULES
from sweeper.core.text import format_count
from sweeper.scripts.contract import Split, SplitScores, TrialDocument, What, read_split_scores
from sweeper.scripts.script_start import ScriptStart, find_start_problems


class ScriptTask(Record):
    """Properties of the script's data that all of its trainings share."""

    task: Task
    kinds: dict[Split, What]
    """Kind of the scores of each split."""
    metric: str
    """Metric of logits and counts."""
    class_pixels: tuple[int, ...]
    """Pixels of each class, for class weights and τ."""
    labelled_pixels: int | None = None
    """All labelled pixels where classes overlap; None = each pixel has one class."""
    drawn: tuple[Split, ...] = ()
    """Splits with other images for another seed."""
    volumes: bool = False
    """Whether logits have an axis D before H."""

    @property
    def has_counts(self) -> bool:
        """Whether the test scores are pixels, from which the metric is computed; else they are the script's own."""
        return self.kinds["test"] in ("logits", "counts")

    @property
    def test_name(self) -> str:
        """Name of the compared score."""
        return metrics.METRICS[self.metric].title if self.has_counts else "score"

    @property
    def usual_point(self) -> float:
        """Threshold 0.5, or τ = 0."""
        return RULES[self.task].plain_point

    @property
    def frequencies(self) -> tuple[float, ...]:
        """Shares of the classes; a class without pixels counts as one pixel."""
        pixels = [max(1, n) for n in self.class_pixels]
        return tuple(n / (self.labelled_pixels or sum(pixels)) for n in pixels)

    def find_problems(self, start: ScriptStart, seconds: float) -> list[str]:
        """Find what makes a training useless, whose time limit was `seconds`: its end, or other kinds of scores."""
        return [*find_start_problems(start, seconds)] or [
            f"scores of {split} must be {self.kinds[split]}, as in the probe, got {line.what}; give the same in each"
            for split, line in start.last_scores.items()
            if line.what != self.kinds[split]
        ]

    def read_scores(self, folder: Path, split: Split) -> SplitScores:
        """Return the scores of a split in a training's folder."""
        overlap = self.labelled_pixels is not None
        return read_split_scores(folder, split, self.kinds[split], len(self.class_pixels), overlap=overlap)

    def choose_point(self, val: SplitScores, *, diverged: bool) -> OperatingPoint | None:
        """Return the operating point that is best on validation; None where the script itself decides."""
        if val.what != "logits":
            return None
        return self.usual_point if diverged else point_choice.choose_point(val.make_counts(), self.metric)

    def count_pixels(self, scores: SplitScores, point: OperatingPoint | None, *, diverged: bool) -> metrics.Counts:
        """Return tp, fp and fn of each image and class, (n, C, 3), from logits or counts.

        `point` is the operating point of logits; if `diverged`, all answers count as wrong.
        """
        if scores.what == "counts" or point is None:
            return scores.data.astype(np.int64)
        counts = metrics.count_at_point(scores.make_counts(), point)
        return metrics.make_all_wrong_counts(counts) if diverged else counts

    def score_split(self, scores: SplitScores, point: OperatingPoint | None, *, diverged: bool) -> float:
        """Return one number for a split; arguments as for `count_pixels`."""
        if scores.what in ("score", "number"):
            return float(scores.data.mean())
        counts = self.count_pixels(scores, point, diverged=diverged)
        present = metrics.find_present_classes(counts)
        return float(metrics.compute_objective(counts.sum(axis=0), present, self.metric))

    def score_at_best(self, scores: SplitScores, *, diverged: bool) -> float:
        """Return one number for a split, of logits at the point that is best there, as in sweeper's search."""
        if scores.what == "logits" and not diverged:
            return point_choice.find_best_point(scores.make_counts(), self.metric)[1]
        return self.score_split(scores, self.usual_point, diverged=diverged)


def find_other_data(split: Split, one: SplitScores, two: SplitScores, *, all_names: bool = True) -> Iterator[str]:
    """Find images or labels of a split that differ between two starts of any seeds, which prevents a comparison.

    `all_names`: whether both must have the same images; else only the same labels where they share an image.
    """
    apart = {*one.names} ^ {*two.names}
    if all_names and apart:
        yield (
            f"images of {split} must be the same in each training, and {min(apart)!r} is in one of two; divide the "
            "data with a fixed seed in place of t.seed, or keep the split in a file"
        )
        return
    if one.label_pixels is None or two.label_pixels is None:
        return
    before = dict(zip(one.names, one.label_pixels, strict=True))
    for name, pixels in zip(two.names, two.label_pixels, strict=True):
        if name not in before:
            continue
        classes = np.flatnonzero(before[name] != pixels)
        if classes.size:
            n = int(classes[-1])
            yield (
                f"labels of an image must be the same in each training, and {name!r} of {split} has "
                f"{format_count(int(before[name][n]), 'pixel')} of class {n} in one and {int(pixels[n]):,} in another; "
                "draw the data with a fixed seed in place of t.seed, and score images at one size"
            )
            return


DataKey = tuple[Split, int | None, int | None]
"""Split, fold, and seed if the split is drawn with it: trainings with the same key have the same images."""


def _find_shared_images(key: DataKey, one: SplitScores, other_key: DataKey, two: SplitScores) -> Iterator[str]:
    """Find test images that two folds share."""
    (split, fold, drawn), (_, other_fold, other_drawn) = key, other_key
    if split != "test" or drawn != other_drawn:
        return
    are_folds = fold != other_fold and None not in (fold, other_fold)
    both = {*one.names} & {*two.names} - {""}
    if both and are_folds:
        yield (
            f"each image must be tested in one fold, and {format_count(len(both), 'image is', 'images are')} in two, "
            f"such as {min(both)!r}; leave out fold number t.fold for the test, or give no --folds"
        )


class DataCheck:
    """Compares each training's images and labels with those of the first training."""

    def __init__(self, task: ScriptTask) -> None:
        """Create the check of trainings with these data."""
        self._task, self._comparing = task, threading.Lock()
        self._first: dict[DataKey, SplitScores] = {}

    def find_problems(self, folder: Path, trial: TrialDocument) -> list[str]:
        """Find images or labels of a training that differ from earlier ones, the first of each split."""
        problems = []
        for split in trial.splits:
            scores = self._task.read_scores(folder, split)
            key = (split, trial.fold, trial.seed if split in self._task.drawn else None)
            with self._comparing:
                found = [
                    problem
                    for key_before, before in self._first.items()
                    if key_before[0] == split
                    for problem in (
                        *find_other_data(split, before, scores, all_names=key_before == key),
                        *_find_shared_images(key_before, before, key, scores),
                    )
                ]
                if not found:
                    self._first.setdefault(key, scores)
            problems += found[:1]
        return problems
