"""From confirmation trainings to evidence: scores on the test split, with paired intervals.

A finalist is a family with one configuration, trained on several seeds; with folds a seed has one training per fold,
which together score each image once (`replicates`). Every score comes from the counts of the test images at the
operating point that the run chose on its own validation images.

Only completed runs count. A run that raised (state failed) is a missing seed; two finalists are compared on the seeds
they share. A run that diverged is a result of its loss, not a missing seed: it has the score of its counts, or 0 on
every image where it left none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import combinations
from typing import Protocol

import numpy as np
import numpy.typing as npt

from sweeper.core import metrics
from sweeper.core.records import Comparison, Evidence, FinalistEvidence, InterimAnalysis, Interval, Scale, TrialResult
from sweeper.core.tasks import RULES, guess_task
from sweeper.evidence.interim_analyses import DECIDING_SEEDS, compute_level, find_analysis, share_error
from sweeper.evidence.intervals import PRIOR_DEVIATION, Floats, ImageTable, compute_paired_interval, negate_interval
from sweeper.evidence.paired_scores import PairedScores, make_paired_scores
from sweeper.evidence.regret import add_regrets
from sweeper.evidence.replicates import (
    Replicate,
    arrange_rows,
    count_few_groups,
    get_default_point,
    get_own_point,
    group_by_seed,
    list_scored_images,
)
from sweeper.evidence.verdict_predicates import is_win, measure_skill

SCARCE_IMAGES = 5
"""A class in fewer test images (or groups) than this adds next to nothing to the variance over images."""
_SMALL = 1e-3
"""Scale of the seeds' columns: the minimum-norm solution then has the smallest seed effects."""


class Measure(Protocol):
    """Function from the rows of two finalists and a level to the interval of their difference."""

    def __call__(self, first: list[int], second: list[int], level: float, *, strict: bool = False) -> Interval:
        """Measure first − second; `strict` as in `compute_paired_interval`."""


def compute_evidence(
    confirmations: Sequence[TrialResult],
    search: Mapping[str, TrialResult],
    *,
    classes: Sequence[str],
    margin: float = 0.01,
    analyses: Sequence[InterimAnalysis] = (),
    groups: Sequence[str | None] | None = None,
    metric: str = "miou",
    present: str = "cross_entropy",
) -> Evidence:
    """Compute the evidence of the confirmation trainings of all finalists.

    Args:
        confirmations: results with purpose `confirm`, in any order. All of one family have the same configuration, and
            all of one seed of it the same learning rate. Where a seed was trained twice, the highest number counts.
        search: family → the search trial its configuration comes from.
        classes: the data set's class names, in order.
        margin: region of practical equivalence, in the metric, ≥ 0.
        analyses: the planned interim analyses, by ascending seeds. The level of a comparison is 1 − error of the
            analysis at which its common seeds were complete: the first with at least as many, else the last; without
            analyses 0.95. A finalist's own interval, on which no decision depends, is always at 0.95.
        groups: group of each test image, in ascending order of the images; None (for one or for all) = a group of
            its own. The counts of a group are summed (for a mean over images the group scores the mean of its images),
            and n counts groups.
        metric: a key of `METRICS`: what is compared, and by which the runs' operating points were chosen.
        present: family that the others are measured against, where it was confirmed.

    Returns:
        Evidence with the finalists by falling score, estimated from differences on common seeds; without finalists
        where no confirmation completed.

    Raises:
        ValueError: if the runs saw different test images.
    """
    complete = [run for run in confirmations if run.state == "complete"]
    families = sorted({run.spec.family for run in complete})
    finalists = {name: group_by_seed(run for run in complete if run.spec.family == name) for name in families}
    arranged = arrange_rows(finalists.values(), groups)
    replicates, units = arranged.rows, arranged.units
    bench = make_paired_scores(replicates, len(classes), units, metric)
    at = dict(zip(finalists, arranged.at, strict=True))  # `at[family][seed]` is the row of that replicate in `bench`
    tests = max(([run.test for run in r.runs if run.test is not None] for r in replicates), key=len, default=[])
    task, constant = (tests[0].task, metrics.compute_constant_miou(*tests)) if tests else (None, 0.0)
    rows = [
        _make_finalist(seeds, search[name], at, bench, present=at.get(present, {}), constant=constant)
        for name, seeds in finalists.items()
    ]
    levels = dict(zip(at, fit_levels(list(at.values()), bench.metric_scores.scores), strict=True))
    rows.sort(key=lambda f: (-levels[f.family], f.family != present, f.family))
    order = [f.family for f in rows]
    baseline = order.index(present) if present in order else None
    few_groups = count_few_groups(groups)

    def compare(table: ImageTable) -> tuple[Comparison, ...]:
        places, bound = [at[f] for f in order], 1.0 - get_metric_floor(bench)
        table = replace(table, prior=PRIOR_DEVIATION if few_groups else 0.0)
        return tuple(compare_pairs(places, table, analyses, margin, bound, baseline=baseline, found=bench.found))

    counted = [run for r in replicates for run in r.runs_with_counts]
    is_tuned = any(get_own_point(run) != get_default_point(run) for run in counted)
    at_plain = compare(bench.score_at_default) if is_tuned else ()
    has_groups = units is not None and bool(replicates)
    folds = next((len(r.runs) for r in replicates if r.runs[0].spec.fold is not None), None)
    evidence = Evidence(
        classes=tuple(classes),
        task=task,
        finalists=tuple(rows),
        comparisons=compare(bench.metric_scores),
        at_plain=at_plain,
        baseline=baseline,
        margin=margin,
        scale=Scale(score=metrics.METRICS[metric].title),
        analyses=tuple(analyses),
        analysis_index=find_analysis(analyses, max((len(f.seeds) for f in rows), default=0)),
        test_images=len(list_scored_images(replicates)),
        test_groups=bench.images if has_groups else None,
        few_groups=few_groups,
        scarce=_list_scarce_classes(bench, classes),
        folds=folds,
        constant_miou=constant,
    )
    return add_regrets(evidence)


