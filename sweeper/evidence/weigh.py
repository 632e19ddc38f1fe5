"""From confirmation trainings to evidence: scores on the test split, with paired intervals.

A finalist is a family with one configuration, trained on several seeds. Every number is read from the counts of the
test pictures at the operating point that the run chose on its own validation pictures.

What counts: completed runs. One that raised (state failed) is a missing seed, and two finalists are compared on the
seeds they share. One that diverged is a result of its loss, not a missing seed: it counts with the score of its
counts, or with 0 on every picture where it left none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from sweeper import metrics
from sweeper.evidence.intervals import Counts, Floats, PictureTable, negated, paired_interval, picture_table
from sweeper.evidence.looks import level_at, look_at
from sweeper.evidence.probability import DRAWS, probability_best
from sweeper.recipe import Metric
from sweeper.records import (
    Collapse,
    Comparison,
    Evidence,
    FinalistEvidence,
    ImageCounts,
    Interval,
    Look,
    TrialResult,
)

BASELINE = "cross_entropy"
FEW_GROUPS = 5
"""With fewer groups of test pictures their variance has hardly a degree of freedom: nothing could ever be settled."""


@dataclass(frozen=True)
class _Bench:
    """All runs side by side on the same pictures (or groups, their counts summed); run r is one training."""

    classes: np.ndarray  # (C,) bool: which occur in the test split
    counts: Counts  # (R, n, C, 3) at each run's operating point
    at_default: Counts  # (R, n, C, 3) at 0.5 or τ = 0
    lost: np.ndarray  # (R,) bool: diverged and left no counts; scores 0

    @property
    def pictures(self) -> int:
        return int(self.counts.shape[1])

    def scored(self, summed: Counts, metric: Metric = "miou") -> Floats:
        """(..., R, C, 3) → (..., R)."""
        return np.where(self.lost, 0.0, metrics.objective(summed, self.classes, metric))

    @cached_property
    def summed(self) -> Counts:
        """(R, C, 3) over all pictures."""
        summed: Counts = self.counts.sum(axis=1)
        return summed

    @cached_property
    def per_class(self) -> Floats:
        """(3, R, C) IoU, precision and recall; lost runs and undefined ratios count as 0."""
        true, false, missed = np.moveaxis(self.summed, -1, 0)
        ratios = (metrics.iou(self.summed), metrics.ratio(true, true + false), metrics.ratio(true, true + missed))
        return np.where(self.lost[:, None], 0.0, np.nan_to_num(np.stack(ratios), nan=0.0))

    def class_means(self, rows: Sequence[int]) -> list[tuple[float | None, ...]]:
        """Mean IoU, precision and recall over the runs `rows`; None where a class does not occur in the test split."""
        means = self.per_class[:, list(rows)].mean(axis=1).tolist()
        return [tuple(v if occurs else None for v, occurs in zip(m, self.classes, strict=True)) for m in means]

    @cached_property
    def dice(self) -> Floats:
        """(R,) mean Dice."""
        return self.scored(self.summed, "dice")

    @cached_property
    def miou_at_default(self) -> Floats:
        """(R,) mIoU at 0.5 or τ = 0."""
        return self.scored(self.at_default.sum(axis=1))

    @cached_property
    def miou(self) -> PictureTable:
        return picture_table(self.counts, self.scored)

    @cached_property
    def fg_iou(self) -> PictureTable:
        return picture_table(self.counts, partial(self.scored, metric="fg_iou"))


def weigh(
    confirmations: Sequence[TrialResult],
    search: Mapping[str, TrialResult],
    *,
    classes: Sequence[str],
    baseline: str = BASELINE,
    rope: float = 0.01,
    looks: Sequence[Look] = (),
    groups: Sequence[str | None] | None = None,
    seed: int = 0,
    draws: int = DRAWS,
) -> Evidence:
    """Weigh the confirmation trainings of all finalists.

    Args:
        confirmations: results with purpose `confirm`, in any order; of one family all have the same configuration.
            Where a seed was trained twice, the highest number counts.
        search: family → the search trial its configuration comes from.
        classes: the data set's class names, in order.
        baseline: family that the others are measured against, where it is among them.
        rope: region of practical equivalence, in mIoU, ≥ 0.
        looks: the planned looks, by ascending seeds. A comparison is at level 1 − error of the look at which its
            common seeds were complete: the first with at least as many (beyond the last look: of the last). Without
            looks it is at 0.95. A finalist's own interval, on which nothing is decided, is always at 0.95.
        groups: group of each test picture, in ascending order of the pictures; None (for one or for all) = a group of
            its own. Pictures of one group stand or fall together: their counts are summed, and n counts groups.
        seed: of the draws behind `probability_best`, the only numbers that need any.
        draws: how many; with 0 it stays None.

    Returns:
        Evidence with the finalists by falling mIoU; without finalists where no confirmation completed.

    Raises:
        ValueError: if a result is not a finished confirmation, the runs saw different test pictures, a family has
            two configurations, its search trial is missing, or `groups` does not fit the test pictures.
    """
    finalists = _group(confirmations, search)
    runs = [run for seeds in finalists.values() for run in seeds.values()]
    units = picture_units(runs, groups)
    bench = _bench(runs, len(classes), units)
    place = {id(run): r for r, run in enumerate(runs)}
    # `at[family][seed]` is the row of that training on the bench.
    at = {family: {s: place[id(run)] for s, run in seeds.items()} for family, seeds in finalists.items()}
    binary = len(classes) == 2
    rows = [
        _finalist(list(finalists[family].values()), search[family], list(at[family].values()), bench, binary)
        for family in finalists
    ]
    rows.sort(key=lambda f: (-f.miou.estimate, f.family != baseline, f.family))
    order = [f.family for f in rows]
    if draws:
        odds = probability_best([at[family] for family in order], bench.miou, np.random.default_rng(seed), draws)
        rows = [row.model_copy(update={"probability_best": p}) for row, p in zip(rows, odds, strict=True)]
    return Evidence(
        classes=tuple(classes),
        finalists=tuple(rows),
        comparisons=tuple(_compare([at[family] for family in order], bench, looks)),
        baseline=order.index(baseline) if baseline in order else None,
        rope=rope,
        looks=tuple(looks),
        look=look_at(looks, max((len(f.seeds) for f in rows), default=0)),
        test_pictures=next((r.test.pooled_from or len(r.test.pictures) for r in runs if r.test is not None), 0),
        test_groups=None if units is None or not runs else bench.pictures,
        few_groups=few_groups(groups),
        constant_miou=next(
            (metrics.constant_miou(c) for c, lost in zip(bench.counts, bench.lost, strict=True) if not lost), 0.0
        ),
    )


def _group(
    confirmations: Sequence[TrialResult], search: Mapping[str, TrialResult]
) -> dict[str, dict[int, TrialResult]]:
    """Completed runs by family and seed, both in ascending order."""
    grouped: dict[str, dict[int, TrialResult]] = {}
    for run in sorted(confirmations, key=lambda r: r.spec.number):
        if run.spec.purpose != "confirm" or run.state == "pruned":
            raise ValueError(
                f"evidence is made of finished confirmation trainings, got a {run.state} {run.spec.purpose} training "
                f"(number {run.spec.number}, {run.spec.family}); leave it out"
            )
        if run.state == "complete":
            grouped.setdefault(run.spec.family, {})[run.spec.seed] = run
    for family, seeds in grouped.items():
        configurations = {(tuple(sorted(r.spec.params.items())), r.spec.lr) for r in seeds.values()}
        if len(configurations) > 1:
            raise ValueError(
                f"a finalist is one configuration, got {len(configurations)} of {family}; weigh them separately"
            )
        if family not in search:
            raise ValueError(f"every finalist needs its search trial, got none for {family}; add it to `search`")
    return {family: dict(sorted(grouped[family].items())) for family in sorted(grouped)}


def few_groups(groups: Sequence[str | None] | None) -> int | None:
    """How many groups the test pictures come in, where these are too few to stand for others; else None.

    Pictures without a group stand for themselves.
    """
    if groups is None or all(group is None for group in groups):
        return None
    count = len({group for group in groups if group is not None}) + sum(group is None for group in groups)
    return count if count < FEW_GROUPS else None


def picture_units(runs: Sequence[TrialResult], groups: Sequence[str | None] | None) -> npt.NDArray[np.intp] | None:
    """(n,) the unit that each counted test picture (by ascending index) belongs to; None where each is its own.

    Fewer than FEW_GROUPS groups are no sample of anything: each picture is its own then, and what is concluded holds
    for these very groups (`few_groups`).

    Beyond `metrics.POOL` pictures, counts are stored as sums over cells of pictures (picture i in cell i mod n). Cells
    that share a group are one unit then.
    """
    test = next((run.test for run in runs if run.test is not None), None)
    if groups is None or test is None:
        return None
    cells, pictures = len(test.pictures), test.pooled_from or len(test.pictures)
    if len(groups) != pictures:
        raise ValueError(f"`groups` must name the group of each of the {pictures} test pictures, got {len(groups)}")
    numbers: dict[str, int] = {}
    named = [(i % cells, numbers.setdefault(g, len(numbers))) for i, g in enumerate(groups) if g is not None]
    if not named or few_groups(groups) is not None:
        return None
    cell, number = np.array(named).T
    # Cells and groups as the nodes of one graph, an edge where a picture lies in both; units are what hangs together.
    size = cells + len(numbers)
    graph = coo_array((np.ones(len(cell)), (cell, cells + number)), shape=(size, size))
    labels = connected_components(graph, directed=False)[1][:cells]
    unit: npt.NDArray[np.intp] = np.unique(labels, return_inverse=True)[1]
    return unit if unit.max() + 1 < cells else None


def _bench(runs: Sequence[TrialResult], classes: int, units: npt.NDArray[np.intp] | None) -> _Bench:
    tests = [run.test for run in runs]
    for run in runs:
        if run.test is None and run.collapse is not Collapse.DIVERGED:
            raise ValueError(
                f"a completed confirmation must carry counts of the test pictures, got none from number "
                f"{run.spec.number} ({run.spec.family}, seed {run.spec.seed}); train it again"
            )
    seen = {tuple(sorted(test.pictures)) for test in tests if test is not None}
    if len(seen) > 1:
        raise ValueError(
            f"all confirmations must be scored on the same test pictures, got {len(seen)} different sets; "
            "weigh only runs of one study"
        )
    cells = len(next(iter(seen))) if seen else 0
    units = np.arange(cells) if units is None else units
    n = int(units.max()) + 1 if cells else 0
    counts = np.zeros((len(runs), n, classes, 3), dtype=np.int64)
    at_default = np.zeros_like(counts)
    for r, (run, test) in enumerate(zip(runs, tests, strict=True)):
        if test is not None:
            np.add.at(counts[r], units, _aligned(test, _point(run)))
            np.add.at(at_default[r], units, _aligned(test, _default(test)))
    lost = np.array([test is None for test in tests], dtype=np.bool_)
    present = metrics.present(counts.reshape(-1, classes, 3))
    return _Bench(classes=present, counts=counts, at_default=at_default, lost=lost)


def _aligned(test: ImageCounts, point: float) -> Counts:
    """Class counts at an operating point, pictures in ascending order."""
    return metrics.at_point(test, point)[np.argsort(test.pictures, kind="stable")]


def _default(test: ImageCounts) -> float:
    return metrics.default_point("binary" if test.kind == "histogram" else "multiclass")


def _point(run: TrialResult) -> float:
    """Operating point chosen on the run's validation pictures; the default one where it was never evaluated."""
    if run.evaluations:
        return run.evaluations[-1].point
    return _default(run.test) if run.test is not None else metrics.default_point("binary")


