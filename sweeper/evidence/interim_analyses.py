"""The planned interim analyses of the confirmation: after how many seeds, at which level.

The confirmation is a race: 3 seeds of each finalist, then one at a time, with an interim analysis after each planned
number. Fewer than 3 seeds establish nothing, as intervals with one degree of freedom are too wide to use, so they are
analysed only where no more are planned. Each analysis spends a part of the 5 % error, in the proportion 10 : 5 : 4 : 3
: 3 …, as most confirmations end early: 0.02, 0.01, 0.008, 0.006 and 0.006 after 3, 4, 5, 6 and 8 seeds. What an
analysis spends is the probability that it is the first to find a difference where there is none (Lan & DeMets 1983). So
all intervals hold together with 95 %, whatever ends the confirmation (repeated confidence intervals: Jennison &
Turnbull 1989). The published boundaries are for known variances and too lenient for Student's t; these are computed for
t with S − 1 degrees of freedom, by simulation (bench/answer.md).
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
ERROR_AFTER_LOOK = 0.045
"""Error of the confirmation after a first look: either says a wrong change about as often as `ERROR` alone does."""
PATHS = 400_000
"""Simulated confirmations of two equal losses, which give the error of an analysis to within 2 % of its value."""


@lru_cache(maxsize=64)
def plan_analyses(least: int, most: int, *, error: float = ERROR) -> tuple[InterimAnalysis, ...]:
    """Plan interim analyses after `least` ≥ 1 seeds, the numbers of SEEDS in between, and `most` ≥ `least` seeds.

    Together they spend `error`, that of a two-sided interval.

    The first is after at least `DECIDING_SEEDS`, unless fewer are planned.
    """
    least = max(least, min(most, DECIDING_SEEDS))
    seeds = [least, *(s for s in SEEDS if least < s < most), *([most] if most > least else [])]
    parts = [ERROR_PARTS[min(k, len(ERROR_PARTS) - 1)] for k in range(len(seeds))]
    spent = [error * part / sum(parts) for part in parts]
    errors = _compute_errors(seeds, spent) if len(seeds) > 1 else [error]
    return tuple(InterimAnalysis(seeds=s, error=e, spent=part) for s, e, part in zip(seeds, errors, spent, strict=True))


def _compute_errors(seeds: Sequence[int], spent: Sequence[float]) -> list[float]:
    """Compute the two-sided error of each t interval, so that it is the first to exclude zero in `spent` of all cases.

    The differences of two equal losses are simulated as normal. Errors are rounded down to four digits, the precision
    that the number of paths allows; they are never below Bonferroni's.
    """
    rng = np.random.default_rng(0)
    total, squares, so_far = np.zeros(PATHS), np.zeros(PATHS), 0
    alive = np.ones(PATHS, dtype=np.bool_)
    errors: list[float] = []
    for count, part in zip(seeds, spent, strict=True):
        for _ in range(count - so_far):
            drawn = rng.standard_normal(PATHS)
            total += drawn
            squares += drawn * drawn
        so_far = count
        chances = _compute_p_values(total, squares, count)
        first = np.sort(chances[alive])
        # The first analysis spends its part exactly, which needs no simulation.
        errors.append(max(part, float(np.floor(1e4 * first[int(part * PATHS)]) / 1e4)) if errors else part)
        alive &= chances >= errors[-1]
    return errors


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
