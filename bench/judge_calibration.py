"""How often `sweeper judge` names a winner where there is none: tables of equal methods, judged by the product's code.

    python bench/judge_calibration.py [--tables 2000] [--seed 0] [--processes 2] [--first 1] [--folds | --others]

A row of the table is a kind of input, a column a kind of noise, a cell so many simulated tables of two methods of
equal true score (the hardest case: of several, a winner must beat every other). The margin is as good as 0, so that
nothing but the intervals keeps a winner from being named. With one run each the claim is about the networks, and runs
do not vary in that simulation. Where one source of noise is alone, the interval is Student's, and the rate 5 % but
for chance. Limit: the upper end of the 95 % interval (Clopper–Pearson) of a row's whole rate at most 6 %.

A second table has real cross-validations: ridge regressions on two disjoint sets of equally good features, trained and
tested on the folds of simulated images; `by fold` has one score for each fold, `by image` one for each image. A single
rotation by image claims nothing of methods, and is not there.

A third table (`--others`) has tables of equal methods, and tables of which the second method is better, and next to the
judgement what the tests of scipy and autorank (if installed) call on the same tables: paired by image, of each image
the mean over its runs, or by fold, as they are commonly used.

The same arguments print the same table, whatever the number of processes; each row is printed when it is done, and
`--first 4` continues with the fourth (with `--folds` of the second table). `--folds` prints the second table only,
`--others` the third. Takes some 20 minutes of one core.
"""

from __future__ import annotations

import argparse
import io
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

from bench.verdict_calibration import LIMIT, upper_limit
from sweeper.core.records import Verdict
from sweeper.judging.judgement import judge_scores
from sweeper.judging.rows import ScoreRequest, ScoreRows

Floats = npt.NDArray[np.float64]
BATCH = 250
"""Tables drawn from one stream: what a process gets at a time."""


@dataclass(frozen=True)
class Noise:
    """Standard deviations of a score's parts, in the unit of the score."""

    name: str
    seed: float
    """A training of a method, on all images alike."""
    liking: float
    """An image, or group of images, suits a method."""
    own: float
    """What a training does to an image."""
    worse: float = 1.0
    """The second method's `seed` and `own`, as a multiple of the first's."""
    distance: bool = False
    """Whether scores are distances, e to the power of normal numbers, of which lower is better."""


@dataclass(frozen=True)
class Kind:
    """What a table holds."""

    runs: tuple[int, int]
    paired: bool = False
    groups: int | None = None
    images: int = 60

    @property
    def name(self) -> str:
        one, other = self.runs
        if one == other == 1:
            seeds = "one run each"
        else:
            seeds = f"{one if one == other else f'{one} and {other}'} seeds, {'paired' if self.paired else 'unpaired'}"
        if not self.images:
            return f"{seeds}, no images"
        return f"{seeds}, {self.images} images" + (f" in {self.groups} groups" if self.groups else "")


NOISES = (
    Noise("of seeds", seed=0.02, liking=0.01, own=0.02),
    Noise("of images", seed=0.001, liking=0.05, own=0.03),
    Noise("unequal", seed=0.004, liking=0.02, own=0.02, worse=5.0),
    Noise("distances", seed=0.1, liking=0.5, own=0.5, distance=True),
)
KINDS = (
    *(Kind((s, s), paired, groups) for paired in (False, True) for s in (3, 5) for groups in (None, 15)),
    Kind((3, 10)),
    Kind((3, 3), images=0),
    Kind((5, 5), paired=True, images=0),
    Kind((1, 1)),
    Kind((1, 1), groups=15),
    Kind((3, 3), groups=6),
    Kind((3, 3), paired=True, groups=6),
)