def _list_scarce_classes(bench: PairedScores, classes: Sequence[str]) -> tuple[str, ...]:
    for counts, lost in zip(bench.counts, bench.lost, strict=True):
        if not lost:  # the labels are the same for all
            images = ((counts[..., 0] + counts[..., 2]) > 0).sum(axis=0)
            return tuple(name for name, n in zip(classes, images, strict=True) if 0 < n < SCARCE_IMAGES)
    return ()


def _make_finalist(
    seeds: Mapping[int, Replicate],
    origin: TrialResult,
    at: Mapping[str, Mapping[int, int]],
    bench: PairedScores,
    *,
    present: Mapping[int, int],
    constant: float,
) -> FinalistEvidence:
    runs = [run for replicate in seeds.values() for run in replicate.runs]
    spec, rates = runs[0].spec, {run.spec.lr for run in runs}
    lr = float(np.exp(np.median([np.log(run.spec.lr) for run in runs]))) if len(rates) > 1 else spec.lr
    rows = list(at[spec.family].values())
    iou, precision, recall = bench.compute_class_means(rows)
    gains = [compute_last_quarter_gain(run) for run in runs if run.evaluations]
    tested = [run.test.task for run in runs if run.test is not None]
    rules = RULES[tested[0] if tested else guess_task(len(iou))]
    fg_iou: Interval | None = None
    if rules.first_channel > 0:
        fg_iou = compute_paired_interval(bench.fg_iou.select_rows(rows), (0.0, 1.0))
    run_ids = tuple(run.run_id for run in runs if run.run_id is not None)
    found = (origin.spec.number, origin.value) if origin.spec.purpose != "probe" else (None, None)
    miou = compute_paired_interval(bench.miou.select_rows(rows), (0.0, 1.0))
    summed, is_exclusive = bench.counts[rows].sum(axis=1), not rules.has_planes
    return FinalistEvidence(
        family=spec.family,
        params=spec.params,
        lr=lr,
        seed_lrs=tuple(replicate.runs[0].spec.lr for replicate in seeds.values()),
        search_trial=found[0],
        search_value=found[1],
        seeds=tuple(seeds),
        run_ids=run_ids,
        points=tuple(get_own_point(run) for run in runs),
        **measure_skill(summed, miou.estimate, constant, is_exclusive=is_exclusive)._asdict(),
        miou=miou,
        score=compute_paired_interval(bench.metric_scores.select_rows(rows), (get_metric_floor(bench), 1.0)),
        score_at_default=float(bench.score_at_default.scores[rows].mean()),
        fg_iou=fg_iou,
        dice=float(bench.dice[rows].mean()),
        iou=iou,
        precision=precision,
        recall=recall,
        collapses=sum(run.has_collapsed for run in runs),
        still_rising=float(np.mean(gains)) if gains else 0.0,
        vs_plain=_compute_default_gain(bench, at[spec.family], present),
    )


