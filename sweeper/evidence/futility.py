"""Whether more seeds could still settle a comparison: its predictive power, by simulation from what was measured.

More seeds shrink the seed part of a difference's variance and nothing else: the test pictures stay those that there
are. Given the estimate D from S seeds, the standard deviation s of a seed's difference and the picture part of the
variance, the confirmation is played to its end many times: σ² = s² (S − 1) / χ² (not below the interaction, which is
known far better), the true difference on these pictures from N(D, σ²/S), the seeds to come from there on. At every
look still planned the interval is formed as `sweeper.evidence.intervals` would and asked for a verdict on the pair. The
share of plays in which one comes is the predictive power (Spiegelhalter, Freedman & Blackburn 1986).

Ending early for futility can only prevent verdicts, so that it never adds false ones; what it costs in power is in
docs/verdict.md.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import stdtrit

from sweeper.evidence.intervals import Floats
from sweeper.records import Interval, Look

PLAYS = 2000
"""A chance of 10 % is then known to within 1.3 percentage points (95 %)."""


def chance_of_settling(gap: Interval, seeds: int, pictures: int, rope: float, looks: Sequence[Look]) -> float:
    """Chance, 0–1, that a pair is told apart or shown equivalent at one of the looks to come.

    Args:
        gap: the measured difference, from `seeds` ≥ 2 common seeds on `pictures` ≥ 2 pictures or groups.
        seeds: seeds so far.
        pictures: pictures or groups of pictures.
        rope: region of practical equivalence, in mIoU.
        looks: those that are still planned, by ascending seeds.

    The same arguments give the same number: the plays are drawn from a fixed seed.
    """
    rng = np.random.default_rng(0)
    variance = np.full(PLAYS, gap.se_seed**2 * seeds)  # of a single seed's difference
    squares = variance * (seeds - 1)
    truth_variance = np.maximum(squares / rng.chisquare(seeds - 1, PLAYS), gap.se_both**2 * seeds)
    truth = gap.estimate + np.sqrt(truth_variance / seeds) * rng.standard_normal(PLAYS)
    mean = np.full(PLAYS, gap.estimate)
    settled = np.zeros(PLAYS, dtype=np.bool_)
    so_far = seeds
    for look in looks:
        more = look.seeds - so_far
        if more <= 0:
            continue
        new_mean = truth + np.sqrt(truth_variance / more) * rng.standard_normal(PLAYS)
        within = rng.chisquare(more - 1, PLAYS) if more > 1 else np.zeros(PLAYS)
        squares = squares + truth_variance * within + (new_mean - mean) ** 2 * so_far * more / look.seeds
        mean = mean + (new_mean - mean) * more / look.seeds
        so_far = look.seeds
        half = _half_widths(squares / ((so_far - 1) * so_far), so_far, gap.se_image**2, pictures, 1 - look.error)
        told_apart = (np.abs(mean) >= max(rope, 1e-12)) & (np.abs(mean) > half)
        settled |= told_apart | (np.abs(mean) + half <= rope)
    return float(settled.mean())


def _half_widths(v_seed: Floats, seeds: int, v_image: float, pictures: int, level: float) -> Floats:
    """`intervals.half_width` for many variances at once."""
    t_seed, t_image = stdtrit(seeds - 1, (1 + level) / 2), stdtrit(pictures - 1, (1 + level) / 2)
    total = np.maximum(v_seed + v_image, 1e-300)
    half: Floats = (t_seed * v_seed + t_image * v_image) / np.sqrt(total)
    return half
