"""Scores of methods, of their runs and images, side by side; every problem of a table in one list.

A row of the input is one score (or tp, fp, fn) of a method, and where there are such columns of one of its runs
(`seed`) on one image, of one class. What is made of it is a sum over images for each run, so that a run's score is

    scores:       mean over classes of (sum of the class's scores / number of images that have one)
    tp, fp, fn:   mean over classes of the IoU or Dice of the summed counts

and each image (or group of images) has its influence on it (`sweeper.evidence.intervals.image_table`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from sweeper.core import metrics
from sweeper.core.records import Scale
from sweeper.core.text import format_count, join_words, suggest_correction
from sweeper.evidence.intervals import Floats, ImageTable, make_image_table
from sweeper.evidence.replicates import count_few_groups
from sweeper.judging.rows import SHOWN, Rows, ScoreRequest, ScoreRows, ScoresError, abbreviate_names, format_rows

Ints = npt.NDArray[np.intp]

LARGEST = 1e30
"""Of a score, in size: the squares of its variance still are numbers."""
MOST_METHODS = 300
"""Each is compared with each: half a minute."""
MOST_CELLS = 50_000_000
"""Runs × images × classes: 1.2 GB."""


@dataclass(frozen=True)
class ScoreTable:
    """Runs by their row; within a method in the order of the input."""

    source: str
    methods: tuple[str, ...]
    runs: tuple[tuple[str, ...], ...]
    """Names of the runs (seeds) of each method."""
    rows: tuple[tuple[int, ...], ...]
    """Rows of each method's runs in `scores`."""
    scores: ImageTable
    """Higher is better: of a score of which lower is better, its negative."""
    scale: Scale
    margin: float
    margin_given: bool
    higher_is_better: bool
    bound: float
    """The largest possible difference."""
    images: int
    """How many; 0 = they are not told apart."""
    groups: int | None
    few_groups: int | None
    left_out: int
    """Images that some run had no score of."""
    notes: tuple[str, ...] = ()
    folds: int | None = None
    """How many folds share out the images, where each run is one of them; None = runs are whole trainings."""

    @property
    def widening(self) -> float:
        """Factor of an interval over runs: of J folds' scores √(1 + J/(K − 1)), as their training sets overlap
        (Nadeau and Bengio 2003, "Inference for the Generalization Error", eq. 10: a share 1/K is tested)."""
        if self.folds is None:
            return 1.0
        return math.sqrt(1 + max(map(len, self.runs)) / (self.folds - 1))


def make_score_table(scores: ScoreRows, asked: ScoreRequest) -> ScoreTable:
    """The table of these scores.

    Raises:
        ScoresError: with all that is wrong with them.
    """
    source = scores.source
    rows = Rows(scores, asked)
    size = np.abs(rows.numbers, where=np.isfinite(rows.numbers), out=np.zeros_like(rows.numbers))
    if len(large := np.flatnonzero((size > LARGEST).any(axis=0))):
        rows.problems.append(
            f"{format_rows(large)}: numbers must lie within ± {LARGEST:g}, got one beyond; is it a fill value?"
        )
    if not 0.5 <= asked.level < 1:
        rows.problems.append(f"the level must be at least 0.5 and below 1, got {asked.level:g}")
    if rows.problems:
        raise ScoresError(source, rows.problems)
    if rows.folds is not None:
        asked = replace(asked, paired_seeds=True)  # of one fold all have the same images
    cells = _RunCells(rows, asked)
    if cells.problems:
        raise ScoresError(source, cells.problems)
    values = cells.make_table()
    alone = cells.explain_single_image()
    margin, problem = _resolve_margin(rows, asked)
    if problems := [*([problem] if problem else []), *_is_constant(values, cells)]:
        raise ScoresError(source, problems)
    return ScoreTable(
        source=source,
        methods=tuple(cells.methods),
        runs=tuple(tuple(name for m, name in cells.runs if m == own) for own in range(len(cells.methods))),
        rows=tuple(tuple(r for r, (m, _) in enumerate(cells.runs) if m == own) for own in range(len(cells.methods))),
        scores=values,
        scale=Scale(score=rows.title, digits=max(0, 1 - math.floor(math.log10(margin) + 1e-9)), hundredth=margin),
        margin=margin,
        margin_given=asked.margin is not None,
        higher_is_better=not asked.lower_is_better,
        bound=1.0 if rows.of_counts else math.inf,
        images=cells.images if rows.has_column("image") and not alone else 0,
        groups=None if alone else cells.groups,
        few_groups=None if alone else cells.few_groups,
        left_out=cells.left_out,
        notes=(*alone, *rows.notes, *scores.notes),
        folds=rows.folds,
    )


