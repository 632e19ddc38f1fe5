"""Intervals from resampled images, for measures that have no influences of images (`intervals.image_table`).

Source: Efron, *The jackknife, the bootstrap and other resampling plans* (1982), 5.
"""

from __future__ import annotations

import numpy as np

from sweeper.core.records import Interval
from sweeper.evidence.intervals import LEVEL, Counts, Floats, half_width

REPLICATES = 2000
"""Bootstrap replicates: the Monte-Carlo error of a standard error is then about 1.6 %."""
_CHUNK = 4_000_000
"""Most resampled image indices held at a time, which bounds memory to some 100 MB."""


def resample_sums(counts: Counts, rng: np.random.Generator, replicates: int = REPLICATES) -> Counts:
    """Counts summed over resampled images, every run on the same resamples.

    Args:
        counts: (R, n, C, 3) integer counts of R runs on the same n ≥ 1 images, in the same order.
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
    values: Floats, resampled: Floats, images: int, bounds: tuple[float, float], level: float = LEVEL
) -> Interval:
    """The interval of a mean from resampled images, for measures that are not smooth in the counts.

    Its image part contains the interaction a second time, so that it errs on the wide side.

    Args:
        values: (S,) the statistic of each seed on the images as they are.
        resampled: (B, S) the same on B resamples of the images.
        images: number n of test images.
        bounds: lowest and highest possible value: (0, 1) for a score, (−1, 1) for a difference. The interval is
            clipped to them.
        level: coverage of the interval, two-sided.

    With fewer than two seeds or images it is the whole range, as that of `intervals.paired_interval` is.
    """
    low, high = bounds
    seeds = len(values)
    estimate = float(values.mean()) if seeds else (low + high) / 2
    worst = ((high - low) / 2) ** 2
    v_seed = float(values.var(ddof=1)) / seeds if seeds >= 2 else worst
    enough = images >= 2 and seeds >= 1
    v_image = float(resampled.mean(axis=1).var(ddof=1)) * images / (images - 1) if enough else worst
    if seeds >= 2 and images >= 2:
        half = half_width(v_seed, seeds, v_image, images, level)
        low, high = max(low, estimate - half), min(high, estimate + half)
    return Interval(
        estimate=estimate, low=low, high=high, se_seed=float(np.sqrt(v_seed)), se_image=float(np.sqrt(v_image))
    )
