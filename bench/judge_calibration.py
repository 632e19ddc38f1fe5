"""Measure how often `sweeper judge` recommends a winner where there is none, on simulated tables of two methods.

    python bench/judge_calibration.py [--tables 2000] [--seed 0] [--processes 2] [--first 1]
        [--folds | --others | --methods]

The product's code judges every table. The margin is nearly 0, so only the intervals prevent a winner.

- First table: scores of runs and images. A row is a design, a column a kind of noise, a cell the share of tables with a
  winner. Both methods have the same true score, which is the hardest case: of several, a winner must beat every other.
  With one run each, the claim is about the two networks, and runs do not vary in the simulation. If only one source of
  noise matters, the interval is Student's, and the rate is about 5 %. The limit is 6 % for the upper end of the 95 %
  interval (Clopper–Pearson) of a row's whole rate.
- Second table (alone with `--folds`): cross-validations of two ridge regressions on disjoint, equally good sets of
  features. `by fold` has one score for each fold, `by image` one for each image. Fewer than three rotations by image
  are left out, as `sweeper judge` judges them by fold.
- Third table (only with `--others`): how often `sweeper judge`, scipy and autorank (if it is installed) recommend a
  method, if both are equal and if the second is better. The other tests are paired as they usually are: by image, with
  the mean of each image over its runs, or by fold.
- Fourth table (only with `--methods`, and best with `--tables 200`): how often a change from the present method is
  established, by `compare_pairs`, where 2, 3, 6 or 11 methods are equal; and where the last is better by `GAP`. A cell
  has as many tables of each of three kinds of noise (a quarter if one is better); its standard error is in the head.
  `confirm` makes its interim analyses, and a win at any of them counts.

Prints each row when it is done; the same arguments print the same tables, whatever the number of processes. `--first 4`
begins at the fourth row of the first table (with `--folds`, of the second). A table takes some 35 ms.
"""

from __future__ import annotations

import argparse
import io
import math
import sys
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import redirect_stdout
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
from bench.answer_calibration import LIMIT, compute_upper_limit
from sweeper.core.records import Interval
from sweeper.evidence.interim_analyses import DECIDING_SEEDS, plan_analyses
from sweeper.evidence.intervals import ImageTable, compute_nested_interval
from sweeper.evidence.paired_comparisons import compare_pairs
from sweeper.judging.judgement import Judgement, judge_scores
from sweeper.judging.request import ScoreRequest
from sweeper.judging.rows import ScoreRows

Floats = npt.NDArray[np.float64]
BATCH = 250
"""Tables that a process draws at a time, from one stream of random numbers."""


@dataclass(frozen=True)
class Noise:
    """Standard deviations of a score's parts, in the unit of the score."""

    name: str
    seed: float
    """Effect of a training on all images alike."""
    preference: float
    """Effect of an image, or group of images, on all trainings of a method."""
    interaction: float
    """Effect of a training on a single image."""
    ratio: float = 1.0
    """The second method's `seed` and `interaction`, as a multiple of the first's."""
    is_distance: bool = False
    """Whether scores are distances, e to the power of normal numbers, of which lower is better."""


@dataclass(frozen=True)
class TableDesign:
    """Runs and images of a table."""

    runs: tuple[int, int]
    """Number of runs of each method."""
    paired: bool = False
    groups: int | None = None
    images: int = 60
    """Number of images; 0 = one score for each run."""

    @property
    def name(self) -> str:
        first, second = self.runs
        if first == second == 1:
            seeds = "one run each"
        else:
            number = f"{first}" if first == second else f"{first} and {second}"
            seeds = f"{number} seeds, {'paired' if self.paired else 'unpaired'}"
        if not self.images:
            return f"{seeds}, no images"
        return f"{seeds}, {self.images} images" + (f" in {self.groups} groups" if self.groups else "")


NOISES = (
    Noise("of seeds", seed=0.02, preference=0.01, interaction=0.02),
    Noise("of images", seed=0.001, preference=0.05, interaction=0.03),
    Noise("unequal", seed=0.004, preference=0.02, interaction=0.02, ratio=5.0),
    Noise("distances", seed=0.1, preference=0.5, interaction=0.5, is_distance=True),
)
TABLE_DESIGNS = (
    *(TableDesign((s, s), paired, groups) for paired in (False, True) for s in (3, 5) for groups in (None, 15)),
    TableDesign((3, 10)),
    TableDesign((3, 3), images=0),
    TableDesign((5, 5), paired=True, images=0),
    TableDesign((1, 1)),
    TableDesign((1, 1), groups=15),
    TableDesign((3, 3), groups=6),
    TableDesign((3, 3), paired=True, groups=6),
)