def _finalist(
    runs: Sequence[TrialResult], origin: TrialResult, rows: Sequence[int], bench: _Bench, binary: bool
) -> FinalistEvidence:
    spec = runs[0].spec
    iou, precision, recall = bench.class_means(rows)
    speeds = [run.seconds_per_step for run in runs if run.seconds_per_step is not None]
    gains = [last_quarter_gain(run) for run in runs if run.evaluations]
    return FinalistEvidence(
        family=spec.family,
        params=spec.params,
        lr=spec.lr,
        search_trial=origin.spec.number,
        search_value=origin.value if origin.value is not None else 0.0,
        seeds=tuple(run.spec.seed for run in runs),
        run_ids=tuple(run.run_id for run in runs if run.run_id is not None),
        points=tuple(_point(run) for run in runs),
        miou=paired_interval(bench.miou.rows(list(rows)), (0.0, 1.0)),
        miou_at_default=float(bench.miou_at_default[list(rows)].mean()),
        val_miou=float(np.mean([_val_miou(run) for run in runs])),
        fg_iou=paired_interval(bench.fg_iou.rows(list(rows)), (0.0, 1.0)) if binary else None,
        dice=float(bench.dice[list(rows)].mean()),
        iou=iou,
        precision=precision,
        recall=recall,
        collapses=sum(not run.collapse.learned for run in runs),
        still_rising=float(np.mean(gains)) if gains else 0.0,
        seconds_per_step=float(np.median(speeds)) if speeds else None,
    )


