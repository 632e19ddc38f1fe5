"""Learning rates of the search and the confirmation: one optimum for all losses, fitted to every complete trial.

AdamW is invariant to the scale of a loss, so the losses of one data set need much the same rate: in three real sweeps
all finalists were best at the same one. It is estimated from the complete trials of all families, by

  value = a_family − c (x − o)²,       x = log10(learning rate),

with a_family ~ N(m, (10 u)²) and noise of Student's t with a scale of 2 u, u = 0.01 mIoU. A diverged training has no
value; it indicates that c (x − o)² is large. o and c are integrated over a grid, with a_family at its mode and m at the
families' mean. `RateFit.best` is the mean of o.

Search trials draw their rates around the current estimate of o, at the same quantiles for every family. The
confirmation's seeds draw from o ± `RATE_DECADES`, all finalists the same rate at the same seed; the rate's share of the
variance is in every interval. A finalist whose own best rate is far from o is tried at both (`sweeper.study.finalist`).

Everything here is on the logarithm of the rate. Pure; no torch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy.special import log_ndtr

from sweeper.core.records import Coordinate, RateFit, RateRange, TrialResult

RATE_DECADES = 0.22
"""Decades on either side of the optimum that the confirmation draws from: what a user would call the same rate."""
MIN_SEARCH_DECADES = 0.3
"""Least decades on either side that the search tries, so that a loss with another optimum can show it."""
UNIT = 0.01
"""mIoU, the usual region of practical equivalence. Not the study's own, which may change after rates were drawn."""
LEVELS, NOISE, TAILS = 10 * UNIT, 2 * UNIT, 3.0
"""Spread of the families' levels; scale and degrees of freedom of the noise of one training."""
CURVATURE, CURVATURE_SPREAD = 0.1, 0.8
"""Median of c in mIoU per decade², and the spread of its logarithm: 0.05 to 0.2 on cracks and street."""
DIVERGES = 5 * UNIT
"""Fall of the curve below its optimum at which a training diverges."""
NARROWEST = 1.5
"""A searched range whose ends differ by a smaller factor is one rate: nobody finds a rate to the per cent."""
_OPTIMA, _CURVATURES, _ROUNDS = 81, 15, 12

Floats = npt.NDArray[np.float64]


def is_one_rate(searched: Coordinate) -> bool:
    """Return whether the searched range is a single rate, or so narrow (below `NARROWEST`) that it counts as one."""
    return searched.kind == "fixed" or searched.high < NARROWEST * searched.low


def fit_rates(tried: Sequence[TrialResult], searched: Coordinate) -> RateFit:
    """Fit the optimum that all losses share, by the model above.

    `tried` are complete trainings on one seed, in any order; without any the optimum is the middle of `searched`, the
    range of the learning rate, which is not one rate (`is_one_rate`).
    """
    low, high = math.log10(searched.low), math.log10(searched.high)
    optimum = np.linspace(low, high, _OPTIMA)
    logs = np.linspace(-2, 2, _CURVATURES) * CURVATURE_SPREAD
    o, c = (grid.ravel() for grid in np.meshgrid(optimum, CURVATURE * np.exp(logs), indexing="ij"))
    log_weight = -0.5 * ((o - (low + high) / 2) / ((high - low) / 4)) ** 2
    log_weight -= 0.5 * (np.log(c / CURVATURE) / CURVATURE_SPREAD) ** 2
    for diverged in [one for one in tried if not one.has_score]:
        log_weight += log_ndtr((c * (math.log10(diverged.spec.lr) - o) ** 2 - DIVERGES) / NOISE)
    log_weight += _compute_log_likelihood([one for one in tried if one.has_score], o, c)
    weight = np.exp(log_weight - log_weight.max())
    weight /= weight.sum()
    mean = float(weight @ o)
    return RateFit(best=round_rate(10**mean), spread=float(np.sqrt(weight @ (o - mean) ** 2)), trainings=len(tried))


def _compute_log_likelihood(tried: Sequence[TrialResult], o: Floats, c: Floats) -> Floats:
    """Compute the log-likelihood (G,) of the values at each grid point, with the families' levels at their mode."""
    if not tried:
        return np.zeros_like(o)
    names = sorted({one.spec.family for one in tried})
    is_family = np.array([[one.spec.family == name for one in tried] for name in names], dtype=np.float64)  # (F, N)
    x = np.array([math.log10(one.spec.lr) for one in tried])
    y = np.array([one.value for one in tried], dtype=np.float64)
    flat = y + c[:, None] * (x - o[:, None]) ** 2  # (G, N): values shifted to the optimum
    weight = np.ones_like(flat)
    level = np.zeros((len(o), len(names)))
    for _ in range(_ROUNDS):  # the t distribution as normals of unequal variances
        precision = weight @ is_family.T / NOISE**2
        sums = (weight * flat) @ is_family.T / NOISE**2
        shrunk = precision / (precision * LEVELS**2 + 1)
        middle = (shrunk * (sums / precision)).sum(axis=1) / shrunk.sum(axis=1)
        level = (sums + middle[:, None] / LEVELS**2) / (precision + 1 / LEVELS**2)
        residual = flat - level @ is_family
        weight = (TAILS + 1) / (TAILS + (residual / NOISE) ** 2)
    far = np.log1p((residual / NOISE) ** 2 / TAILS).sum(axis=1)
    likelihood: Floats = -0.5 * (TAILS + 1) * far - 0.5 * (((level - middle[:, None]) / LEVELS) ** 2).sum(axis=1)
    return likelihood


def choose_search_rate(fitted: RateFit, searched: Coordinate, number: int, *, curve: bool = True) -> float:
    """Return the learning rate of a family's trial `number` (from 0), near the current estimate of the optimum.

    The first is the middle, the second and third the ends, so that three trials show a curve; the others are in
    between. Without `curve` the family's first trials have different configurations and stay near the optimum, as a
    score at the end of the range says little about them.
    """
    near_best = _clip_range(fitted.best, MIN_SEARCH_DECADES + fitted.spread / 2, searched)
    # The upper end first: a short training tolerates a high rate better than a low one.
    first = (0.5, 1.0, 0.0) if curve else (0.5, 0.75, 0.5)
    place = first[number] if number < len(first) else 1 - _compute_van_der_corput(number - 2)
    return searched.clip(round_rate(near_best.low * (near_best.high / near_best.low) ** place))


def choose_confirmation_range(best: float, searched: Coordinate) -> RateRange:
    """Return the confirmation's range of rates: `RATE_DECADES` on either side of `best`, within the searched range."""
    return _clip_range(best, RATE_DECADES, searched)


def _clip_range(best: float, reach: float, searched: Coordinate) -> RateRange:
    return RateRange(best=best, low=max(searched.low, best / 10**reach), high=min(searched.high, best * 10**reach))


def draw_rate(drawn: RateRange, number: int) -> float:
    """Return the learning rate of confirmation seed `number` (from 0), by van der Corput's sequence over the range.

    Any number of its first points fills the range evenly; the first is the geometric middle, which is recommended.
    """
    return round_rate(drawn.low * (drawn.high / drawn.low) ** _compute_van_der_corput(number))


def _compute_van_der_corput(number: int) -> float:
    place, digit, remainder = 0.0, 0.5, number + 1
    while remainder:
        place, digit, remainder = place + digit * (remainder % 2), digit / 2, remainder // 2
    return place


def round_rate(rate: float) -> float:
    """Round a rate to three significant digits."""
    return float(f"{rate:.3g}")