class _RunCells:
    """Runs × images × classes: which there are, and what is wrong with their being there."""

    def __init__(self, rows: Rows, asked: ScoreRequest) -> None:
        self.rows, self.problems = rows, list[str]()
        size = rows.numbers.shape[1]
        self.methods, method = _encode_distinct(rows.keys["method"])
        if (own := len(self.methods)) > MOST_METHODS:
            self.problems.append(
                f"at most {MOST_METHODS} methods can be judged, as each is compared with each, got {own:,} "
                f"({math.comb(own, 2):,} pairs); leave those out of the table that cannot be the best"
            )
            return
        if len(self.methods) < 2:
            self.problems.append(f"at least 2 methods must be compared, got {join_words(self.methods)}")
        if asked.baseline is not None and asked.baseline not in self.methods:
            near = suggest_correction(asked.baseline, self.methods) or f"; the methods are {join_words(self.methods)}"
            self.problems.append(f"--baseline must be one of the methods, got {asked.baseline!r}{near}")
        self.runs, run = self._identify_runs(rows, method)
        if asked.paired_seeds:
            self._are_seeds_paired()
        self.image_names: list[str]
        self.classes: list[str]
        self.image_names, image = (
            _encode_distinct(rows.keys["image"]) if rows.has_column("image") else ([""], np.zeros(size, np.intp))
        )
        self.classes, kind = (
            _encode_distinct(rows.keys["class"]) if rows.has_column("class") else ([""], np.zeros(size, np.intp))
        )
        self.groups: int | None = None
        self.few_groups: int | None = None
        self.left_out = 0
        pairs, pair = np.unique(image * len(self.classes) + kind, return_inverse=True)
        cells, cell, times = np.unique(run * len(pairs) + pair, return_inverse=True, return_counts=True)
        self._find_repeated(times[cell])
        self.kept: Ints = np.arange(len(self.image_names))
        self._find_missing(cells, pairs, leave_out=asked.common)
        shape = (len(self.runs), len(self.kept), len(self.classes))
        if not self.problems and math.prod(shape) > MOST_CELLS:
            self.problems.append(
                f"runs × images × classes must be at most {MOST_CELLS:,}, got {' × '.join(f'{n:,}' for n in shape)}; "
                "score fewer of them, or give each image's mean over its classes"
            )
        if self.problems:
            return
        self.image_names = [self.image_names[i] for i in self.kept]
        there = np.isin(image, self.kept)
        place = np.ravel_multi_index((run[there], np.searchsorted(self.kept, image[there]), kind[there]), shape)
        numbers = rows.numbers[:, there]
        self.data = np.zeros((*shape, 3 if rows.of_counts else 2))
        flat = self.data.reshape(-1, self.data.shape[-1])
        if rows.of_counts:
            flat[place] = numbers.T
            self._check_labels()
        else:
            known = np.isfinite(numbers[0])
            score = np.where(known, numbers[0], 0.0) * (-1.0 if asked.lower_is_better else 1.0)
            flat[place] = np.stack([score, known], axis=-1)
        if rows.has_column("group") and not self.problems:
            self._find_group(rows.keys["group"], image)

    @property
    def images(self) -> int:
        return len(self.image_names)

    def _identify_runs(self, rows: Rows, method: Ints) -> tuple[list[tuple[int, str]], Ints]:
        """(method, name) of each run, and the run of each row. Without seeds and images every row is a run."""
        if rows.has_column("seed"):
            names = rows.keys["seed"]
        elif rows.has_column("image") or rows.has_column("class"):
            names = np.full(len(method), "1")
        else:
            so_far = dict[int, int]()
            numbers = []
            for m in method.tolist():
                so_far[m] = so_far.get(m, 0) + 1
                numbers.append(str(so_far[m]))
            names = np.array(numbers)
        seeds, seed = _encode_distinct(names)
        both, run = _encode_distinct(method * len(seeds) + seed)
        return [(b // len(seeds), seeds[b % len(seeds)]) for b in both], run

    def _are_seeds_paired(self) -> None:
        """Methods whose seeds are paired share some."""
        seeds = [{name for m, name in self.runs if m == own} for own in range(len(self.methods))]
        apart = [
            f"{self.methods[i]} and {self.methods[j]}"
            for i, j in combinations(range(len(seeds)), 2)
            if not seeds[i] & seeds[j]
        ]
        if apart:
            self.problems.append(
                f"--paired-seeds compares runs of one seed, got no seed in common of {abbreviate_names(apart)}; name "
                "shared seeds "
                "alike, or leave the option out"
            )

    def _find_repeated(self, times: npt.NDArray[np.int64]) -> None:
        again = np.flatnonzero(times > 1)
        if len(again):
            keys = [key for key in ("method", "seed", "image", "class") if self.rows.has_column(key)]
            hint = (
                ""
                if self.rows.has_column("seed")
                else "; where they are several trainings, a column `seed` tells them apart"
            )
            self.problems.append(f"{format_rows(again)}: several rows for the same {join_words(keys)}{hint}")

    def _find_missing(self, cells: Ints, pairs: Ints, *, leave_out: bool) -> None:
        """Every run must have what any run has: `cells` are run × `pairs`, and these image × class."""
        runs, classes = len(self.runs), len(self.classes)
        bad = np.unique(pairs[np.bincount(cells % len(pairs), minlength=len(pairs)) < runs] // classes)
        if not len(bad):
            return
        if leave_out and len(bad) < len(self.kept):
            self.left_out, self.kept = len(bad), np.setdiff1d(self.kept, bad)
            return
        first = int(np.argmax(np.bincount(cells // len(pairs), minlength=runs) < len(pairs)))
        lacking = np.setdiff1d(pairs, pairs[cells[cells // len(pairs) == first] % len(pairs)])
        names = [self._format_cell(*divmod(int(one), classes)) for one in lacking[: SHOWN + 1]]
        self.problems.append(
            f"{format_count(runs * len(pairs) - len(cells), 'score is', 'scores are')} missing that other runs have, "
            "first of "
            f"{self._format_run(*self.runs[first])} ({abbreviate_names(names, len(lacking))}); score what is missing, "
            "or leave such "
            "images out with --common"
        )

    def _check_labels(self) -> None:
        """tp + fn are the labels' pixels, and the labels are the same for all."""
        held = self.data[..., 0] + self.data[..., 2]
        wrong = np.argwhere(np.abs(held - held[0]).max(axis=0) > 1e-6 * np.maximum(1, held[0]))
        if len(wrong):
            shown = abbreviate_names([self._format_cell(i, c) for i, c in wrong[: SHOWN + 1].tolist()], len(wrong))
            self.problems.append(
                f"tp + fn, the pixels of the labels, must be the same for all runs, got others for {shown}: were they "
                "scored on the same labels, at the same resolution?"
            )

    def _find_group(self, names: npt.NDArray[np.str_], image: Ints) -> None:
        _, code = _encode_distinct(names)
        first = np.full(image.max() + 1, -1)
        first[image[::-1]] = np.arange(len(image))[::-1]
        changing = np.flatnonzero(code != code[first[image]])
        if len(changing):
            self.problems.append(f"{format_rows(changing)}: an image must be in one group, got another than before")
            return
        groups = [str(names[first[i]]) or None for i in self.kept]
        if any(groups):
            unit = [group or f"\0{place}" for place, group in enumerate(groups)]
            of_units, units = _encode_distinct(np.array(unit))
            summed = np.zeros((len(self.data), len(of_units), *self.data.shape[2:]))
            for run, images in zip(summed, self.data, strict=True):
                np.add.at(run, units, images)
            self.data, self.groups, self.few_groups = summed, len(of_units), count_few_groups(groups)

    def _format_cell(self, image: int, kind: int) -> str:
        parts = [repr(self.image_names[image])] if self.rows.has_column("image") else []
        parts += [f"class {self.classes[kind]}"] if self.rows.has_column("class") else []
        return ", ".join(parts) or "its score"

    def _format_run(self, method: int, name: str) -> str:
        return f"{self.methods[method]}, seed {name}" if self.rows.has_column("seed") else self.methods[method]

    def make_table(self) -> ImageTable:
        """The score of each run, and each image's influence on it."""
        if self.rows.of_counts:
            held = (self.data[..., 0] + self.data[..., 2]).sum(axis=(0, 1)) > 0
            of = metrics.compute_iou if self.rows.metric == "miou" else metrics.compute_dice
            found = make_image_table(self.data, lambda summed: metrics.mean_over(of(summed), held))
        else:
            held = (self.data[..., 1].sum(axis=1) > 0).all(axis=0)
            found = make_image_table(self.data, lambda summed: metrics.mean_over(_compute_class_means(summed), held))
        told_apart = self.rows.has_column("image") and found.images > 1
        return found if told_apart else ImageTable(found.scores, np.zeros((len(found.scores), 0)))

    def explain_single_image(self) -> list[str]:
        """That there is a single image, or group of them, which tells nothing of others."""
        if not self.rows.has_column("image") or self.data.shape[1] > 1:
            return []
        what = "image" if self.images == 1 else "group of images"
        return [f"All scores are of one {what}: nothing tells how others would rank the methods."]


def _resolve_margin(rows: Rows, asked: ScoreRequest) -> tuple[float, str | None]:
    found = np.zeros(1) if rows.of_counts else rows.numbers[np.isfinite(rows.numbers)]
    share = not len(found) or (found.min() >= 0 and found.max() <= 1)
    if asked.margin is not None:
        if not 1 / LARGEST <= asked.margin <= LARGEST:
            return 0.01, f"--margin must be above 0, got {asked.margin:g}; use one from {1 / LARGEST:g} to {LARGEST:g}"
        if share and asked.margin >= 1:
            return 0.01, (
                f"--margin must be below 1 where scores lie within 0 to 1, got {asked.margin:g}; it is in the score's "
                f"own unit: {asked.margin:g} per cent is {asked.margin / 100:g}"
            )
        return asked.margin, None
    if share:
        return 0.01, None
    return 0.01, (
        f"the scores reach from {found.min():g} to {found.max():g}, so that the usual margin of 0.01 may not be one; "
        "say with --margin which difference does not matter, in the score's own unit (1 for per cent)"
    )


def _is_constant(values: ImageTable, cells: _RunCells) -> list[str]:
    problems = []
    shares = values.shares if values.images else np.zeros((len(values.scores), 1))
    for m, method in enumerate(cells.methods):
        own = [r for r, (of, _) in enumerate(cells.runs) if of == m]
        if len(own) > 1 and np.ptp(values.scores[own]) == 0 and np.ptp(shares[own], axis=0).max() < 1e-12:
            problems.append(
                f"the {len(own)} runs of {method} have the same scores: are they copies of one run, or rounded? Give "
                "each training's own scores, with all digits"
            )
    if not values.images and all(sum(of == m for of, _ in cells.runs) < 2 for m in range(len(cells.methods))):
        problems.append(
            "one number for each method tells nothing of chance, got no column `image` and one run each; give the "
            "score of each image, or of several trainings (`seed`)"
        )
    return problems


def _compute_class_means(summed: Floats) -> Floats:
    """Of each class over the images that have a score of it; (..., C, 2) → (..., C), 0 where none has."""
    return np.divide(summed[..., 0], summed[..., 1], out=np.zeros(summed.shape[:-1]), where=summed[..., 1] != 0)


def _encode_distinct(values: npt.NDArray[Any]) -> tuple[list[Any], Ints]:
    """Distinct values in the order in which they come, and the place of each entry among them."""
    found, first, codes = np.unique(values, return_index=True, return_inverse=True)
    order = np.argsort(first, kind="stable")
    rank = np.empty(len(order), dtype=np.intp)
    rank[order] = np.arange(len(order))
    return found[order].tolist(), rank[codes]
