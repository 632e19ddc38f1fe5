"""Scores of methods, runs and images as one table; a table's problems are collected in one list.

A row of the input is one score (or tp, fp, fn) of a method and, if there are such columns, of one run (`seed`), image
and class. These are summed over the images, and the score of a run is

  scores:       mean over classes of (sum of the class's scores / number of images that have one)
  tp, fp, fn:   mean over classes of the IoU or Dice of the summed counts

with the influence of each image (or group of images) on it (`sweeper.evidence.intervals.make_image_table`). The fewer
than three rotations of folds are judged by the scores of the folds.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from sweeper.core import metrics
from sweeper.core.records import InterimAnalysis, Scale
from sweeper.core.text import abbreviate_names
from sweeper.evidence.intervals import Floats, ImageTable, make_image_table
from sweeper.evidence.verdict_predicates import LEARNED_IOU, Skill, measure_skill
from sweeper.judging.direction import check_direction
from sweeper.judging.request import ScoreRequest
from sweeper.judging.rows import MAX_SCORE, Rows, ScoreRows
from sweeper.judging.run_cells import RunCells
from sweeper.judging.table_traps import find_traps, note_background, note_seeds_in_names

USUAL_MARGIN = 0.01
MOST_CELLS = 50_000_000
"""Runs × images × classes: 1.2 GB."""


class Learning(NamedTuple):
    """What runs learned, by their counts; nothing is known from scores."""

    skills: tuple[Skill, ...]
    """Of each method."""
    constant_miou: float | None = None
    """mIoU of the best constant answer."""
    found: npt.NDArray[np.bool_] | None = None
    """(R, C): whether a run finds any pixel of a class."""
    unlearned: tuple[str, ...] = ()
    """Classes that no run learned."""


@dataclass(frozen=True)
class ScoreTable:
    """Scores of runs, by row; the runs of a method are in the order of the input."""

    methods: tuple[str, ...]
    runs: tuple[tuple[str, ...], ...]
    """Names of the runs (seeds) of each method."""
    rows: tuple[tuple[int, ...], ...]
    """Rows of each method's runs in `scores`."""
    scores: ImageTable
    """Higher is better: negated scores if lower is better."""
    scale: Scale
    margin: float
    higher_is_better: bool
    bound: float
    """The largest possible difference."""
    images: int
    """Number of images; 0 = they are not distinguished."""
    groups: int | None
    learning: Learning
    analyses: tuple[InterimAnalysis, ...]
    """Planned interim analyses, by numbers of runs; () = this one."""
    left_out: int = 0
    """Images without a score for some run."""
    notes: tuple[str, ...] = ()
    folds: int | None = None
    """Number of folds that divide the images, if each run is one of them; None = runs are whole trainings."""

    @property
    def widening(self) -> float:
        """Factor of an interval over runs: √(1 + J/(K − 1)) for J folds' scores, as their training sets overlap.

        Nadeau and Bengio 2003, "Inference for the Generalization Error", eq. 10: a share 1/K is tested.
        """
        if self.folds is None:
            return 1.0
        return math.sqrt(1 + max(map(len, self.runs)) / (self.folds - 1))


def make_score_table(scores: ScoreRows, request: ScoreRequest) -> ScoreTable:
    """Make the table of these scores.

    Raises:
        ScoresError: with all of their problems.
    """
    rows = Rows(scores, request)
    directions = check_direction(rows.metric, request.lower_is_better)
    rows.problems += directions
    find_traps(rows, lower_is_better=bool(request.lower_is_better or directions))
    cells = RunCells(rows, request)
    rows.raise_problems()
    at = [np.flatnonzero(cells.runs["method"] == method) for method in cells.methods]
    values, learning = _compute_scores(cells, at, -1.0 if request.lower_is_better else 1.0)
    _check_margin(rows, request.margin)
    _check_variance(cells, values, at)
    rows.raise_problems()
    if not rows.is_trusted:  # else sweeper made the table, and says it elsewhere
        rows.notes += [*note_background(rows), *note_seeds_in_names(rows)]
    margin = USUAL_MARGIN if request.margin is None else request.margin
    bound = 1.0 if rows.of_counts else math.inf
    groups = cells.groups if cells.images else None
    seeds, folds = cells.runs["seed"].to_numpy(), max(1, cells.folds * cells.is_by_fold)
    return ScoreTable(
        methods=tuple(cells.methods),
        runs=tuple(tuple(seeds[places].tolist()) for places in at),
        rows=tuple(tuple(places.tolist()) for places in at),
        scores=values,
        scale=Scale(
            score=rows.title,
            digits=max(0, 1 - math.floor(math.log10(margin) + 1e-9)),
            hundredth=_compute_hundredth(rows),
        ),
        margin=margin,
        higher_is_better=not request.lower_is_better,
        bound=bound,
        images=cells.images,
        groups=groups,
        left_out=cells.left_out,
        notes=(*rows.notes, *scores.notes),
        folds=folds if cells.is_by_fold else None,
        learning=learning,
        analyses=tuple(each.model_copy(update={"seeds": each.seeds * folds}) for each in scores.analyses),
    )


def _compute_hundredth(rows: Rows) -> float:
    """Return 0.01 for shares, 1 for per cent: a hundredth of the power of ten that no score exceeds."""
    largest = 1.0 if rows.of_counts else float(rows.frame[rows.metric].abs().max())
    return 10.0 ** (math.ceil(math.log10(max(largest, 1 / MAX_SCORE))) - 2)


