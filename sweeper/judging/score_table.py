"""Scores of methods, runs and images as one table; a table's problems are collected in one list.

A row of the input is one score (or tp, fp, fn) of a method and, if there are such columns, of one run (`seed`), image
and class. These are summed over the images, and the score of a run is

  scores:       mean over classes of (sum of the class's scores / number of images that have one)
  tp, fp, fn:   mean over classes of the IoU or Dice of the summed counts

with the influence of each image (or group of images) on it (`sweeper.evidence.intervals.make_image_table`).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from sweeper.core.records import Scale
from sweeper.evidence.intervals import Floats, ImageTable
from sweeper.judging.direction import check_direction
from sweeper.judging.rows import Rows, ScoreRequest, ScoreRows, ScoresError, format_rows
from sweeper.judging.run_cells import RunCells
from sweeper.judging.table_traps import find_traps, note_background, note_seeds_in_names, note_unlearned

MAX_SCORE = 1e30
"""Largest absolute score, so that squares in its variance are finite."""
USUAL_MARGIN = 0.01


@dataclass(frozen=True)
class ScoreTable:
    """Scores of runs, by row; the runs of a method are in the order of the input."""

    source: str
    methods: tuple[str, ...]
    runs: tuple[tuple[str, ...], ...]
    """Names of the runs (seeds) of each method."""
    rows: tuple[tuple[int, ...], ...]
    """Rows of each method's runs in `scores`."""
    scores: ImageTable
    """Higher is better: negated scores if lower is better."""
    scale: Scale
    margin: float
    margin_given: bool
    higher_is_better: bool
    bound: float
    """The largest possible difference."""
    images: int
    """Number of images; 0 = they are not distinguished."""
    groups: int | None = None
    left_out: int = 0
    """Images without a score for some run."""
    notes: tuple[str, ...] = ()
    design: str | None = None
    """How the runs were tuned and seeded; None = unknown."""
    classes: int = 0
    """Number of classes; 0 = they are not distinguished."""
    unlearned: tuple[str, ...] = ()
    """Classes that no run learned."""
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
    source = scores.source
    rows = Rows(scores, request)
    size = np.abs(rows.numbers, where=np.isfinite(rows.numbers), out=np.zeros_like(rows.numbers))
    if len(large := np.flatnonzero((size > MAX_SCORE).any(axis=0))):
        rows.problems.append(
            f"{format_rows(large)}: numbers must lie within ± {MAX_SCORE:g}, got one beyond; is it a fill value?"
        )
    if rows.numbers.shape[1]:
        directions = check_direction(rows.metric, request.lower_is_better)
        rows.problems += directions
        rows.problems += find_traps(rows, lower_is_better=bool(request.lower_is_better or directions))
    is_named = all((rows.keys[key] != "").all() for key in ("method", "seed", "image", "class") if key in rows.keys)
    if rows.problems and not (rows.numbers.shape[1] and is_named):
        raise ScoresError(source, rows.problems)
    rows.numbers = np.nan_to_num(rows.numbers) if rows.problems else rows.numbers  # only to find the remaining problems
    if rows.folds is not None:
        request = replace(request, paired_seeds=True)  # in one fold all methods have the same images
    cells = RunCells(rows, request)
    if problems := [*rows.problems, *cells.problems]:
        raise ScoresError(source, problems)
    values = cells.make_table()
    alone, unlearned = cells.explain_single_image(), cells.list_unlearned_classes()
    names = []
    if scores.design is None:  # else sweeper made the table, and says it elsewhere
        names = [*note_unlearned(unlearned), *note_background(rows), *note_seeds_in_names(rows)]
    margin = USUAL_MARGIN if request.margin is None else request.margin
    compared = np.zeros(0) if rows.of_counts else rows.numbers[np.isfinite(rows.numbers)]
    if problems := [
        *_find_margin_problems(compared, request.margin),
        *_find_variance_problems(values, cells, is_trusted=scores.design is not None),
    ]:
        raise ScoresError(source, problems)
    return ScoreTable(
        source=source,
        methods=tuple(cells.methods),
        runs=tuple(tuple(cells.runs[r][1] for r in of_method) for of_method in cells.rows_by_method),
        rows=tuple(map(tuple, cells.rows_by_method)),
        scores=values,
        scale=Scale(score=rows.title, digits=max(0, 1 - math.floor(math.log10(margin) + 1e-9)), hundredth=margin),
        margin=margin,
        margin_given=request.margin is not None,
        higher_is_better=not request.lower_is_better,
        bound=1.0 if rows.of_counts else math.inf,
        images=cells.images if "image" in rows.keys and not alone else 0,
        groups=None if alone else cells.groups,
        left_out=cells.left_out,
        notes=(*alone, *rows.notes, *names, *scores.notes),
        design=scores.design,
        folds=rows.folds,
        classes=len(cells.classes) if "class" in rows.keys else 0,
        unlearned=unlearned,
    )


def _find_margin_problems(scores: Floats, margin: float | None) -> Iterator[str]:
    """Yield the problems of the given margin for these scores, or of the default 0.01."""
    share = not len(scores) or (scores.min() >= 0 and scores.max() <= 1)
    if margin is None and not share:
        yield (
            f"the scores reach from {scores.min():g} to {scores.max():g}, so that the usual margin of 0.01 may not be "
            "one; say with --margin which difference does not matter, in the score's own unit (1 for per cent)"
        )
    elif margin is not None and not 1 / MAX_SCORE <= margin <= MAX_SCORE:
        yield f"--margin must be above 0, got {margin:g}; use one from {1 / MAX_SCORE:g} to {MAX_SCORE:g}"
    elif margin is not None and share and margin >= 1:
        yield (
            f"--margin must be below 1 where scores lie within 0 to 1, got {margin:g}; it is in the score's own unit: "
            f"{margin:g} per cent is {margin / 100:g}"
        )


def _find_variance_problems(values: ImageTable, cells: RunCells, *, is_trusted: bool) -> list[str]:
    """Find methods whose runs are all equal; for runs known to be trainings, only if all methods' runs are."""
    problems, several = [], 0
    shares = values.shares if values.images else np.zeros((len(values.scores), 1))
    for method, rows in zip(cells.methods, cells.rows_by_method, strict=True):
        several += len(rows) > 1
        if len(rows) > 1 and np.ptp(values.scores[rows]) == 0 and np.ptp(shares[rows], axis=0).max() < 1e-12:
            problems.append(
                f"the {len(rows)} runs of {method} have the same scores: are they copies of one run, or rounded? Give "
                "each training's own scores, with all digits"
            )
    if is_trusted and len(problems) < several:
        problems = []
    if not values.images and not several:
        problems.append(
            "one number for each method says nothing about chance, got no column `image` and one run each; give the "
            "score of each image, or of several trainings (`seed`)"
        )
    return problems