def drawn(kind: Kind, noise: Noise, rng: np.random.Generator) -> dict[str, list[Any]]:
    """Return the columns of a table of two methods that are equally good."""
    runs, n = max(kind.runs), kind.images or 60
    worse = np.array([1.0, noise.worse])[:, None, None]
    level = rng.standard_normal(n)
    # Where images are not distinguished, the methods must be equal on these very ones.
    liking = noise.liking * rng.standard_normal((2, 1, n)) if kind.images else np.zeros((2, 1, n))
    if kind.groups:
        of = np.arange(n) * kind.groups // n
        level = level + rng.standard_normal(kind.groups)[of]
        liking = liking + noise.liking * rng.standard_normal((2, 1, kind.groups))[..., of]
    shift = worse * noise.seed * rng.standard_normal((2, runs, 1)) if runs > 1 else 0.0
    if kind.paired:
        shift = shift + 2 * noise.seed * rng.standard_normal((runs, 1))  # what a seed does to both alike
    score: Floats = liking + shift + worse * noise.own * rng.standard_normal((2, runs, n))
    # The mean of a log-normal number depends on its variance, which is the same for both methods.
    score = np.exp(score + 0.5 * level) if noise.distance else 0.7 + 0.08 * level + score
    if not kind.images:
        score = score.mean(axis=2, keepdims=True)
    method, run, image = (index.ravel() for index in np.indices(score.shape))
    there = run < np.array(kind.runs)[method]
    columns: dict[str, list[Any]] = {
        "method": ["ab"[m] for m in method[there].tolist()],
        "seed": run[there].tolist(),
        "score": score.ravel()[there].tolist(),
    }
    columns |= {"image": image[there].tolist()} if kind.images else {}
    columns |= {"group": (image[there] * kind.groups // n).tolist()} if kind.groups else {}
    return columns


@dataclass(frozen=True)
class Folds:
    """A design of cross-validation."""

    rotations: int
    folds: int
    images: int
    by_image: bool = False

    @property
    def name(self) -> str:
        rotations = "1 rotation" if self.rotations == 1 else f"{self.rotations} rotations"
        how = "by image" if self.by_image else "by fold"
        return f"{rotations} of {self.folds} folds, {self.images} images, {how}"


FOLDS = (
    *(Folds(rotations, folds, images) for rotations, folds in ((1, 5), (1, 10), (3, 5)) for images in (60, 200)),
    *(Folds(rotations, 5, images, by_image=True) for rotations in (3, 5) for images in (60, 200)),
)


def cross_validated(design: Folds, rng: np.random.Generator) -> dict[str, list[Any]]:
    """Return the columns of a table of two equally good regressions, cross-validated on the same divisions."""
    n, width = design.images, 6
    features = rng.standard_normal((n, 2 * width))
    target = features.sum(axis=1) + 3 * rng.standard_normal(n)
    columns: dict[str, list[Any]] = {key: [] for key in ("method", "seed", "fold", "image", "score")}
    for seed in range(design.rotations):
        fold_of = rng.permutation(n) % design.folds
        for fold in range(design.folds):
            train, test = np.flatnonzero(fold_of != fold), np.flatnonzero(fold_of == fold)
            for method, own in (("a", features[:, :width]), ("b", features[:, width:])):
                weights = np.linalg.solve(own[train].T @ own[train] + np.eye(width), own[train].T @ target[train])
                errors = (own[test] @ weights - target[test]) ** 2
                rows = zip(test.tolist(), errors.tolist(), strict=True) if design.by_image else [(0, errors.mean())]
                for image, error in rows:
                    for key, value in zip(columns, (method, seed, fold, image, float(error)), strict=True):
                        columns[key].append(value)
    if not design.by_image:
        del columns["image"]
    return columns


def winners_of_folds(task: tuple[Folds, int, tuple[int, ...]]) -> int:
    """Return how many of so many tables of a design have a winner."""
    design, tables, stream = task
    rng, found = np.random.default_rng(stream), 0
    for _ in range(tables):
        judgement = judge_scores(
            ScoreRows(cross_validated(design, rng), "a simulation"), ScoreRequest(margin=1e-9, lower_is_better=True)
        )
        decision = judgement.decision if judgement.networks is None else judgement.networks[1]
        found += decision.verdict is Verdict.CLEAR_WINNER
    return found


def folds_table(pool: ProcessPoolExecutor, tables: int, seed: int, first: int) -> Iterator[str]:
    """Yield the rows of the second table, as they are done."""
    yield "| cross-validation | winners | upper limit |"
    yield "| --- | --: | --: |"
    sizes = [min(BATCH, tables - start) for start in range(0, tables, BATCH)]
    tasks = [
        (design, size, (seed, 1000 + number, b))
        for number, design in enumerate(FOLDS)
        if number >= first - 1
        for b, size in enumerate(sizes)
    ]
    counts = pool.map(winners_of_folds, tasks)
    for design in FOLDS[first - 1 :]:
        false = sum(next(counts) for _ in sizes)
        limit = upper_limit(false, tables)
        yield f"| {design.name} | {100 * false / tables:.2f} % | {100 * limit:.2f} % |"


MIXED = Noise("mixed", seed=0.01, liking=0.03, own=0.02)
COMPARED: tuple[tuple[Kind | Folds, float], ...] = (
    (Kind((3, 3)), 0.03),
    (Kind((3, 3), paired=True), 0.02),
    (Kind((3, 3), paired=True, groups=6), 0.05),
    (Kind((5, 5), paired=True, images=0), 0.02),
    (Folds(1, 5, 200), 3.0),
    (Folds(3, 5, 200), 3.0),
    (Folds(3, 5, 200, by_image=True), 3.0),
)
"""Design → true difference of the tables that have one."""
TESTS = ("judge", "scipy's t", "scipy's Wilcoxon", "autorank")


def draw_with_gap(design: Kind | Folds, gap: float, rng: np.random.Generator) -> dict[str, list[Any]]:
    """Return the columns of a table of which method b is better by `gap`."""
    columns = drawn(design, MIXED, rng) if isinstance(design, Kind) else cross_validated(design, rng)
    sign = 1 if isinstance(design, Kind) else -1
    columns["score"] = [
        score + sign * gap * (method == "b") for method, score in zip(columns["method"], columns["score"], strict=True)
    ]
    return columns


def count_called(task: tuple[Kind | Folds, float, int, tuple[int, ...]]) -> list[int]:
    """Return how many of so many tables each of `TESTS` calls: any winner of equal methods, else the right one."""
    design, gap, tables, stream = task
    rng, counts = np.random.default_rng(stream), [0] * len(TESTS)
    request = ScoreRequest(
        margin=1e-9,
        paired_seeds=isinstance(design, Kind) and design.paired,
        lower_is_better=isinstance(design, Folds),
    )
    for _ in range(tables):
        columns = draw_with_gap(design, gap, rng)
        judgement = judge_scores(ScoreRows(columns, "a simulation"), request)
        is_right = judgement.verdict is Verdict.CLEAR_WINNER and (not gap or judgement.named == "b")
        for place, called in enumerate((is_right, *call_others(columns, gap, request.lower_is_better))):
            counts[place] += called
    return counts


def call_others(columns: dict[str, list[Any]], gap: float, lower_is_better: bool) -> Iterator[bool]:
    """Yield what scipy and autorank call of the table, paired by image, else by fold and seed."""
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


def others_table(pool: ProcessPoolExecutor, tables: int, seed: int) -> Iterator[str]:
    """Yield the rows of the third table, as they are done."""
    yield f"| design | {' | '.join(f'{name}, equal' for name in TESTS)} | {' | '.join(f'{n}, better' for n in TESTS)} |"
    yield f"| --- |{' --: |' * (2 * len(TESTS))}"
    sizes = [min(BATCH, tables - start) for start in range(0, tables, BATCH)]
    counts = pool.map(
        count_called,
        [
            (design, true, size, (seed, 2000 + number, bool(true), b))
            for number, (design, gap) in enumerate(COMPARED)
            for true in (0.0, gap)
            for b, size in enumerate(sizes)
        ],
    )
    for design, gap in COMPARED:
        called = [np.sum([next(counts) for _ in sizes], axis=0) for _ in range(2)]
        cells = [f"{100 * count / tables:.1f} %" for one in called for count in one.tolist()]
        yield f"| {design.name}, {gap:g} better | {' | '.join(cells)} |"


@dataclass(frozen=True)
class Task:
    """Tables of one kind."""

    kind: Kind
    noise: Noise
    tables: int
    stream: tuple[int, ...]


def winners(task: Task) -> int:
    """Count the tables with a winner; with one run each, those that call one network the better one."""
    rng = np.random.default_rng(task.stream)
    asked = ScoreRequest(margin=1e-9, paired_seeds=task.kind.paired, lower_is_better=task.noise.distance)
    found = 0
    for _ in range(task.tables):
        judgement = judge_scores(ScoreRows(drawn(task.kind, task.noise, rng), "a simulation"), asked)
        decision = judgement.decision if judgement.networks is None else judgement.networks[1]
        found += decision.verdict is Verdict.CLEAR_WINNER
        assert judgement.networks is None or judgement.verdict is not Verdict.CLEAR_WINNER
    return found


def table(pool: ProcessPoolExecutor, tables: int, seed: int, first: int) -> Iterator[str]:
    """Yield the rows, from the `first` on, as they are done."""
    yield f"| noise | {' | '.join(noise.name for noise in NOISES)} | all | upper limit |"
    yield f"| --- |{' --: |' * (len(NOISES) + 2)}"
    sizes = [min(BATCH, tables - start) for start in range(0, tables, BATCH)]
    streams = [(k, n) for k in range(first - 1, len(KINDS)) for n in range(len(NOISES))]
    counts = pool.map(
        winners,
        [Task(KINDS[k], NOISES[n], size, (seed, k, n, b)) for k, n in streams for b, size in enumerate(sizes)],
    )
    for kind in KINDS[first - 1 :]:
        false = [sum(next(counts) for _ in sizes) for _ in NOISES]
        of = tables * len(NOISES)
        limit = upper_limit(sum(false), of)
        cells = [f"{100 * each / tables:.1f} %" for each in false]
        cells += [f"{100 * sum(false) / of:.2f} %", f"{100 * limit:.2f} %{' **too many**' if limit > LIMIT else ''}"]
        yield f"| {kind.name} | {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=int, default=2000, help="of each cell")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--first", type=int, default=1, help="row to begin with")
    parser.add_argument("--folds", action="store_true", help="the second table only")
    parser.add_argument("--others", action="store_true", help="the third table only: scipy and autorank")
    asked = parser.parse_args()
    start = time.perf_counter()
    with ProcessPoolExecutor(asked.processes, mp_context=get_context("spawn")) as pool:
        if asked.others:
            for row in others_table(pool, asked.tables, asked.seed):
                print(row, flush=True)
            return
        for row in () if asked.folds else table(pool, asked.tables, asked.seed, asked.first):
            print(row, flush=True)
        print()
        for row in folds_table(pool, asked.tables, asked.seed, asked.first if asked.folds else 1):
            print(row, flush=True)
    print(f"\n({time.perf_counter() - start:.0f} s)")


if __name__ == "__main__":
    main()