def draw_table(design: TableDesign, noise: Noise, rng: np.random.Generator) -> dict[str, list[Any]]:
    """Return the columns of a table of two methods that are equally good."""
    runs, n = max(design.runs), design.images or 60
    ratio = np.array([1.0, noise.ratio])[:, None, None]
    level = rng.standard_normal(n)
    # If images are not distinguished, the methods must be equal on exactly these images.
    preference = noise.preference * rng.standard_normal((2, 1, n)) if design.images else np.zeros((2, 1, n))
    if design.groups:
        group_of = np.arange(n) * design.groups // n
        level = level + rng.standard_normal(design.groups)[group_of]
        preference = preference + noise.preference * rng.standard_normal((2, 1, design.groups))[..., group_of]
    shift = ratio * noise.seed * rng.standard_normal((2, runs, 1)) if runs > 1 else 0.0
    if design.paired:
        shift = shift + 2 * noise.seed * rng.standard_normal((runs, 1))  # the effect of a seed on both methods alike
    score: Floats = preference + shift + ratio * noise.interaction * rng.standard_normal((2, runs, n))
    # The mean of a log-normal number depends on its variance, which is the same for both methods.
    score = np.exp(score + 0.5 * level) if noise.is_distance else 0.7 + 0.08 * level + score
    if not design.images:
        score = score.mean(axis=2, keepdims=True)
    method, run, image = (index.ravel() for index in np.indices(score.shape))
    is_run = run < np.array(design.runs)[method]
    columns: dict[str, list[Any]] = {
        "method": ["ab"[m] for m in method[is_run].tolist()],
        "seed": run[is_run].tolist(),
        "score": score.ravel()[is_run].tolist(),
    }
    columns |= {"image": image[is_run].tolist()} if design.images else {}
    columns |= {"group": (image[is_run] * design.groups // n).tolist()} if design.groups else {}
    return columns


@dataclass(frozen=True)
class FoldDesign:
    """Rotations, folds and images of a cross-validation."""

    rotations: int
    folds: int
    images: int
    by_image: bool = False

    @property
    def name(self) -> str:
        rotations = "1 rotation" if self.rotations == 1 else f"{self.rotations} rotations"
        how = "by image" if self.by_image else "by fold"
        return f"{rotations} of {self.folds} folds, {self.images} images, {how}"


FOLD_DESIGNS = (
    *(FoldDesign(rotations, folds, images) for rotations, folds in ((1, 5), (1, 10), (3, 5)) for images in (60, 200)),
    *(FoldDesign(rotations, 5, images, by_image=True) for rotations in (3, 5) for images in (60, 200)),
)


def cross_validate(design: FoldDesign, rng: np.random.Generator) -> dict[str, list[Any]]:
    """Return the columns of a table of two equally good regressions, cross-validated on the same folds."""
    n, width = design.images, 6
    features = rng.standard_normal((n, 2 * width))
    target = features.sum(axis=1) + 3 * rng.standard_normal(n)
    columns: dict[str, list[Any]] = {key: [] for key in ("method", "seed", "fold", "image", "score")}
    for seed in range(design.rotations):
        fold_of = rng.permutation(n) % design.folds
        for fold in range(design.folds):
            train, test = np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)
            for method, x in (("a", features[:, :width]), ("b", features[:, width:])):
                weights = np.linalg.solve(x[train].T @ x[train] + np.eye(width), x[train].T @ target[train])
                errors = (x[test] @ weights - target[test]) ** 2
                rows = zip(test.tolist(), errors.tolist(), strict=True) if design.by_image else [(0, errors.mean())]
                for image, error in rows:
                    for key, value in zip(columns, (method, seed, fold, image, float(error)), strict=True):
                        columns[key].append(value)
    if not design.by_image:
        del columns["image"]
    return columns


def find_winner(judgement: Judgement) -> str | None:
    """Return the method that beats the other, if one does."""
    choice = judgement.choice
    return judgement.contest.finalists[choice.best].family if choice.best is not None and not choice.unbeaten else None


def count_fold_winners(task: tuple[FoldDesign, int, tuple[int, ...]]) -> int:
    """Draw tables of a design from a stream of random numbers; return how many have a winner."""
    design, tables, stream = task
    rng, winners = np.random.default_rng(stream), 0
    for _ in range(tables):
        judgement = judge_scores(
            ScoreRows(cross_validate(design, rng), "a simulation"), ScoreRequest(margin=1e-9, lower_is_better=True)
        )
        winners += find_winner(judgement) is not None
    return winners


def list_fold_rows(pool: ProcessPoolExecutor, tables: int, seed: int, first: int) -> Iterator[str]:
    """Yield the rows of the second table when they are done."""
    yield "| cross-validation | winners | upper limit |"
    yield "| --- | --: | --: |"
    sizes = [min(BATCH, tables - start) for start in range(0, tables, BATCH)]
    tasks = [
        (design, size, (seed, 1000 + number, b))
        for number, design in enumerate(FOLD_DESIGNS)
        if number >= first - 1
        for b, size in enumerate(sizes)
    ]
    counts = pool.map(count_fold_winners, tasks)
    for design in FOLD_DESIGNS[first - 1 :]:
        false = sum(next(counts) for _ in sizes)
        limit = compute_upper_limit(false, tables)
        yield f"| {design.name} | {100 * false / tables:.2f} % | {100 * limit:.2f} % |"


MIXED_NOISE = Noise("mixed", seed=0.01, preference=0.03, interaction=0.02)
COMPARED_DESIGNS: tuple[tuple[TableDesign | FoldDesign, float], ...] = (
    (TableDesign((3, 3)), 0.03),
    (TableDesign((3, 3), paired=True), 0.02),
    (TableDesign((3, 3), paired=True, groups=6), 0.05),
    (TableDesign((5, 5), paired=True, images=0), 0.02),
    (FoldDesign(1, 5, 200), 3.0),
    (FoldDesign(3, 5, 200), 3.0),
    (FoldDesign(3, 5, 200, by_image=True), 3.0),
)
"""Designs, each with the true difference of the tables whose second method is better."""
TESTS = ("judge", "scipy's t", "scipy's Wilcoxon", "autorank")


def draw_with_gap(design: TableDesign | FoldDesign, gap: float, rng: np.random.Generator) -> dict[str, list[Any]]:
    """Return the columns of a table whose method b is better by `gap`."""
    columns = draw_table(design, MIXED_NOISE, rng) if isinstance(design, TableDesign) else cross_validate(design, rng)
    sign = 1 if isinstance(design, TableDesign) else -1
    columns["score"] = [
        score + sign * gap * (method == "b") for method, score in zip(columns["method"], columns["score"], strict=True)
    ]
    return columns


def count_claims(task: tuple[TableDesign | FoldDesign, float, int, tuple[int, ...]]) -> list[int]:
    """Count the tables in which each of `TESTS` recommends a method: any of equal methods, else the better one."""
    design, gap, tables, stream = task
    rng, counts = np.random.default_rng(stream), [0] * len(TESTS)
    request = ScoreRequest(
        margin=1e-9,
        paired_seeds=isinstance(design, TableDesign) and design.paired,
        lower_is_better=isinstance(design, FoldDesign),
    )
    for _ in range(tables):
        columns = draw_with_gap(design, gap, rng)
        judgement = judge_scores(ScoreRows(columns, "a simulation"), request)
        is_right = find_winner(judgement) in (("b",) if gap else ("a", "b"))
        for place, claims in enumerate((is_right, *list_other_claims(columns, gap, isinstance(design, FoldDesign)))):
            counts[place] += claims
    return counts


def list_other_claims(columns: dict[str, list[Any]], gap: float, lower_is_better: bool) -> Iterator[bool]:
    """Yield whether each test of scipy and autorank recommends a method, paired by image, else by fold and seed."""
    import pandas as pd
    from scipy import stats

    units = ["image"] if "image" in columns else [key for key in ("seed", "fold") if key in columns]
    pairs = pd.DataFrame(columns).groupby([*units, "method"])["score"].mean().unstack()
    is_better = (pairs["b"].mean() > pairs["a"].mean()) != lower_is_better
    for p in (stats.ttest_rel(pairs["a"], pairs["b"]).pvalue, stats.wilcoxon(pairs["a"], pairs["b"]).pvalue):
        yield bool(p < 0.05 and (not gap or is_better))
    try:
        from autorank import autorank
    except ImportError:
        yield False
        return
    with warnings.catch_warnings(), redirect_stdout(io.StringIO()):  # it prints its table
        warnings.simplefilter("ignore")
        p = autorank(pairs.reset_index(drop=True), alpha=0.05).pvalue
    yield bool(p < 0.05 and (not gap or is_better))


def list_comparison_rows(pool: ProcessPoolExecutor, tables: int, seed: int) -> Iterator[str]:
    """Yield the rows of the third table when they are done."""
    yield f"| design | {' | '.join(f'{name}, equal' for name in TESTS)} | {' | '.join(f'{n}, better' for n in TESTS)} |"
    yield f"| --- |{' --: |' * (2 * len(TESTS))}"
    sizes = [min(BATCH, tables - start) for start in range(0, tables, BATCH)]
    counts = pool.map(
        count_claims,
        [
            (design, true_gap, size, (seed, 2000 + number, bool(true_gap), b))
            for number, (design, gap) in enumerate(COMPARED_DESIGNS)
            for true_gap in (0.0, gap)
            for b, size in enumerate(sizes)
        ],
    )
    for design, gap in COMPARED_DESIGNS:
        claims = [np.sum([next(counts) for _ in sizes], axis=0) for _ in range(2)]
        cells = [f"{100 * count / tables:.1f} %" for each in claims for count in each.tolist()]
        yield f"| {design.name}, {gap:g} better | {' | '.join(cells)} |"


@dataclass(frozen=True)
class Task:
    """Tables of one design and kind of noise, drawn from one stream of random numbers."""

    design: TableDesign
    noise: Noise
    tables: int
    stream: tuple[int, ...]


def count_winners(task: Task) -> int:
    """Count the tables with a winner; with one run each, those whose claim is about the networks."""
    rng = np.random.default_rng(task.stream)
    request = ScoreRequest(margin=1e-9, paired_seeds=task.design.paired, lower_is_better=task.noise.is_distance)
    winners = 0
    for _ in range(task.tables):
        judgement = judge_scores(ScoreRows(draw_table(task.design, task.noise, rng), "a simulation"), request)
        winners += find_winner(judgement) is not None
    return winners


def list_rows(pool: ProcessPoolExecutor, tables: int, seed: int, first: int) -> Iterator[str]:
    """Yield the rows of the first table, from the `first` on, when they are done."""
    yield f"| noise | {' | '.join(noise.name for noise in NOISES)} | all | upper limit |"
    yield f"| --- |{' --: |' * (len(NOISES) + 2)}"
    sizes = [min(BATCH, tables - start) for start in range(0, tables, BATCH)]
    streams = [(k, n) for k in range(first - 1, len(TABLE_DESIGNS)) for n in range(len(NOISES))]
    counts = pool.map(
        count_winners,
        [Task(TABLE_DESIGNS[k], NOISES[n], size, (seed, k, n, b)) for k, n in streams for b, size in enumerate(sizes)],
    )
    for design in TABLE_DESIGNS[first - 1 :]:
        false = [sum(next(counts) for _ in sizes) for _ in NOISES]
        total = tables * len(NOISES)
        limit = compute_upper_limit(sum(false), total)
        cells = [f"{100 * each / tables:.1f} %" for each in false]
        cells += [f"{100 * sum(false) / total:.2f} %", f"{100 * limit:.2f} %{' **too many**' if limit > LIMIT else ''}"]
        yield f"| {design.name} | {' | '.join(cells)} |"


@dataclass(frozen=True)
class MethodsDesign:
    """Seeds and images of a comparison of several methods with the present one."""

    seeds: int
    images: int
    paired: bool
    is_confirm: bool = False
    """Whether there is an interim analysis after 3 seeds, and after each further one that is planned."""

    @property
    def name(self) -> str:
        seeds = f"`confirm`, 3 to {self.seeds} seeds" if self.is_confirm else f"{self.seeds} seeds"
        return f"{seeds}, {'paired' if self.paired else 'unpaired'}, {self.images} images"


METHODS = (2, 3, 6, 11)
GAP = 0.05
METHODS_DESIGNS = tuple(
    MethodsDesign(seeds, images, paired, is_confirm)
    for seeds, images, is_confirm in (
        (3, 2, False), (3, 60, False), (5, 20, False), (10, 2, False), (10, 6, False), (5, 40, True),
    )
    for paired in (True, False)
)  # fmt: skip


def has_change(design: MethodsDesign, noise: Noise, methods: int, gap: float, rng: np.random.Generator) -> bool:
    """Draw scores of methods, of which the last is better by `gap`; return whether it, or any, beats the first."""
    shape = (methods, design.seeds, design.images)
    ratio = np.where(np.arange(methods) % 2, noise.ratio, 1.0)[:, None, None]
    values: Floats = noise.preference * rng.standard_normal((methods, 1, design.images))
    values = values + ratio * noise.seed * rng.standard_normal((methods, design.seeds, 1))
    values += ratio * noise.interaction * rng.standard_normal(shape)
    values[-1] += gap
    scores = values.mean(axis=2)
    table = ImageTable(scores.ravel(), (values - scores[..., None]).reshape(-1, design.images))
    runs = np.arange(scores.size).reshape(scores.shape).tolist()

    def measure(first: list[int], second: list[int], level: float, *, strict: bool = False) -> Interval:
        one, other = table.select_rows(first), table.select_rows(second)
        return compute_nested_interval(one, other, "both", level, strict=strict)

    pairs = compare_pairs(
        [dict(enumerate(rows)) for rows in runs],
        table,
        plan_analyses(DECIDING_SEEDS, design.seeds) if design.is_confirm else (),
        1e-9,
        math.inf,
        baseline=0,
        measure=None if design.paired else measure,
        paired=design.paired,
    )
    return any(pair.won for pair in pairs if pair.second == 0 and (not gap or pair.first == methods - 1))


def count_changes(task: tuple[int, int, float, int, int]) -> int:
    """Draw tables of a design for each kind of noise; return in how many there is a change."""
    number, methods, gap, tables, seed = task
    rng = np.random.default_rng((seed, 3000 + number, methods, bool(gap)))
    return sum(
        has_change(METHODS_DESIGNS[number], noise, methods, gap, rng) for noise in NOISES[:3] for _ in range(tables)
    )


def list_methods_rows(pool: ProcessPoolExecutor, tables: int, seed: int, first: int) -> Iterator[str]:
    """Yield the rows of the fourth table when they are done."""
    equal = "/".join(map(str, METHODS))
    drawn, better = 3 * tables, (METHODS[0], METHODS[-1])
    error = 100 * math.sqrt(0.05 * 0.95 / drawn)
    title = f"{equal} equal | one of {better[0]}/{better[1]} better by {GAP:g}"
    yield f"| change in per cent (± {error:.1f} at 5) | {title} |"
    yield "| --- | --: | --: |"
    numbers = range(first - 1, len(METHODS_DESIGNS))
    cells = [(methods, 0.0, tables) for methods in METHODS] + [(methods, GAP, tables // 4) for methods in better]
    counts = pool.map(count_changes, [(n, *cell, seed) for n in numbers for cell in cells])
    for number in numbers:
        shares = [f"{100 * next(counts) / drawn:.1f}" for _ in METHODS]
        powers = [f"{100 * next(counts) / (3 * (tables // 4)):.0f}" for _ in better]
        yield f"| {METHODS_DESIGNS[number].name} | {'/'.join(shares)} | {'/'.join(powers)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=int, default=2000, help="of each cell")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--first", type=int, default=1, help="row to begin with")
    parser.add_argument("--folds", action="store_true", help="the second table only")
    parser.add_argument("--others", action="store_true", help="the third table only: scipy and autorank")
    parser.add_argument("--methods", action="store_true", help="the fourth table only: several methods")
    arguments = parser.parse_args()
    start = time.perf_counter()
    with ProcessPoolExecutor(arguments.processes, mp_context=get_context("spawn")) as pool:
        if arguments.others:
            for row in list_comparison_rows(pool, arguments.tables, arguments.seed):
                print(row, flush=True)
            return
        if arguments.methods:
            for row in list_methods_rows(pool, arguments.tables, arguments.seed, arguments.first):
                print(row, flush=True)
            return
        for row in () if arguments.folds else list_rows(pool, arguments.tables, arguments.seed, arguments.first):
            print(row, flush=True)
        print()
        for row in list_fold_rows(pool, arguments.tables, arguments.seed, arguments.first if arguments.folds else 1):
            print(row, flush=True)
    print(f"\n({time.perf_counter() - start:.0f} s)")


if __name__ == "__main__":
    main()