def _val_miou(run: TrialResult) -> float:
    lost = run.collapse is Collapse.DIVERGED or not run.evaluations
    return 0.0 if lost else run.evaluations[-1].chosen.miou


def last_quarter_gain(run: TrialResult) -> float:
    """Validation mIoU gained over the last quarter of the steps that were trained.

    Linear between evaluations; before the first one the curve is taken as flat, so that a training with a single
    evaluation gains 0: nothing was seen to rise.
    """
    steps = [e.step for e in run.evaluations]
    miou = [e.comparable_miou for e in run.evaluations]
    return float(miou[-1] - np.interp(0.75 * steps[-1], steps, miou))


def _compare(finalists: Sequence[Mapping[int, int]], bench: _Bench, looks: Sequence[Look]) -> list[Comparison]:
    """All ordered pairs; `finalists[i]` is seed → row of finalist i."""
    found: dict[tuple[int, int], Interval] = {}
    for i, first in enumerate(finalists):
        for j, second in enumerate(finalists[:i]):
            common = [s for s in first if s in second]
            if common:
                table = bench.miou.rows([second[s] for s in common], [first[s] for s in common])
                difference = paired_interval(table, (-1.0, 1.0), level_at(looks, len(common)))
            else:  # estimated from all runs there are; nothing is paired, so nothing is known of its error
                scores = bench.miou.scores
                gap = float(scores[list(second.values())].mean() - scores[list(first.values())].mean())
                difference = Interval(estimate=gap, low=-1.0, high=1.0, se_seed=1.0, se_image=1.0)
            found[j, i], found[i, j] = difference, negated(difference)
    return [Comparison(first=i, second=j, difference=found[i, j]) for i, j in sorted(found)]