def _compute_scores(cells: RunCells, at: Sequence[npt.NDArray[np.intp]], sign: float) -> tuple[ImageTable, Learning]:
    """Return the score of each run with each image's influence on it, and what the runs of each method learned."""
    rows, frame, of_counts = cells.rows, cells.frame, cells.rows.of_counts
    run = frame.groupby(["method", "seed"], sort=False).ngroup()
    kind, classes = pd.factorize(frame["class"])
    place = (run, pd.factorize(cells.unit)[0], kind)
    numbers = frame[list(rows.score_names)].to_numpy()
    if not of_counts:
        numbers = np.concatenate([sign * np.nan_to_num(numbers), np.isfinite(numbers)], axis=1)
    shape = tuple(codes.max() + 1 for codes in place)
    if math.prod(shape) > MOST_CELLS:
        rows.problems.append(
            f"runs × images × classes must be at most {MOST_CELLS:,}, got {' × '.join(f'{n:,}' for n in shape)}; score "
            "fewer of them, or give each image's mean over its classes"
        )
        rows.raise_problems()
    data = np.zeros((*shape, numbers.shape[1]))
    np.add.at(data, place, numbers)
    summed = data.sum(axis=1)
    has_class = summed[..., 0] + summed[..., 2] > 0 if of_counts else summed[..., 1] > 0
    fold = frame.groupby(run)["fold"].first().to_numpy() if cells.is_by_fold else np.zeros(len(summed))
    held = pd.DataFrame(has_class).groupby(fold).transform("all").to_numpy()
    measure = {"miou": metrics.compute_iou, "dice": metrics.compute_dice}[rows.metric] if of_counts else _divide

    def average_classes(values: Floats) -> Floats:
        mean: Floats = (np.nan_to_num(values, nan=1.0) * held).sum(axis=-1) / np.maximum(1, held.sum(axis=-1))
        return mean

    table = make_image_table(data, lambda sums: average_classes(measure(sums)), 1 if cells.is_by_fold else cells.folds)
    table = table if cells.images else ImageTable(table.scores, np.zeros((len(table.scores), 0)))
    if not of_counts:
        return table, Learning((Skill(),) * len(at))
    names = classes if "class" in cells.keys else classes[:0]
    mious = average_classes(metrics.compute_iou(summed))
    by_method = [(runs, float(mious[runs].mean())) for runs in at]
    return table, _measure_learning(summed, by_method, names, rows.scores.constant_miou)


def _measure_learning(
    counts: Floats, methods: Sequence[tuple[npt.NDArray[np.intp], float]], names: pd.Index, constant: float
) -> Learning:
    """Measure what runs learned, by their counts (R, C, 3); `methods` are the runs of each, and their mean mIoU.

    Where all pixels have one of the classes, these are exclusive: the answers are then as many as the labels. Else the
    best constant answer is not in the counts, and is worth `constant`.
    """
    labels, answers = counts[..., (0, 2)].sum(axis=-1), counts[..., :2].sum(axis=-1)
    pixels, is_answered = labels.max(axis=0), answers.any(axis=1)
    labelled, answered = (each[is_answered].sum(axis=1) for each in (labels, answers))
    is_exclusive = len(pixels) > 1 and np.allclose(labelled, answered, rtol=1e-9)
    if is_exclusive:
        constant = float(pixels.max() / pixels.sum() / np.count_nonzero(pixels))
    highest = np.nan_to_num(metrics.compute_iou(counts)).max(axis=0)
    return Learning(
        skills=tuple(measure_skill(counts[runs], miou, constant, is_exclusive=is_exclusive) for runs, miou in methods),
        constant_miou=constant,
        found=counts[..., 0] > 0,
        unlearned=tuple(names[((pixels > 0) & (highest <= LEARNED_IOU))[: len(names)]]),
    )


def _divide(summed: Floats) -> Floats:
    """Return each class's mean over the images that have a score of it; (..., C, 2) → (..., C), 0 without any."""
    return np.divide(summed[..., 0], summed[..., 1], out=np.zeros(summed.shape[:-1]), where=summed[..., 1] != 0)


def _check_margin(rows: Rows, margin: float | None) -> None:
    """Check the given margin for these scores, or the default 0.01."""
    least, most = (0.0, 1.0) if rows.of_counts else (rows.frame[rows.metric].min(), rows.frame[rows.metric].max())
    share = least >= 0 and most <= 1
    limit = 1 if share else MAX_SCORE
    if margin is None and not share:
        rows.problems.append(
            f"the scores reach from {least:g} to {most:g}, so that the usual margin of 0.01 may not be one; say with "
            "--margin which difference does not matter, in the score's own unit (1 for per cent)"
        )
    elif margin is not None and not 1 / MAX_SCORE <= margin < limit:
        rows.problems.append(
            f"--margin must be above 0, and below 1 where scores lie within 0 to 1, got {margin:g}; it is in the "
            f"score's own unit: {margin:g} per cent is {margin / 100:g}"
        )


def _check_variance(cells: RunCells, values: ImageTable, rows_by_method: Sequence[npt.NDArray[np.intp]]) -> None:
    """Find methods whose runs are all equal, unless runs are known to be trainings."""
    several = [rows for rows in rows_by_method if len(rows) > 1]
    level = [rows for rows in several if np.ptp(values.scores[rows]) == 0]
    equal = [rows[0] for rows in level if np.ptp(values.shares[rows], axis=0).max(initial=0.0) < 1e-12]
    if not values.images and not several:
        cells.rows.problems.append(
            "one number for each method says nothing about chance, got no column `image` and one run each; give the "
            "score of each image, or of several trainings (`seed`)"
        )
    if equal and not cells.rows.is_trusted:
        names = abbreviate_names(cells.runs["method"].iloc[equal].tolist())
        cells.rows.problems.append(
            f"runs must differ, and all of {names} have the same scores: are they copies of one run, or rounded? Give "
            "each training's own scores, with all digits"
        )
