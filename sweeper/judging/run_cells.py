"""Scores or counts of each run, image and class, and the problems of missing, repeated and inconsistent ones."""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import numpy.typing as npt

from sweeper.core import metrics
from sweeper.core.text import format_count, join_words, suggest_correction
from sweeper.evidence.intervals import Floats, ImageTable, make_image_table
from sweeper.judging.rows import MAX_LISTED, Rows, ScoreRequest, abbreviate_names, format_rows
from sweeper.judging.table_traps import LEARNED_IOU

Ints = npt.NDArray[np.intp]

MOST_METHODS = 300
"""All pairs are compared, which takes half a minute."""
MOST_CELLS = 50_000_000
"""Runs × images × classes: 1.2 GB."""


class RunCells:
    """Runs × images × classes, and the problems of missing, repeated and inconsistent cells."""

    def __init__(self, rows: Rows, request: ScoreRequest) -> None:
        self.rows, self.problems = rows, list[str]()
        self.methods, method = _encode_distinct(rows.keys["method"])
        self.problems += find_request_problems(self.methods, request)
        if len(self.methods) > MOST_METHODS:
            return
        if not rows.keys.keys() & {"seed", "image", "class"}:
            self._check_rows_as_runs(method, paired=request.paired_seeds)
        self.runs, run = self._identify_runs(rows, method)
        self.rows_by_method = [[r for r, (m, _) in enumerate(self.runs) if m == i] for i in range(len(self.methods))]
        if request.paired_seeds:
            self._are_seeds_paired()
        unnamed = np.full(rows.numbers.shape[1], "")
        self.image_names, image = _encode_distinct(rows.keys.get("image", unnamed))
        self.classes, kind = _encode_distinct(rows.keys.get("class", unnamed))
        self.groups: int | None = None
        self.left_out = 0
        pairs, pair = np.unique(image * len(self.classes) + kind, return_inverse=True)
        cells, cell, times = np.unique(run * len(pairs) + pair, return_inverse=True, return_counts=True)
        self._find_repeated(times[cell], cell)
        self.kept: Ints = np.arange(len(self.image_names))
        self._find_missing(cells, pairs, leave_out=request.common)
        shape = (len(self.runs), len(self.kept), len(self.classes))
        if not self.problems and math.prod(shape) > MOST_CELLS:
            self.problems.append(
                f"runs × images × classes must be at most {MOST_CELLS:,}, got {' × '.join(f'{n:,}' for n in shape)}; "
                "score fewer of them, or give each image's mean over its classes"
            )
        if self.problems:
            return
        self.image_names = [self.image_names[i] for i in self.kept]
        is_kept = np.isin(image, self.kept)
        place = np.ravel_multi_index((run[is_kept], np.searchsorted(self.kept, image[is_kept]), kind[is_kept]), shape)
        numbers = rows.numbers[:, is_kept]
        self.data: npt.NDArray[Any] = np.zeros((*shape, 3 if rows.of_counts else 2))
        flat = self.data.reshape(-1, self.data.shape[-1])
        if rows.of_counts:
            flat[place] = numbers.T
            self._check_labels()
        else:
            is_finite = np.isfinite(numbers[0])
            score = np.where(is_finite, numbers[0], 0.0) * (-1.0 if request.lower_is_better else 1.0)
            flat[place] = np.stack([score, is_finite], axis=-1)
        if "group" in rows.keys and not self.problems:
            self._assign_groups(rows.keys["group"], image)

    @property
    def images(self) -> int:
        """Number of images; 1 where they are not distinguished."""
        return len(self.image_names)

    def _identify_runs(self, rows: Rows, method: Ints) -> tuple[list[tuple[int, str]], Ints]:
        """Return (method, name) of each run, and the run of each row. Without seeds and images every row is a run."""
        if "seed" in rows.keys:
            names = rows.keys["seed"]
        elif "image" in rows.keys or "class" in rows.keys:
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

    def _check_rows_as_runs(self, method: Ints, *, paired: bool) -> None:
        """Refuse rows as trainings if they have no seed to be paired by, or if a column may say what each row is."""
        if paired:
            self.problems.append("--paired-seeds needs a column `seed` (or --column seed=NAME), got none")
        shared = {}
        for name, values in self.rows.others.items():
            texts, text = _encode_distinct(np.array([str(value) for value in values]))
            methods = np.bincount(np.unique(text * len(self.methods) + method) // len(self.methods))
            if len(texts) > 1 and 2 * np.sum(methods[text] == len(self.methods)) >= len(text):
                shared[self.rows.titles[name]] = text
        if shared and len({*zip(method.tolist(), *(text.tolist() for text in shared.values()), strict=True)}) == len(
            method
        ):
            title = next(iter(shared))
            image, seed = (shlex.quote(f"{key}={title}") for key in ("image", "seed"))
            self.problems.append(
                "without a column `seed` or `image` each row would be a separate training, but all methods have the "
                f"same values of {title!r}; add --column {image} if it says which image, --column {seed} if it says "
                "which training, else leave this column out"
            )

    def _are_seeds_paired(self) -> None:
        """Check that methods with paired seeds have seeds in common."""
        seeds = [{name for m, name in self.runs if m == method} for method in range(len(self.methods))]
        apart = [
            f"{self.methods[i]} and {self.methods[j]}"
            for i, j in combinations(range(len(seeds)), 2)
            if not seeds[i] & seeds[j]
        ]
        if apart:
            self.problems.append(
                f"--paired-seeds compares runs of one seed, got no seed in common of {abbreviate_names(apart)}; name "
                "shared seeds alike, or leave the option out"
            )

    def _find_repeated(self, times: npt.NDArray[np.int64], cell: Ints) -> None:
        again = np.flatnonzero(times > 1)
        if len(again):
            keys = [key for key in ("method", "seed", "image", "class") if key in self.rows.keys]
            rule = f"{format_rows(again)}: several rows for the same {join_words(keys)}"
            if step := self._find_distinguishing_column(cell):
                self.problems.append(rule + step)
                return
            several = "; if they are several trainings, add a column `seed`"
            hint = "; leave all but one out" if "seed" in self.rows.keys else several
            if "image" in keys:
                hint += ", and if of several images, give each a name of its own (patient/image)"
            self.problems.append(rule + hint)

    def _find_distinguishing_column(self, cell: Ints) -> str:
        """Suggest how to name a column that distinguishes repeated rows; empty if none does."""
        size, keys, method = len(cell), self.rows.keys, self.rows.keys["method"]
        for name, values in self.rows.others.items():
            texts = np.array([str(value) for value in values])
            if (
                not 1 < len(set(texts.tolist())) <= size / 2
                or len(set(zip(cell.tolist(), texts.tolist(), strict=True))) < size
            ):
                continue
            if len({frozenset(texts[method == one].tolist()) for one in self.methods}) > 1:
                continue  # it looks like another score
            title = self.rows.titles[name]
            option = {key: shlex.quote(f"{key}={title}") for key in ("seed", "image", "group", "class")}
            steps = [
                *([f"--column {option['image']} if it says which image"] if "image" not in keys else []),
                *([f"--column {option['group']} if it says whose an image is (a patient)"] if "image" in keys else []),
                *([f"--column {option['class']} if it says which class"] if "class" not in keys else []),
                *([f"--column {option['seed']} if it says which training"] if "seed" not in keys else []),
            ]
            return f", which {title!r} distinguishes; add {', '.join(steps)}, else keep the rows of one value of it"
        return ""

    def _find_missing(self, cells: Ints, pairs: Ints, *, leave_out: bool) -> None:
        """Find the cells that only some runs have: `cells` are run × `pairs`, `pairs` image × class."""
        runs, classes = len(self.runs), len(self.classes)
        bad = np.unique(pairs[np.bincount(cells % len(pairs), minlength=len(pairs)) < runs] // classes)
        if not len(bad):
            return
        if leave_out and len(bad) < len(self.kept):
            self.left_out, self.kept = len(bad), np.setdiff1d(self.kept, bad)
            return
        first = int(np.argmax(np.bincount(cells // len(pairs), minlength=runs) < len(pairs)))
        lacking = np.setdiff1d(pairs, pairs[cells[cells // len(pairs) == first] % len(pairs)])
        names = [self._format_cell(*divmod(int(one), classes)) for one in lacking[: MAX_LISTED + 1]]
        method, seed = self.runs[first]
        run = self.methods[method] + (f", seed {seed}" if "seed" in self.rows.keys else "")
        step = "score what is missing, or leave such images out with --common"
        if leave_out or len(bad) == len(self.image_names):
            step = "no image has the scores of all runs; are images and classes named alike in all of them?"
        self.problems.append(
            f"{format_count(runs * len(pairs) - len(cells), 'score is', 'scores are')} missing that other runs have, "
            f"first of {run} ({abbreviate_names(names, len(lacking))}); {step}"
        )

    def _check_labels(self) -> None:
        """Check that tp + fn, the pixels of the labels, are the same for all runs."""
        held = self.data[..., 0] + self.data[..., 2]
        wrong = np.argwhere(np.abs(held - held[0]).max(axis=0) > 1e-6 * np.maximum(1, held[0]))
        if len(wrong):
            shown = abbreviate_names([self._format_cell(i, c) for i, c in wrong[: MAX_LISTED + 1].tolist()], len(wrong))
            self.problems.append(
                f"tp + fn, the pixels of the labels, must be the same for all runs, got others for {shown}: were they "
                "scored on the same labels, at the same resolution?"
            )

    def _assign_groups(self, names: npt.NDArray[np.str_], image: Ints) -> None:
        first = np.unique(image, return_index=True)[1]
        changing = np.flatnonzero(names != names[first[image]])
        if len(changing):
            self.problems.append(f"{format_rows(changing)}: an image must be in one group, got another than before")
            return
        groups = [str(names[first[i]]) or None for i in self.kept]
        if any(groups):
            units = metrics.number_units(groups)
            self.data = self.data if units is None else metrics.sum_by_unit(self.data, units, "miou")
            self.groups = self.data.shape[1]

    def _format_cell(self, image: int, kind: int) -> str:
        parts = [repr(self.image_names[image])] if "image" in self.rows.keys else []
        parts += [f"class {self.classes[kind]}"] if "class" in self.rows.keys else []
        return ", ".join(parts) or "its score"

    def make_table(self) -> ImageTable:
        """Return the score of each run, and each image's influence on it."""
        measure: Callable[[Any], Floats] = _compute_class_means
        if self.rows.of_counts:
            measure = metrics.compute_iou if self.rows.metric == "miou" else metrics.compute_dice
            held = (self.data[..., 0] + self.data[..., 2]).sum(axis=(0, 1)) > 0
        else:
            held = (self.data[..., 1].sum(axis=1) > 0).all(axis=0)
        table = make_image_table(
            self.data, lambda summed: metrics.average_classes(measure(summed), held), self.rows.folds_of_run
        )
        is_of_images = "image" in self.rows.keys and table.images > 1
        return table if is_of_images else ImageTable(table.scores, np.zeros((len(table.scores), 0)))

    def list_unlearned_classes(self) -> tuple[str, ...]:
        """Return the classes that no run learned; () where pixels are not counted by class."""
        if not self.rows.of_counts or "class" not in self.rows.keys:
            return ()
        summed = self.data.sum(axis=1)
        is_labelled = (summed[..., 0] + summed[..., 2] > 0).any(axis=0)
        highest = np.nanmax(metrics.compute_iou(summed), axis=0, initial=0.0)
        return tuple(self.classes[i] for i in np.flatnonzero(is_labelled & (highest <= LEARNED_IOU)))

    def explain_single_image(self) -> list[str]:
        """Return the caveat of a single image, or group, which says nothing about others."""
        if "image" not in self.rows.keys or self.data.shape[1] > 1:
            return []
        what = "image" if self.images == 1 else "group of images"
        return [f"All scores are of one {what}: nothing shows how others would rank the methods."]


def find_request_problems(methods: Sequence[str], request: ScoreRequest) -> Iterator[str]:
    """Yield the problems of the methods to compare, their baseline, and the level."""
    if (count := len(methods)) > MOST_METHODS:
        yield (
            f"at most {MOST_METHODS} methods can be judged, as each is compared with each, got {count:,} "
            f"({math.comb(count, 2):,} pairs); leave those out of the table that cannot be the best"
        )
    if count < 2:
        yield f"at least 2 methods must be compared, got {join_words(methods) or 'none'}"
    if request.baseline is not None and request.baseline not in methods:
        near = suggest_correction(request.baseline, methods) or f"; the methods are {abbreviate_names(methods, most=8)}"
        yield f"--baseline must be one of the methods, got {request.baseline!r}{near}"
    if not 0.5 <= request.level < 1:
        yield f"the level must be at least 0.5 and below 1, got {request.level:g}"


def _compute_class_means(summed: Floats) -> Floats:
    """Return each class's mean over the images that have a score of it; (..., C, 2) → (..., C), 0 without any."""
    return np.divide(summed[..., 0], summed[..., 1], out=np.zeros(summed.shape[:-1]), where=summed[..., 1] != 0)


def _encode_distinct(values: npt.NDArray[Any]) -> tuple[list[Any], Ints]:
    """Return distinct values in order of appearance, and the index of each entry among them."""
    distinct, first, codes = np.unique(values, return_index=True, return_inverse=True)
    order = np.argsort(first, kind="stable")
    rank = np.empty(len(order), dtype=np.intp)
    rank[order] = np.arange(len(order))
    return distinct[order].tolist(), rank[codes]
