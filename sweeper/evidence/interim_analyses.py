"""The planned interim analyses of the confirmation: after how many seeds, at which level.

The confirmation is a race: 3 seeds of each finalist, then one at a time, with an interim analysis after each planned
number. Fewer than 3 seeds establish nothing, as intervals with one degree of freedom are too wide to use, so they are
analysed only where no more are planned. Each analysis spends a part of the 5 % error, in the proportion 10 : 5 : 4 : 3
: 3 …, as most confirmations end early. One analysis more has a part, too, which is left for seeds that are asked for
later: 0.018, 0.009, 0.007, 0.005 and 0.005 after 3, 4, 5, 6 and 8 seeds leave 0.005. What was spent stays so: another
plan keeps the analyses that were made, and shares what they left. What an analysis spends is the probability that it is
the first to find a difference where there is none (Lan & DeMets 1983). So all intervals hold together with 95 %,
whatever ends the confirmation (repeated confidence intervals: Jennison & Turnbull 1989). The published boundaries are
for known variances and too lenient for Student's t; these are computed for t with S − 1 degrees of freedom, by
simulation (bench/answer.md).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from scipy.special import stdtr

from sweeper.core.records import Contest, InterimAnalysis
from sweeper.evidence.intervals import LEVEL, Floats

SEEDS = (3, 4, 5, 6, 8, 13, 21, 34)
"""Numbers of seeds at which the confirmation is analysed."""
DECIDING_SEEDS = 3
"""Least number of common seeds from which an interval of a pair may decide anything."""
ERROR_PARTS = (10, 5, 4, 3)
"""Parts in which the error is spent over the analyses with enough seeds; the last part repeats."""
ERROR = 0.05
FIRST_LOOK = InterimAnalysis(seeds=4, error=0.02, spent=0.02)
"""The only analysis of the first look. A change is said in 1 % of the studies in which it gains nothing."""
ERROR_AFTER_LOOK = 0.035
"""Error of the confirmation after a first look. A part of the rest of `ERROR` is the first look's; the other is for the
choice of the finalists by trainings that belong to the confirmation (bench/answer_tables.md)."""
PATHS = 400_000
"""Simulated confirmations of two equal losses, which give the error of an analysis to within 2 % of its value."""


@lru_cache(maxsize=64)
def plan_analyses(
    least: int, most: int, *, error: float = ERROR, made: tuple[InterimAnalysis, ...] = ()
) -> tuple[InterimAnalysis, ...]:
    """Plan interim analyses after `least` ≥ 1 seeds, the numbers of SEEDS in between, and `most` ≥ `least` seeds.

    The first is after at least `DECIDING_SEEDS`, unless fewer are planned. Those that were `made` come first, as they
    were made, whatever is planned now; the others have more seeds, and share what is left of `error`, that of a
    two-sided interval.
    """
    if made and (whole := plan_analyses(least, most, error=error))[: len(made)] == made:
        return whole  # the same plan, of which some were made
    least = max(least, min(most, DECIDING_SEEDS))
    begin = max([least, *(analysis.seeds + 1 for analysis in made)])
    seeds = sorted({count for count in (least, *SEEDS, most) if begin <= count <= most})
    left, planned = error, [*made]
    for analysis in made:
        left -= analysis.spent or 0.0
    parts = _list_parts(len(made), len(seeds))
    for place, count in enumerate(seeds):
        spent = left * parts[place] / sum(parts[place:])
        left -= spent
        planned.append(InterimAnalysis(seeds=count, error=spent, spent=spent))
    return tuple(_raise_errors(planned, len(made)) if len(planned) > max(1, len(made)) else planned)


def _list_parts(made: int, planned: int) -> list[int]:
    """List the parts of the error that planned analyses have after so many that were made, and one analysis more."""
    return [ERROR_PARTS[min(place, len(ERROR_PARTS) - 1)] for place in range(made, made + planned + 1)]


def _raise_errors(analyses: Sequence[InterimAnalysis], made: int) -> list[InterimAnalysis]:
    """Raise the two-sided error of each analysis but those `made` until it is the first to exclude zero as it spends.

    The differences of two equal losses are simulated as normal. Errors are rounded down to four digits, the precision
    that the number of paths allows; they are never below Bonferroni's.
    """
    rng = np.random.default_rng(0)
    total, squares, so_far = np.zeros(PATHS), np.zeros(PATHS), 0
    alive = np.ones(PATHS, dtype=np.bool_)
    raised: list[InterimAnalysis] = []
    for place, analysis in enumerate(analyses):
        for _ in range(analysis.seeds - so_far):
            drawn = rng.standard_normal(PATHS)
            total += drawn
            squares += drawn * drawn
        so_far, error = analysis.seeds, analysis.error
        chances = _compute_p_values(total, squares, so_far)
        if place >= max(1, made):  # the first spends its part exactly, which needs no simulation
            first = np.sort(chances[alive])[int(error * PATHS)]
            error = max(error, float(np.floor(1e4 * first) / 1e4))
        raised.append(analysis.model_copy(update={"error": error}))
        alive &= chances >= error
    return raised


def _compute_p_values(total: Floats, squares: Floats, seeds: int) -> Floats:
    """Compute p-values of Student's t test of a zero mean, from sums and sums of squares of `seeds` values each."""
    mean = total / seeds
    deviation = np.sqrt(np.maximum(squares / seeds - mean * mean, 1e-300) / (seeds - 1))
    chances: Floats = 2 * stdtr(seeds - 1, -np.abs(mean) / deviation)
    return chances


