"""Intervals of dataset-level scores and their paired differences, with a seed part and an image part.

For finalists f and g trained on the same S seeds and scored on the same n test pictures, the statistic of seed s
is D_s = score(f, s) − score(g, s), the score being read from counts summed over the pictures, and the estimate is
their mean. Its uncertainty has two sources:

- V_seed = var(D_s, ddof = 1) / S: another training of the same losses would have given another difference;
- V_image = variance of the mean difference under resampling of test pictures, the same resample for every seed
  and finalist, times n / (n − 1) (the bootstrap's plug-in variance is too small by that factor).

What a training does to single pictures (the seed × picture interaction) is in both, so that the sum errs on the
wide side. With v₁ = V_seed, v₂ = V_image, the two have very different degrees of freedom (S − 1 = 2 against n − 1),
and the critical value is that of Cochran and Cox for a sum of two estimated variances:

    t = (t_{S−1} v₁ + t_{n−1} v₂) / (v₁ + v₂),       interval = estimate ± t √(v₁ + v₂)

Sources: Cochran & Cox, *Experimental Designs* (1957), 4.14; Efron & Tibshirani, *An Introduction to the Bootstrap*
(1993), ch. 6; Bouthillier et al., *Accounting for Variance in Machine Learning Benchmarks* (MLSys 2021).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

from sweeper.records import Interval

REPLICATES = 2000
"""Bootstrap replicates: the Monte-Carlo error of a standard error is then about 1.6 %."""
LEVEL = 0.95
"""Coverage of an interval on which no look depends, two-sided."""
_CHUNK = 4_000_000
"""Most resampled picture indices held at a time, which bounds memory to some 100 MB."""

Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def critical_value(v_seed: float, seeds: int, v_image: float, pictures: int, level: float = LEVEL) -> float:
    """Cochran–Cox critical value of a sum of two variance estimates with `seeds` − 1 and `pictures` − 1 d.o.f.

    For a two-sided interval at `level` in (0, 1). Both variances ≥ 0; `seeds` and `pictures` ≥ 2. With both
    variances 0 it is the larger of the two quantiles (what it multiplies is 0 anyway).

    Raises:
        ValueError: with fewer than two seeds or pictures, where a variance has no degrees of freedom.
    """
    if seeds < 2 or pictures < 2:
        raise ValueError(
            f"a variance needs at least 2 values, got {seeds} seed(s) and {pictures} picture(s); "
            "ask `mean_interval`, which widens to the score's whole range"
        )
    upper = (1 + level) / 2
    t_seed, t_image = float(stdtrit(seeds - 1, upper)), float(stdtrit(pictures - 1, upper))
    total = v_seed + v_image
    return max(t_seed, t_image) if total <= 0 else (t_seed * v_seed + t_image * v_image) / total


def half_width(v_seed: float, seeds: int, v_image: float, pictures: int, level: float = LEVEL) -> float:
    """Half the width of the interval that these variances of the mean give; arguments as in `critical_value`."""
    return critical_value(v_seed, seeds, v_image, pictures, level) * float(np.sqrt(v_seed + v_image))


def resample_sums(counts: Counts, rng: np.random.Generator, replicates: int = REPLICATES) -> Counts:
    """Counts summed over resampled pictures, every run on the same resamples.

    Args:
        counts: (R, n, C, 3) integer counts of R runs on the same n ≥ 1 pictures, in the same order.
        rng: draws the resamples; R does not change what is drawn.
        replicates: number B of resamples.

    Returns:
        (B, R, C, 3) int64.
    """
    runs, n = counts.shape[:2]
    # Sums of integers below 2**53 are exact in float64, so that the order of the runs changes no digit.
    table = np.moveaxis(counts, 1, 0).reshape(n, -1).astype(np.float64)
    chunk = max(1, _CHUNK // n)
    sums = []
    for start in range(0, replicates, chunk):
        rows = min(chunk, replicates - start)
        drawn = rng.integers(0, n, size=(rows, n)) + n * np.arange(rows)[:, None]
        weights = np.bincount(drawn.ravel(), minlength=rows * n).reshape(rows, n)
        sums.append(np.rint(weights.astype(np.float64) @ table).astype(np.int64))
    return np.concatenate(sums).reshape(replicates, runs, *counts.shape[2:])


def mean_interval(
    values: Floats, resampled: Floats, pictures: int, bounds: tuple[float, float], level: float = LEVEL
) -> Interval:
    """Interval of the mean over seeds of a score, or of a paired difference of scores.

    Args:
        values: (S,) the statistic of each seed on the pictures as they are.
        resampled: (B, S) the same on B resamples of the pictures.
        pictures: number n of test pictures.
        bounds: lowest and highest possible value: (0, 1) for a score, (−1, 1) for a difference. The interval is
            clipped to them.
        level: coverage of the interval, two-sided.

    With fewer than two seeds, or two pictures, that source of variance cannot be estimated from the data. The
    interval is then the whole range `bounds`, and the standard error of each unknown source is the largest possible
    one, half the range: nothing can be concluded from it. Without any seed the estimate is the range's middle.
    """
    low, high = bounds
    seeds = len(values)
    estimate = float(values.mean()) if seeds else (low + high) / 2
    worst = ((high - low) / 2) ** 2
    v_seed = float(values.var(ddof=1)) / seeds if seeds >= 2 else worst
    enough = pictures >= 2 and seeds >= 1
    v_image = float(resampled.mean(axis=1).var(ddof=1)) * pictures / (pictures - 1) if enough else worst
    if seeds >= 2 and pictures >= 2:
        half = half_width(v_seed, seeds, v_image, pictures, level)
        low, high = max(low, estimate - half), min(high, estimate + half)
    return Interval(
        estimate=estimate, low=low, high=high, se_seed=float(np.sqrt(v_seed)), se_image=float(np.sqrt(v_image))
    )


def negated(interval: Interval) -> Interval:
    """The interval of the same difference taken the other way round (0 − x, so that no −0.0 appears)."""
    return interval.model_copy(
        update={"estimate": 0.0 - interval.estimate, "low": 0.0 - interval.high, "high": 0.0 - interval.low}
    )
