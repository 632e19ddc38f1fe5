"""From a table of scores to evidence: paired and nested differences with their intervals, and the regret.

The conclusion depends on the data. Runs and images: methods, for other trainings and images like these. Only runs:
methods, for other trainings scored on the same images. Images, but fewer than three runs of some method: nothing about
methods; the conclusion about these networks on other images is computed separately.
"""

from __future__ import annotations

import math
from dataclasses import replace

from sweeper.core.records import Contender, Contest, InterimAnalysis, Interval, Scope
from sweeper.evidence.interim_analyses import DECIDING_SEEDS
from sweeper.evidence.intervals import (
    PRIOR_DEVIATION,
    ImageTable,
    compute_interval_within,
    compute_nested_interval,
    compute_paired_interval,
)
from sweeper.evidence.paired_comparisons import Measure, compare_pairs, fit_levels
from sweeper.evidence.regret import add_regrets
from sweeper.evidence.replicates import find_few_groups
from sweeper.judging.request import ScoreRequest
from sweeper.judging.score_table import ScoreTable


class MethodEvidence(Contender):
    """One method: `family` is its name, `seeds` numbers its runs."""

    runs: tuple[str, ...]
    """Names of the runs."""
    score: Interval
    """Mean over its runs; higher is better. Infinite ends if its error is unknown."""


class MethodContest(Contest):
    """Methods whose runs were trained elsewhere."""

    finalists: tuple[MethodEvidence, ...]


def compute_table_evidence(table: ScoreTable, request: ScoreRequest, scope: Scope) -> MethodContest:
    """Compare all pairs of methods, best first.

    `scope` is what the intervals generalise to; with `images` they are only about these networks.
    """
    seeds, is_paired = _number_seeds(table, request), request.paired_seeds and scope != "images"
    places = [dict(zip(numbers, rows, strict=True)) for numbers, rows in zip(seeds, table.rows, strict=True)]
    levels = (
        fit_levels(places, table.scores.scores)
        if is_paired
        else [float(table.scores.scores[list(rows)].mean()) for rows in table.rows]
    )
    order = sorted(range(len(table.methods)), key=lambda m: (-levels[m], table.methods[m] != request.present, m))
    baseline = next((place for place, m in enumerate(order) if table.methods[m] == request.present), None)
    analyses = table.analyses or (InterimAnalysis(seeds=max(map(len, seeds)), error=1 - request.level),)
    few_groups = find_few_groups(table.groups)
    prior = PRIOR_DEVIATION / 0.01 * table.scale.hundredth if few_groups else 0.0
    compared = replace(table.scores, prior=prior)
    comparisons = compare_pairs(
        [places[m] for m in order],
        compared,
        analyses,
        table.margin,
        table.bound,
        baseline=baseline,
        found=table.learning.found,
        measure=_choose_measure(compared, table, scope, paired=is_paired),
        paired=is_paired,
        least=DECIDING_SEEDS * (scope != "images"),
    )
    return add_regrets(
        MethodContest(
            finalists=tuple(
                MethodEvidence(
                    family=table.methods[m],
                    seeds=seeds[m],
                    runs=table.runs[m],
                    score=_make_own_interval(table, table.rows[m], scope, request.level),
                    **table.learning.skills[m]._asdict(),
                )
                for m in order
            ),
            comparisons=tuple(comparisons),
            baseline=baseline,
            margin=table.margin,
            level=request.level,
            constant_miou=table.learning.constant_miou,
            scale=table.scale,
            scope=scope,
            paired=request.paired_seeds,
            test_images=table.images,
            test_groups=table.groups,
            few_groups=few_groups,
            analyses=analyses,
        )
    )


def _number_seeds(table: ScoreTable, request: ScoreRequest) -> list[tuple[int, ...]]:
    """Assign numbers to seeds: paired, by name over all methods; else to the runs of each method."""
    if not request.paired_seeds:
        return [tuple(range(len(runs))) for runs in table.runs]
    names = list(dict.fromkeys(name for runs in table.runs for name in runs))
    number = {name: place for place, name in enumerate(names)}
    return [tuple(number[name] for name in runs) for runs in table.runs]


def _make_own_interval(table: ScoreTable, rows: tuple[int, ...], scope: Scope, level: float) -> Interval:
    scores = table.scores.select_rows(list(rows))
    if scope != "both":
        return _widen_interval(compute_interval_within(scores, scope, level), table)
    low = 0.0 if math.isfinite(table.bound) else -math.inf
    if len(rows) > 1:
        return compute_paired_interval(scores, (low, table.bound), level)
    unknown = {"low": -math.inf, "high": math.inf, "se_seed": math.inf, "se_image": math.inf}
    return Interval(estimate=float(scores.scores[0]), **unknown)


def _widen_interval(interval: Interval, table: ScoreTable) -> Interval:
    """Widen an interval over runs whose training images overlap."""
    if (by := table.widening) == 1:
        return interval
    half = by * (interval.high - interval.estimate)
    ends = {"low": interval.estimate - half, "high": interval.estimate + half}
    return interval.model_copy(update={**ends, "se_seed": by * interval.se_seed})


def _choose_measure(scores: ImageTable, table: ScoreTable, scope: Scope, *, paired: bool) -> Measure | None:
    """Return how two methods are compared: by all their runs, or pair by pair; None = pairs over seeds and images."""

    def measure_all(first: list[int], second: list[int], level: float, *, strict: bool = False) -> Interval:
        one, other = scores.select_rows(first), scores.select_rows(second)
        return compute_nested_interval(one, other, scope, level, table.bound, strict=strict)

    def measure_trainings(first: list[int], second: list[int], level: float, *, strict: bool = False) -> Interval:
        return _widen_interval(compute_interval_within(scores.select_rows(first, second), scope, level), table)

    if not paired:
        return measure_all
    return None if scope == "both" else measure_trainings