def find_analysis(analyses: Sequence[InterimAnalysis], seeds: float) -> int:
    """Return the index of the analysis at which `seeds` seeds are complete.

    It is the first analysis with at least as many seeds, else the last.
    """
    return next((k for k, analysis in enumerate(analyses) if analysis.seeds >= seeds), max(0, len(analyses) - 1))


def compute_level(analyses: Sequence[InterimAnalysis], seeds: float) -> float:
    """Compute the level of a comparison on `seeds` common seeds: 1 − error of their analysis, or LEVEL without a plan.

    A finalist that was dropped at an earlier analysis keeps its level: its data have not changed, and a second
    judgement at a later, more lenient level would spend error twice. More seeds than planned are judged at the level of
    the last analysis.
    """
    if not analyses:
        return LEVEL
    return 1 - analyses[find_analysis(analyses, seeds)].error


def foresee_level(analyses: Sequence[InterimAnalysis], seeds: float) -> float:
    """Compute the level, at least, of a comparison on `seeds` seeds; more than planned are another `plan_analyses`."""
    spent = analyses[-1].spent if analyses else None
    if spent is None or seeds <= analyses[-1].seeds:
        return compute_level(analyses, seeds)
    last, part, more = _list_parts(len(analyses) - 1, 2)
    return 1 - spent * part / last * part / (part + more)


def share_error(claims: int) -> float:
    """Return the factor of a two-sided error at which each of so many one-sided claims may be made: 1 for up to two."""
    return 2 / max(2, claims)


def count_common_seeds(evidence: Contest, first: int, second: int) -> float:
    """Return on how many seeds two finalists (indices) are compared; unpaired, the smaller of their numbers.

    It is infinite where the conclusion is only about these trainings (`scope` is `images`).
    """
    if evidence.scope == "images":
        return math.inf
    one, other = set(evidence.finalists[first].seeds), set(evidence.finalists[second].seeds)
    return len(one & other) if evidence.paired else min(len(one), len(other))


def get_comparison_level(evidence: Contest, first: int, second: int) -> float:
    """Return the level of the interval that compares two finalists (indices)."""
    return compute_level(evidence.analyses, count_common_seeds(evidence, first, second))
