"""Intervals of dataset-level scores and their paired differences, with a seed part and an image part.

Finalists f and g are trained on the same S seeds and scored on the same n test images. The statistic of seed s is D_s =
score(f, s) − score(g, s), each score computed from counts summed over the images; the estimate is the mean of the D_s.
Seeds and images are crossed, as every training is scored on every image:

  D_s − δ  ≈  A_s + mean_i P_i + mean_i (AP)_si,        Var(mean_s D_s) = σ_A²/S + σ_P²/n + σ_AP²/(S n)

A is the effect of the training, P that of the images, AP that of a training on single images. The contribution of image
i to D_s is its influence: n times the derivative of D_s along the counts of that image (the infinitesimal jackknife).
For mIoU, a ratio of sums, it is n · mean_c (TP_ic − IoU_c U_ic) / U_c, U being the union. Leaving image i out would
give nearly the same, except for a class that occurs in a single image: without that image one false alarm elsewhere
turns the class's IoU into 0, and a difference of 0.002 got an interval of ± 0.66. The S × n table of influences gives
the three mean squares of the two-way layout:

  v₁ = var_s(D_s) / S           expects  σ_A²/S + σ_AP²/(S n)     with S − 1 degrees of freedom
  v₂ = var_i(column mean) / n   expects  σ_P²/n + σ_AP²/(S n)     with n − 1
  v₃ = var(residual) / (S n)    expects           σ_AP²/(S n)     with (S − 1)(n − 1)

v₁ + v₂ would count the interaction twice (in binary tasks it is most of the variance). The variance is v₁ + max(0, v₂ −
v₃), which keeps the interaction in the part with the fewest degrees of freedom; with n < S it is max(0, v₁ − v₃) + v₂,
as v₂ − v₃ with one degree of freedom is often cut off at 0. As the two parts differ so much in these (2 against n − 1),
the critical value is that of Cochran and Cox for a sum of two estimated variances:

  t = (t_{S−1} v₁ + t_{n−1} (v₂ − v₃)) / (v₁ + v₂ − v₃),      interval = estimate ± t √(v₁ + v₂ − v₃)

It is exact when one part is 0, and too wide otherwise; bench/answer.md has its calibration. But where one t is more
than twice the other, a little variance of the other makes it narrower than the interval of the one part alone. That
matters at high levels and with very few images, where the interval is the wider of these (`strict`).

With K folds each image is scored by networks that were trained on (K − 1)/K of the same images, whatever the rotation.
The effect of one training image on the scores of the others is then the same in all rotations, and is in neither part.
So v₂ − v₃ is multiplied by K/(K − 1): an approximation, which keeps 5 % where single training images matter little
(bench/answer_tables.md).

With fewer than five groups of images n − 1 is so small that chance decides how wide the interval is. There the image
part of a difference between losses has a prior, as if k = `PRIOR_DEGREES` more degrees of freedom had shown a standard
deviation of u = `PRIOR_DEVIATION` between groups: v ← ((n − 1) v + k u² / n) / (n − 1 + k) on n − 1 + k degrees.

Sources: Cochran & Cox, *Experimental Designs* (1957), 4.14; Jaeckel, *The infinitesimal jackknife* (Bell Laboratories
1972); Efron, *The jackknife, the bootstrap and other resampling plans* (1982), 6; Cornfield & Tukey, *Average values of
mean squares in factorials* (Annals of Mathematical Statistics 1956); Bouthillier et al., *Accounting for Variance in
Machine Learning Benchmarks* (MLSys 2021).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.special import stdtrit

from sweeper.core.records import Interval, Scope

LEVEL = 0.95
"""Coverage of a two-sided interval on which no interim analysis depends."""
PRIOR_DEGREES, PRIOR_DEVIATION = 3.0, 0.03
"""Prior of the variance over few groups of images: degrees of freedom, and standard deviation of a group's difference
between two losses, in mIoU."""
_STEP = 2.0**-13
"""Fraction of an image's counts by which the sums are shifted for its influence: the central difference then has a
relative error of about 1e-8, and rounding errors are far smaller."""

Counts = npt.NDArray[np.int64]
Sums = npt.NDArray[np.int64] | npt.NDArray[np.float64]
Floats = npt.NDArray[np.float64]


def compute_half_width(
    v_seed: float,
    seeds: float,
    v_image: float,
    images: float,
    level: float = LEVEL,
    *,
    borrowed: float = 0.0,
    strict: bool = False,
) -> float:
    """Compute half the width of the two-sided interval at `level` in (0, 1), from the variances of a mean.

    It uses Cochran and Cox's critical value for a sum of two variance estimates with `seeds` − 1 and `images` − 1
    degrees of freedom; `borrowed` ≥ 0 is added to the former (`Interval.borrowed`). Both variances ≥ 0; `seeds` and
    `images` ≥ 2, infinite where only the measured ones are in question. `strict`: at least that of either part alone.
    """
    return _combine_parts([(v_seed, seeds - 1 + borrowed), (v_image, images - 1)], level, strict=strict)


def _combine_parts(parts: Sequence[tuple[float, float]], level: float, *, strict: bool) -> float:
    """Return half the width from the parts of a variance, each with its degrees of freedom."""
    total = sum(variance for variance, _ in parts)
    if total <= 0:
        return 0.0
    upper = (1 + level) / 2
    critical = [(float(stdtrit(freedom, upper)), variance) for variance, freedom in parts if variance > 0]
    alone = max(t * math.sqrt(variance) for t, variance in critical)
    return max(alone * strict, sum(t * variance for t, variance in critical) / total * math.sqrt(total))


@dataclass(frozen=True)
class ImageTable:
    """Scores of R runs and the contribution of each of n images to them."""

    scores: Floats
    """(R,) scores from the counts summed over all images."""
    shares: Floats
    """(R, n) influences: each row sums to 0, and its variance / n is the variance of the score."""
    folds: int = 1
    """Trainings in each run, each scored on the images of its fold; 1 = a run is one training."""
    prior: float = 0.0
    """Standard deviation of an image's difference in the prior of its variance; 0 = there is no prior."""

    @property
    def images(self) -> int:
        """Number n of images (or groups of images)."""
        return int(self.shares.shape[1])

    def select_rows(self, plus: list[int], minus: list[int] | None = None) -> ImageTable:
        """Return the runs `plus`, or their differences to the runs `minus` of the same length, pair by pair."""
        if minus is None:
            return replace(self, scores=self.scores[plus], shares=self.shares[plus])
        return self.select_rows(plus).subtract(self.select_rows(minus))

    def subtract(self, other: ImageTable) -> ImageTable:
        """Return the differences to as many other runs on the same images, row by row."""
        return replace(self, scores=self.scores - other.scores, shares=self.shares - other.shares)

    @property
    def image_degrees(self) -> float:
        """Degrees of freedom of the image part of the variance."""
        return self.images - 1 + (PRIOR_DEGREES if self.prior else 0)

    def moderate_image_part(self, variance: float) -> float:
        """Widen the image part ≥ 0 of the variance of a mean for folds, and shrink it to the prior."""
        own, degrees = self.images - 1, self.image_degrees
        return (own * self.widening * variance + (degrees - own) * self.prior**2 / self.images) / degrees

    @property
    def widening(self) -> float:
        """Factor of the image part of the variance: K / (K − 1) for K folds."""
        return 1.0 if self.folds == 1 else self.folds / (self.folds - 1)