def _compute_default_gain(
    bench: PairedScores, finalist_rows: Mapping[int, int], plain: Mapping[int, int]
) -> Interval | None:
    """Compute the gain of a finalist (seed → row) over the present loss at 0.5 or τ = 0."""
    seeds = [seed for seed in finalist_rows if seed in plain]
    if not seeds:
        return None
    first = bench.metric_scores.select_rows([finalist_rows[s] for s in seeds])
    second = bench.score_at_default.select_rows([plain[s] for s in seeds])
    most = 1.0 - get_metric_floor(bench)
    return compute_paired_interval(first.subtract(second), (-most, most))


def get_metric_floor(bench: PairedScores) -> float:
    """Return the lowest value of the verdict's metric; a user's own metric may be below 0."""
    return -1.0 if bench.least < 0 else 0.0


def compute_last_quarter_gain(run: TrialResult) -> float:
    """Compute the gain of the objective on validation over the last quarter of the trained steps.

    The curve is linear between evaluations and taken as flat before the first, so that a training with a single
    evaluation has no gain.
    """
    steps = [e.step for e in run.evaluations]
    values = [e.part_value for e in run.evaluations]
    return float(values[-1] - np.interp(0.75 * steps[-1], steps, values))


def fit_levels(finalists: Sequence[Mapping[int, int]], scores: Floats) -> list[float]:
    """Estimate each finalist's score (seed → row) as if it had all seeds: score = finalist + seed, by least squares.

    With the same seeds for all finalists these are their means. The mean of a finalist with fewer would say more about
    its seeds than about itself, as seeds are lucky or unlucky for all losses alike. Of several solutions (finalists
    without a common seed) it is the one with the smallest seed effects. Rounded, so that equal ones stay equal.
    """
    seeds = sorted({seed for finalist in finalists for seed in finalist})
    cells = [(f, seeds.index(seed), row) for f, finalist in enumerate(finalists) for seed, row in finalist.items()]
    design = np.zeros((len(cells), len(finalists) + len(seeds)))
    for place, (f, seed, _) in enumerate(cells):
        design[place, f] = 1.0
        design[place, len(finalists) + seed] = _SMALL
    values = np.array([scores[row] for _, _, row in cells])
    middle = values.mean() if len(values) else 0.0
    solution = np.linalg.lstsq(design, values - middle, rcond=None)[0]
    return [round(float(level), 9) for level in solution[: len(finalists)]]


