"""Learning rates: one optimum for all losses, found once, before anything is compared.

AdamW is invariant to the scale of a loss, so the losses of one data set need much the same rate: in three real sweeps
all finalists were best at the same one. So the ladder's two losses are trained at the middle of the searched rates and
at `FACTOR` times it, and at a `FACTOR`-th of it unless both were better at the higher one. The optimum is estimated by

  value = a_family − c (x − o)²,       x = log10(learning rate),

with a_family ~ N(m, (10 u)²) and noise of Student's t with a scale of 2 u, u = 0.01 mIoU. A diverged training has no
value; it indicates that c (x − o)² is large. o and c are integrated over a grid, with a_family at its mode and m at the
families' mean. The rate is the mean of o.

All trials of the search have this rate. Fresh seeds draw from it ± `RATE_DECADES`, all losses the same rate at the same
seed; the rate's share of the variance is in every interval. In the user's script, whose optimiser may not be invariant,
each loss tries the three factors on the script's own rate, and keeps its best, as in `sweeper confirm`.

Everything here is on the logarithm of the rate. Pure; no torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt
from scipy.special import log_ndtr

from sweeper.core.records import Coordinate, RateRange, TrialResult
from sweeper.space import get_middle_rate

FACTOR = 3.0
"""Factor between the rates that are tried."""
RATE_DECADES = 0.22
"""Decades on either side of the rate that fresh seeds draw from: what a user would call the same rate."""
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


def list_tried_rates(searched: Coordinate) -> tuple[float, ...]:
    """Return the rates that are tried: the middle, a higher one, a lower one; only the middle of a single rate."""
    middle = get_middle_rate(searched)
    if is_one_rate(searched):
        return (middle,)
    return middle, *(searched.clip(round_rate(factor * middle)) for factor in (FACTOR, 1 / FACTOR))


def needs_lower_rate(tried: Iterable[TrialResult], searched: Coordinate) -> bool:
    """Return whether the lower rate is to be tried: not where each loss scored more at the higher than at the middle.

    `tried` are complete trainings at both.
    """
    middle, higher, *_ = list_tried_rates(searched)
    scores = {(one.spec.family, one.spec.lr): one.score for one in tried}
    gains = [scores.get((family, higher), 0.0) - value for (family, lr), value in scores.items() if lr == middle]
    return min(gains, default=0.0) <= 0


def fit_rate(tried: Sequence[TrialResult], searched: Coordinate) -> float:
    """Estimate the rate that all losses share, by the model above.

    `tried` are complete trainings on one seed, in any order; without any it is the middle of `searched`.
    """
    if not tried or is_one_rate(searched):
        return get_middle_rate(searched)
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
    return round_rate(10 ** float(weight @ o / weight.sum()))


def choose_best_rate(tried: Iterable[TrialResult], searched: Coordinate) -> float:
    """Return the rate with the best value; of equal ones the nearest to the middle, and that without any."""
    middle = get_middle_rate(searched)
    scored = [one for one in tried if one.has_score]
    best = min(scored, key=lambda one: (-one.score, abs(math.log(one.spec.lr / middle))), default=None)
    return middle if best is None else best.spec.lr


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


def choose_drawn_range(rate: float, searched: Coordinate) -> RateRange:
    """Return the rates that fresh seeds draw from: those around `rate` that are searched."""
    reach = 10**RATE_DECADES
    return RateRange(low=max(searched.low, rate / reach), high=min(searched.high, rate * reach))


def draw_rate(drawn: RateRange, number: int) -> float:
    """Return the learning rate of fresh seed `number` (from 0), by van der Corput's sequence over the range.

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