def make_image_table(counts: Sums, score: Callable[[Any], Floats], folds: int = 1) -> ImageTable:
    """Compute the scores of runs and every image's influence on them.

    Args:
        counts: (R, n, C, k) counts, or other sums, of R runs on the same n ≥ 0 images, in the same order.
        score: (..., R, C, k) summed counts, of integers or not → (..., R); smooth, and unchanged when all counts are
            multiplied by one number (as any ratio of sums is), so that the influences sum to 0.
        folds: trainings in each run; 1 = it is one.
    """
    runs, n = counts.shape[:2]
    summed = counts.sum(axis=1)
    if n < 2:
        return ImageTable(score(summed), np.zeros((runs, n)), folds)
    change = _STEP * np.moveaxis(counts, 1, 0)
    slope = (score(summed + change) - score(summed - change)) / (2 * _STEP)  # (n, R)
    return ImageTable(score(summed), n * slope.T, folds)


@dataclass(frozen=True)
class VarianceParts:
    """Variance of a mean over S seeds and n images, in parts; each ≥ 0."""

    v_seed: float
    """Variance from retraining, the interaction included unless there are fewer images than seeds."""
    v_image: float = 0.0
    """Variance from the choice of images, the interaction included where `v_seed` does not have it."""
    v_both: float = 0.0
    """Interaction: the part of `v_seed` that also shrinks with more images."""


