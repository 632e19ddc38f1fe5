"""From a table of scores to evidence: paired and nested differences with their intervals, and the regret.

The conclusion depends on the data. Runs and images: methods, for other trainings and images like these. Only runs:
methods, for other trainings scored on the same images. Images, but fewer than three runs of some method: nothing about
methods; the conclusion about these networks on other images is computed separately.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from sweeper.core.records import Comparison, Contender, Contest, InterimAnalysis, Interval, Scope
from sweeper.evidence.interim_analyses import find_analysis
from sweeper.evidence.intervals import (
    PRIOR_DEVIATION,
    ImageTable,
    compute_interval_within,
    compute_nested_interval,
    compute_paired_interval,
    negate_interval,
)
from sweeper.evidence.paired_comparisons import compare_pairs, fit_levels
from sweeper.evidence.regret import add_regrets
from sweeper.evidence.replicates import FEW_GROUPS
from sweeper.evidence.verdict_predicates import is_win
from sweeper.judging.rows import ScoreRequest
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


def compute_table_evidence(
    table: ScoreTable, request: ScoreRequest, scope: Scope, analyses: Sequence[InterimAnalysis] = ()
) -> MethodContest:
    """Compare all pairs of methods, best first.

    `scope` is what the intervals generalise to; with `images` they are only about these networks. Without planned
    `analyses` there is a single one, at the requested level.
    """
    seeds = _number_seeds(table, request)
    places = [dict(zip(numbers, rows, strict=True)) for numbers, rows in zip(seeds, table.rows, strict=True)]
    levels = (
        fit_levels(places, table.scores.scores)
        if request.paired_seeds and scope != "images"
        else [float(table.scores.scores[list(rows)].mean()) for rows in table.rows]
    )
    first = None if request.present is None else table.methods.index(request.present)
    order = sorted(range(len(table.methods)), key=lambda m: (-levels[m], m != first, m))
    most = max(map(len, seeds))
    analyses = tuple(analyses) or (InterimAnalysis(seeds=most, error=1 - request.level),)
    at = [places[m] for m in order]
    few_groups = table.groups if table.groups is not None and table.groups < FEW_GROUPS else None
    prior = PRIOR_DEVIATION / 0.01 * table.scale.hundredth if few_groups else 0.0
    compared = replace(table, scores=replace(table.scores, prior=prior))
    if request.paired_seeds and scope == "both":
        comparisons = compare_pairs(at, compared.scores, analyses, table.margin, table.bound)
    else:
        comparisons = _compare_at_analyses(at, compared, request, scope, analyses[: find_analysis(analyses, most) + 1])
    return add_regrets(
        MethodContest(
            finalists=tuple(
                MethodEvidence(
                    family=table.methods[m],
                    seeds=seeds[m],
                    runs=table.runs[m],
                    score=_make_own_interval(table, table.rows[m], scope),
                )
                for m in order
            ),
            comparisons=tuple(comparisons),
            baseline=None if first is None else order.index(first),
            margin=table.margin,
            scale=table.scale,
            scope=scope,
            paired=request.paired_seeds,
            test_images=table.images,
            test_groups=table.groups,
            few_groups=few_groups,
            analyses=analyses,
            analysis_index=find_analysis(analyses, most),
        )
    )


def _number_seeds(table: ScoreTable, request: ScoreRequest) -> list[tuple[int, ...]]:
    """Assign numbers to seeds: paired, by name over all methods; else to the runs of each method."""
    if not request.paired_seeds:
        return [tuple(range(len(runs))) for runs in table.runs]
    names = list(dict.fromkeys(name for runs in table.runs for name in runs))
    number = {name: place for place, name in enumerate(names)}
    return [tuple(number[name] for name in runs) for runs in table.runs]


def _make_own_interval(table: ScoreTable, rows: tuple[int, ...], scope: Scope) -> Interval:
    scores = table.scores.select_rows(list(rows))
    if scope != "both":
        return _widen_interval(compute_interval_within(scores, scope), table)
    low = 0.0 if math.isfinite(table.bound) else -math.inf
    if len(rows) > 1:
        return compute_paired_interval(scores, (low, table.bound))
    unknown = {"low": -math.inf, "high": math.inf, "se_seed": math.inf, "se_image": math.inf}
    return Interval(estimate=float(scores.scores[0]), **unknown)


def _widen_interval(interval: Interval, table: ScoreTable) -> Interval:
    """Widen an interval over runs whose training images overlap."""
    if (by := table.widening) == 1:
        return interval
    half = by * (interval.high - interval.estimate)
    ends = {"low": interval.estimate - half, "high": interval.estimate + half}
    return interval.model_copy(update={**ends, "se_seed": by * interval.se_seed})


def _compare_at_analyses(
    places: list[dict[int, int]],
    table: ScoreTable,
    request: ScoreRequest,
    scope: Scope,
    made: Sequence[InterimAnalysis],
) -> list[Comparison]:
    """Compare the methods as `compare_pairs` does, after the last analysis with the innermost ends of all."""
    first = [[{seed: row for seed, row in runs.items() if seed < one.seeds} for runs in places] for one in made[:-1]]
    rounds = [
        _compare_methods(runs, table, request.model_copy(update={"level": 1 - one.error}), scope)
        for runs, one in zip([*first, places], made, strict=True)
    ]
    ends = [
        {
            "at_least": max(pair.floor for pair in pairs),
            "at_most": min(pair.ceiling for pair in pairs),
            "at_most_one_sided": min(pair.one_sided for pair in pairs),
            "won": any(pair.won for pair in pairs),
        }
        for pairs in zip(*rounds, strict=True)
    ]
    return [pair.model_copy(update=update) for pair, update in zip(rounds[-1], ends, strict=True)]


def _compare_methods(
    places: list[dict[int, int]], table: ScoreTable, request: ScoreRequest, scope: Scope
) -> list[Comparison]:
    comparisons = []
    for i, one in enumerate(places):
        for j, other in enumerate(places[:i]):
            gap, ends = (
                _make_gap(one, other, table, request, scope=scope, level=level)
                for level in (request.level, 2 * request.level - 1)
            )
            for (a, b), both, once in (((i, j), gap, ends), ((j, i), negate_interval(gap), negate_interval(ends))):
                won = is_win(both, table.margin)
                comparisons.append(Comparison(first=a, second=b, difference=both, at_most_one_sided=once.high, won=won))
    return sorted(comparisons, key=lambda each: (each.first, each.second))


def _make_gap(
    one: dict[int, int], other: dict[int, int], table: ScoreTable, request: ScoreRequest, *, scope: Scope, level: float
) -> Interval:
    first, second = (table.scores.select_rows(list(runs.values())) for runs in (one, other))
    if not request.paired_seeds or scope == "images":
        return compute_nested_interval(first, second, scope, level, table.bound)
    common = [seed for seed in one if seed in other]  # `score_table` requires some
    pairs: ImageTable = table.scores.select_rows([one[s] for s in common], [other[s] for s in common])
    return _widen_interval(compute_interval_within(pairs, scope, level), table)
