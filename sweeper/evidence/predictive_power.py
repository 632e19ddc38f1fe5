"""Whether more seeds are likely to show a clear winner: the predictive power, by simulation from what was measured.

More seeds shrink the seed part of a difference's variance and nothing else: the test images stay those that there are.
Given the estimate D from S seeds, the standard deviation s of a seed's difference and the image part of the variance,
the confirmation is played to its end many times: σ² = s² ν / χ² with ν degrees of freedom (not below the interaction,
which is known far better), the true difference on these images from N(D, σ²/S), the seeds to come from there on. At
every planned analysis the interval is formed as `sweeper.evidence.intervals` would. The share of plays in which the
best beats all others is the predictive power (Spiegelhalter, Freedman & Blackburn 1986).

The comparisons share the best's noise: two differences between independent scores of one variance correlate at ½, and
so are the plays drawn. What follows from it is the number of trainings alone, never a word of the verdict.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import stdtrit

from sweeper.core.records import InterimAnalysis, Interval
from sweeper.evidence.intervals import Floats

PLAYS = 2000
"""A chance of 10 % is then known to within 1.3 percentage points (95 %)."""
SHARED = 0.5
"""Correlation of the differences between one finalist and two others."""


def chance_of_a_winner(
    gaps: Sequence[tuple[Interval, float]], images: float, rope: float, analyses: Sequence[InterimAnalysis]
) -> float:
    """Chance, 0–1, that one finalist beats all others by the end: those that it leads by these differences.

    Args:
        gaps: K ≥ 1 measured differences, each with its S ≥ 2 common seeds, on `images` ≥ 2 images or groups.
        images: images or groups of images.
        rope: region of practical equivalence, in mIoU.
        analyses: those that are still planned, by ascending seeds.

    The same arguments give the same numbers: the plays are drawn from a fixed seed.
    """
    rng, shape = np.random.default_rng(0), (PLAYS, len(gaps))

    def normal() -> Floats:
        own, common = rng.standard_normal(shape), rng.standard_normal((PLAYS, 1))
        drawn: Floats = np.sqrt(1 - SHARED) * own + np.sqrt(SHARED) * common
        return drawn

    def squared(freedom: Floats) -> Floats:
        """χ² draws; 0 where there is no degree of freedom."""
        return np.where(freedom > 0, rng.chisquare(np.maximum(freedom, 1), shape), 0.0)

    estimate = np.array([gap.estimate for gap, _ in gaps])
    so_far = np.array([seeds for _, seeds in gaps], dtype=np.float64)
    borrowed = np.array([gap.borrowed for gap, _ in gaps])  # the variance is moderated: so many degrees of freedom more
    squares = np.array([gap.se_seed for gap, _ in gaps]) ** 2 * so_far * (so_far - 1 + borrowed)
    squares = np.broadcast_to(squares, shape)
    floor = np.array([gap.se_both for gap, _ in gaps]) ** 2 * so_far
    v_image = np.array([gap.se_image for gap, _ in gaps]) ** 2
    truth_variance = np.maximum(squares / squared(so_far - 1 + borrowed), floor)  # of a single seed's difference
    truth = estimate + np.sqrt(truth_variance / so_far) * normal()
    mean = np.broadcast_to(estimate, shape)
    won = np.zeros(shape, dtype=np.bool_)  # who was beaten stays so
    for analysis in analyses:
        more = analysis.seeds - so_far
        if (more <= 0).all():
            continue
        more = np.maximum(more, 0)
        total = so_far + more
        new_mean = truth + np.sqrt(truth_variance / np.maximum(more, 1)) * normal()
        within = squared(more - 1)
        squares = squares + truth_variance * within + (new_mean - mean) ** 2 * so_far * more / total
        mean = mean + (new_mean - mean) * more / total
        so_far = total
        freedom = so_far - 1 + borrowed
        half = _half_widths(squares / (freedom * so_far), freedom, v_image, images, 1 - analysis.error)
        won |= (mean >= max(rope, 1e-12)) & (mean > half)
    return float(won.all(axis=1).mean())


def _half_widths(v_seed: Floats, freedom: Floats, v_image: Floats, images: float, level: float) -> Floats:
    """`intervals.half_width` for many variances at once, (plays, comparisons)."""
    t_seed, t_image = stdtrit(freedom, (1 + level) / 2), stdtrit(images - 1, (1 + level) / 2)
    total = np.maximum(v_seed + v_image, 1e-300)
    half: Floats = (t_seed * v_seed + t_image * v_image) / np.sqrt(total)
    return half