def compare_pairs(
    finalists: Sequence[Mapping[int, int]],
    table: ImageTable,
    analyses: Sequence[InterimAnalysis],
    margin: float,
    bound: float = 1.0,
    *,
    baseline: int | None = None,
    found: npt.NDArray[np.bool_] | None = None,
    measure: Measure | None = None,
    paired: bool = True,
    least: int = DECIDING_SEEDS,
) -> list[Comparison]:
    """Compare all ordered pairs; `finalists[i]` is seed → row of finalist i in `table`, `bound` the largest difference.

    One win over the `baseline` suffices to change from it. So its rivals share the error: beyond two, each has to win
    at a level at which all of them together keep it (Bonferroni, one-sided). Without a baseline all ordered pairs share
    it; a finalist whose intervals lead all others wins without sharing, as each of these leads has to be shown.

    The interim analyses are evaluated in order. A pair that shares no more seeds than before keeps its earlier
    interval, and a beaten finalist stays beaten. As the intervals of all interim analyses hold together, so do their
    innermost ends. Fewer than `least` seeds establish nothing, nor do as few where the two did not find the same
    classes (`found`: (R, C) whether row r finds class c): if chance decides which training learns a class, three of one
    and none of another do in 1 of 64 cases, which is more than the error that is spent there.

    `measure` gives the interval of a difference (None = pair by pair, over seeds and images). With `paired` seeds only
    those count that both have.
    """
    order, pairs = sorted({seed for seeds in finalists for seed in seeds}), [*combinations(range(len(finalists)), 2)]
    measure, rivals = measure or partial(measure_pairs, table=table, bound=bound), len(finalists) - 1
    share = share_error(rivals if baseline is not None else rivals * len(finalists))
    intervals: dict[tuple[int, int], Interval] = {}
    ends: dict[tuple[int, int], float] = {}
    """Upper end of each ordered pair; its lower end is that of the reversed pair."""
    one_sided: dict[tuple[int, int], float] = {}
    leads, won = set[tuple[int, int]](), set[tuple[int, int]]()
    """Ordered pairs whose interval is a win, and those that win where the error is shared."""
    compared: dict[tuple[int, int], int] = {}
    for until in [*(analysis.seeds for analysis in analyses[:-1] if analysis.seeds < len(order)), len(order)]:
        within = set(order[:until])
        parts = [{seed: row for seed, row in seeds.items() if seed in within} for seeds in finalists]
        for pair in pairs:
            rows = _select_rows(*(parts[i] for i in pair), paired=paired)
            seeds = min(map(len, rows))
            if seeds <= compared.get(pair, 0):
                continue
            compared[pair], level = seeds, compute_level(analyses, seeds)
            intervals |= _turn_both_ways(pair, measure(*rows, level))
            if seeds < least + _may_be_luck(found, *rows, paired=paired):
                continue
            once = _turn_both_ways(pair, measure(*rows, 2 * level - 1))
            shared = _turn_both_ways(pair, measure(*rows, 1 - (1 - level) * share, strict=share < 1))
            for way in once:
                ends[way] = min(ends.get(way, bound), intervals[way].high)
                one_sided[way] = min(one_sided.get(way, bound), once[way].high)
                if is_win(intervals[way], margin):
                    leads.add(way)
                    if shared[way].low > 0 or baseline not in (None, way[1]):
                        won.add(way)
    if baseline is None:
        beaten = Counter(first for first, _ in leads)
        won |= {way for way in leads if beaten[way[0]] == rivals}
    for pair in pairs:
        if pair not in intervals:  # the mean of all their runs; as nothing is paired, its error is unknown
            one, other = (float(table.scores[list(finalists[i].values())].mean()) for i in pair)
            gap = Interval(estimate=one - other, low=-bound, high=bound, se_seed=bound, se_image=bound)
            intervals |= _turn_both_ways(pair, gap)
    return [
        Comparison(
            first=i,
            second=j,
            difference=gap,
            at_least=0.0 - ends.get((j, i), bound),
            at_most=ends.get((i, j), bound),
            at_most_one_sided=one_sided.get((i, j), bound),
            won=(i, j) in won,
        )
        for (i, j), gap in sorted(intervals.items(), key=lambda item: item[0])
    ]


def measure_pairs(
    first: list[int], second: list[int], level: float, *, strict: bool = False, table: ImageTable, bound: float
) -> Interval:
    """Return the interval of the mean difference of pairs of rows, over seeds and images."""
    return compute_paired_interval(table.select_rows(first, second), (-bound, bound), level, strict=strict)


def _turn_both_ways(pair: tuple[int, int], gap: Interval) -> dict[tuple[int, int], Interval]:
    return {pair: gap, pair[::-1]: negate_interval(gap)}


def _select_rows(first: Mapping[int, int], second: Mapping[int, int], *, paired: bool) -> tuple[list[int], list[int]]:
    """Return the rows of two finalists (seed → row); paired, of the seeds that both have, in one order."""
    if not paired:
        return [*first.values()], [*second.values()]
    common = [seed for seed in second if seed in first]
    return [first[seed] for seed in common], [second[seed] for seed in common]


def _may_be_luck(found: npt.NDArray[np.bool_] | None, first: list[int], second: list[int], *, paired: bool) -> bool:
    """Return whether the two did not find the same classes: in a pair of runs, unpaired in any two."""
    if found is None:
        return False
    one = found[first] if paired else found[first][:, None]
    return bool((one != found[second]).any())