def compute_variance_parts(table: ImageTable) -> VarianceParts:
    """Return the parts of the variance of the mean over the runs of `table`, S ≥ 2 seeds on n ≥ 2 images."""
    seeds, n = table.shares.shape
    columns = table.shares.sum(axis=0) / seeds
    residuals = (table.shares - columns).ravel()
    deviations = table.scores - table.scores.sum() / seeds
    v_seed = float(deviations @ deviations) / ((seeds - 1) * seeds)
    v_both = float(residuals @ residuals) / ((seeds - 1) * (n - 1) * seeds * n)
    v_image = float(columns @ columns) / (n * (n - 1))
    if table.image_degrees < seeds - 1:
        return VarianceParts(v_seed=max(0.0, v_seed - v_both), v_image=table.moderate_image_part(v_image))
    v_image = table.moderate_image_part(max(0.0, v_image - v_both))
    return VarianceParts(v_seed=v_seed, v_image=v_image, v_both=min(v_both, v_seed))


def compute_paired_interval(
    table: ImageTable, bounds: tuple[float, float], level: float = LEVEL, *, strict: bool = False
) -> Interval:
    """Compute the interval of the mean over seeds of a score, or of a paired difference of scores.

    Args:
        table: a row for each seed, of a score or of a difference (`ImageTable.select_rows`).
        bounds: lowest and highest possible value: (0, 1) for a score, (−1, 1) for a difference. The interval is
            clipped to them.
        level: coverage of the two-sided interval.
        strict: see `compute_half_width`; always with fewer images than seeds.

    With fewer than two seeds, or two images, that source of variance cannot be estimated from the data. The interval is
    then the whole range `bounds`, and the standard error of each unknown source is the largest possible one, half the
    range: nothing can be concluded from it. Without any seed the estimate is the middle of the range.
    """
    low, high = bounds
    seeds, images = table.shares.shape
    estimate = float(table.scores.mean()) if seeds else (low + high) / 2
    if seeds >= 2 and images >= 2:
        parts = compute_variance_parts(table)
        units, strict = table.image_degrees + 1, strict or table.image_degrees < seeds - 1
        half = compute_half_width(parts.v_seed, seeds, parts.v_image, units, level, strict=strict)
    else:
        half, v_seed = math.inf, ((high - low) / 2) ** 2
        v_image = v_seed
        if seeds >= 2:
            v_seed = float(table.scores.var(ddof=1)) / seeds
        if seeds >= 1 and images >= 2:
            v_image = float(np.square(table.shares.mean(axis=0)).sum()) / (images * (images - 1))
        parts = VarianceParts(v_seed=v_seed, v_image=v_image)
    return _make_interval(estimate, half, parts, bounds)


def compute_interval_within(table: ImageTable, scope: Scope, level: float = LEVEL) -> Interval:
    """Compute the unbounded interval of the mean over runs where only one source of variance is in question.

    Args:
        table: a row for each run, of a score or of a paired difference.
        scope: `images`: the same networks on other images (n ≥ 2); `trainings`: other trainings, scored on these
            images.
        level: coverage of the two-sided interval.

    The ends are infinite for `trainings` with fewer than two runs.
    """
    runs, images = table.shares.shape
    estimate = float(table.scores.mean())
    if scope == "images":
        columns = table.shares.mean(axis=0)
        variance = float(columns @ columns) / (images * (images - 1))
        half = compute_half_width(0.0, math.inf, variance, images, level)
        return _make_interval(estimate, half, VarianceParts(v_seed=0.0, v_image=variance))
    if runs < 2:
        return _make_interval(estimate, math.inf, VarianceParts(v_seed=math.inf))
    parts = _compute_run_variance(table)
    return _make_interval(estimate, compute_half_width(parts.v_seed, runs, 0.0, math.inf, level), parts)


def compute_nested_interval(
    first: ImageTable,
    second: ImageTable,
    scope: Scope = "both",
    level: float = LEVEL,
    bound: float = math.inf,
    *,
    strict: bool = False,
) -> Interval:
    """Compute the interval of `first` − `second`, whose runs are not paired: v_A / S_A + v_B / S_B; images are paired.

    The image part is the variance of the mean difference over the images, less the interaction of trainings and images
    (estimated within each method). The critical value is Cochran and Cox's for all three parts: exact when only one is
    above 0, else too wide (Welch's has up to 7 % false positives at 3 against 10 runs).

    Args:
        first: a row for each of its S_A runs.
        second: a row for each of its S_B runs, on the same images.
        scope: which variances count; with `images` those of runs do not.
        level: coverage of the two-sided interval.
        bound: the largest possible difference; the interval is clipped to ± it.
        strict: see `compute_half_width`; always with fewer images than runs of one of them.

    With fewer than two runs of either the interval is the whole range.
    """
    means = ImageTable(
        np.array([first.scores.mean() - second.scores.mean()]),
        (first.shares.mean(axis=0) - second.shares.mean(axis=0))[None],
    )
    if scope == "images":
        return compute_interval_within(means, "images", level)
    runs, estimate = [len(first.scores), len(second.scores)], float(means.scores[0])
    if (least := min(runs)) < 2:
        return _make_interval(estimate, bound, VarianceParts(bound**2, bound**2), (-bound, bound))
    parts = [
        compute_variance_parts(each) if scope == "both" else _compute_run_variance(each) for each in (first, second)
    ]
    v_seeds, both, v_image = [part.v_seed for part in parts], sum(part.v_both for part in parts), 0.0
    if scope == "both":
        columns = means.shares[0]
        over_images = float(columns @ columns) / (means.images * (means.images - 1))
        v_image = first.moderate_image_part(max(0.0, over_images - both))
    v_seed = sum(v_seeds)
    of_all = [*zip(v_seeds, (n - 1 for n in runs), strict=True), (v_image, first.image_degrees)]
    has_few_images = scope == "both" and first.image_degrees < max(runs) - 1
    half = _combine_parts(of_all, level, strict=strict or has_few_images)
    freedom = sum((n - 1) * v for n, v in zip(runs, v_seeds, strict=True)) / v_seed if v_seed > 0 else least - 1
    borrowed = max(0.0, freedom - (least - 1))
    return _make_interval(estimate, half, VarianceParts(v_seed, v_image, both), (-bound, bound), borrowed)


def _compute_run_variance(table: ImageTable) -> VarianceParts:
    return VarianceParts(v_seed=float(table.scores.var(ddof=1)) / len(table.scores))


def _make_interval(
    estimate: float,
    half: float,
    parts: VarianceParts,
    bounds: tuple[float, float] = (-math.inf, math.inf),
    borrowed: float = 0.0,
) -> Interval:
    """Return estimate ± half, clipped to the bounds; the interaction is limited to the seed part."""
    return Interval(
        estimate=estimate,
        low=max(bounds[0], estimate - half),
        high=min(bounds[1], estimate + half),
        se_seed=math.sqrt(parts.v_seed),
        se_image=math.sqrt(parts.v_image),
        se_both=math.sqrt(min(parts.v_both, parts.v_seed)),
        borrowed=borrowed,
    )


def negate_interval(interval: Interval) -> Interval:
    """Return the interval of the reversed difference (as 0 − x, so that no −0.0 appears)."""
    return interval.model_copy(
        update={"estimate": 0.0 - interval.estimate, "low": 0.0 - interval.high, "high": 0.0 - interval.low}
    )


def scale_variances(interval: Interval, *, seeds: float = 1.0, images: float = 1.0) -> tuple[float, float]:
    """Scale the variances of a difference, from seeds and from images, to multiples of the seeds and the test images.

    The seed part shrinks with more seeds; its interaction (`se_both`) also with more images. The image part shrinks
    only with more images.
    """
    both = interval.se_both**2
    return max(0.0, (interval.se_seed**2 - both) / seeds + both / (seeds * images)), interval.se_image**2 / images
