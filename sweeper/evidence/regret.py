"""Regret of each finalist, what it may cost against the best of them, from a hierarchical model.

The finalists' true means μ_f are modelled as draws from one normal population N(m, τ²), with m unknown and τ
half-Cauchy with a scale of `SPREAD`: tuned losses on one data set differ by a percent or two of mIoU; where they differ
by ten, its heavy tail gives way to the measurement. Only differences count, so m drops out and everything happens in
the K − 1 contrasts B of the K finalists. Their measurement is

  y = Bᵀ D,     y | μ ~ N(Bᵀ μ, σ C_seed + ω C_image),     Bᵀ μ ~ N(0, τ² I)

with D the paired differences to one finalist, and C the covariances that follow from the pairs' variances V (for a
contrast −½ Bᵀ V B; negative eigenvalues are set to 0): those over seeds, and those over images without the
interaction. Two seeds say little about a variance, so the variance over seeds has a prior, as if k = `PRIOR_DEGREES`
more degrees of freedom had shown a standard deviation of u = `PRIOR_DEVIATION` hundredths between single seeds:

  v ← (ν v + k u² / S) / (ν + k)        on ν + k degrees of freedom, ν those of the pair

Both variances are estimates and have factors of their own, σ = ν/χ²_ν for each pair and ω = (n − 1)/χ²_{n−1}, each at
`SCALES` quantiles. Given τ, σ and ω everything is normal. The cells of a grid over τ and (σ, ω) are weighted by prior ×
marginal likelihood, and `DRAWS` quasi-random points (Sobol) of each cell make the posterior of μ.

In each draw the regret of f is max_g μ_g − μ_f. bench/answer.md has how often the bound holds in simulated sweeps.

Sources: Chick & Inoue, *New two-stage and sequential procedures for selecting the best simulated system* (Operations
Research 2001), where the regret is called opportunity cost; Gelman, *Prior distributions for variance parameters in
hierarchical models* (Bayesian Analysis 2006).
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import TypeVar

import numpy as np
from scipy.special import chdtri, ndtri
from scipy.stats import qmc

from sweeper.core.records import Contest, Regret
from sweeper.evidence.interim_analyses import count_common_seeds
from sweeper.evidence.intervals import LEVEL, Floats
from sweeper.evidence.verdict_predicates import count_image_degrees, get_difference, is_measured

SPREAD = 0.02
"""Scale of the half-Cauchy prior of τ, in mIoU: 2 hundredths, which `Scale` defines for other scores."""
BOUND = 0.98
"""Posterior probability of the bound that is printed as 95 %; at another level the rest is as many times smaller or
larger. It makes the bound hold in 95 % of simulated sweeps, in
which the recommended finalist has the least expected regret and any of up to five interim analyses may end the
confirmation once the bound is small enough (bench/answer.md)."""
PRIOR_DEGREES, PRIOR_DEVIATION = 3.0, 1.5
"""Prior of a variance over seeds: degrees of freedom, and standard deviation of one seed's difference in hundredths."""
SCALES = 8
DRAWS = 256
_UNIT = 1e-5
_TAU = np.geomspace(4e-4, 0.8, 14)


Compared = TypeVar("Compared", bound=Contest)


def add_regrets(evidence: Compared) -> Compared:
    """Return the evidence with each finalist's regret, if that is known."""
    regrets = compute_regrets(evidence)
    if regrets is None:
        return evidence
    rows = [row.model_copy(update={"regret": regret}) for row, regret in zip(evidence.finalists, regrets, strict=True)]
    return evidence.model_copy(update={"finalists": tuple(rows)})


def compute_regrets(evidence: Contest) -> tuple[Regret, ...] | None:
    """Compute the regret of each finalist, in the order of `Evidence.finalists`.

    None with fewer than two finalists, or where the variance of a pair is unknown (fewer than two common seeds or
    images).
    """
    drawn = draw_posterior(evidence)
    if drawn is None:
        return None
    means, weights = drawn
    regret = means.max(axis=1, keepdims=True) - means  # (draws, K)
    expected = weights @ regret
    mious, share = _get_miou_scale(evidence), 1 - (1 - BOUND) * (1 - evidence.level) / (1 - LEVEL)
    base = evidence.baseline
    gains = np.zeros_like(means) if base is None else means - means[:, [base]]
    better = [None if base is None else min(1.0, float(weights[gain > 0].sum())) for gain in gains.T]
    return tuple(
        Regret(
            expected=float(expected[k]),
            bound=_compute_quantile(regret[:, k] / mious, weights, share) * mious,
            best=min(1.0, float(weights[regret[:, k] <= 0].sum())),
            better=better[k],
            gain=float(weights @ gains[:, k]),
        )
        for k in range(means.shape[1])
    )


def draw_posterior(evidence: Contest) -> tuple[Floats, Floats] | None:
    """Draw the finalists' means (R, K), up to a constant, and weights (R,) of sum 1; None as in `compute_regrets`."""
    size = len(evidence.finalists)
    pairs = [(i, j) for i in range(size) for j in range(i)]
    if size < 2 or not all(is_measured(evidence, i, j) for i, j in pairs):
        return None
    v_seed, v_image, freedom = np.zeros((size, size)), np.zeros((size, size)), np.ones((size, size))
    for i, j in pairs:
        gap, seeds = get_difference(evidence, i, j), count_common_seeds(evidence, i, j)
        v_image[i, j] = v_image[j, i] = gap.se_image**2
        if math.isinf(seeds):
            continue  # the conclusion is about these networks: their variance over seeds is not in question
        degrees = seeds - 1 + gap.borrowed
        prior = PRIOR_DEGREES * (PRIOR_DEVIATION * evidence.scale.hundredth) ** 2 / seeds
        variance = (degrees * gap.se_seed**2 + prior) / (degrees + PRIOR_DEGREES)
        v_seed[i, j] = v_seed[j, i] = variance
        freedom[i, j] = freedom[j, i] = degrees + PRIOR_DEGREES
    # Differences to the best finalist, as every other pair may have fewer seeds.
    centre = np.array([get_difference(evidence, i, 0).estimate if i else 0.0 for i in range(size)])
    one = _get_miou_scale(evidence)
    drawn, weights = _draw_means(
        centre / one, v_seed / one**2, freedom, v_image / one**2, count_image_degrees(evidence)
    )
    return drawn * one, weights


def _get_miou_scale(evidence: Contest) -> float:
    """Return what a difference of 1 mIoU is in the score's own unit."""
    return evidence.scale.hundredth / 0.01


def _draw_means(
    centre: Floats, v_seed: Floats, freedom: Floats, v_image: Floats, of_image: float
) -> tuple[Floats, Floats]:
    size = len(centre)
    basis = _make_contrasts(size)
    y = basis.T @ centre
    shares = (np.arange(SCALES) + 0.5) / SCALES
    # Each factor takes every quantile once, in an order that leaves the two uncorrelated.
    of_seeds = v_seed * freedom / chdtri(freedom, shares[:, None, None])  # (scales, K, K)
    of_images = of_image / chdtri(of_image, shares[_SHUFFLED]) if math.isfinite(of_image) else np.ones(SCALES)
    noise = _make_covariance(of_seeds, basis) + of_images[:, None, None] * _make_covariance(v_image, basis)
    spread = _TAU[None, :, None, None] ** 2  # (scales, τ, K − 1, K − 1) from here on
    eye = np.eye(size - 1)
    total = spread * eye + noise[:, None]
    precision = np.linalg.inv(total)
    likelihood = -0.5 * np.linalg.slogdet(total)[1] - 0.5 * np.einsum("i,stij,j->st", y, precision, y)
    prior = _TAU / (1 + (_TAU / SPREAD) ** 2)  # the grid is geometric
    weights = prior * np.exp(likelihood - likelihood.max())
    mean = (spread * precision) @ y
    values, vectors = np.linalg.eigh(spread * eye - spread * precision * spread)
    root = vectors * np.sqrt(np.clip(values, 0, None))[..., None, :]
    contrasts = mean[..., None, :] + np.einsum("stij,rj->stri", root, _make_normal_points(size - 1))
    drawn = (contrasts @ basis.T).reshape(-1, size)
    return drawn, np.repeat((weights / weights.sum()).ravel() / DRAWS, DRAWS)


_SHUFFLED = np.array([4, 1, 6, 3, 0, 7, 2, 5])


@lru_cache(maxsize=16)
def _make_contrasts(size: int) -> Floats:
    """Make (K, K − 1) orthonormal columns, each orthogonal to the constant."""
    full, _ = np.linalg.qr(np.column_stack([np.ones(size), np.eye(size)[:, : size - 1]]))
    basis: Floats = full[:, 1:]
    return basis


def _make_covariance(pairs: Floats, basis: Floats) -> Floats:
    """Compute the covariance of the contrasts from variances (…, K, K) of differences, without negative eigenvalues."""
    values, vectors = np.linalg.eigh(-0.5 * basis.T @ pairs @ basis)
    near: Floats = (vectors * np.clip(values, 1e-12, None)[..., None, :]) @ np.swapaxes(vectors, -1, -2)
    return near


@lru_cache(maxsize=16)
def _make_normal_points(dimensions: int) -> Floats:
    """Make (DRAWS, dimensions) standard normal points that fill the space evenly; always the same."""
    points: Floats = ndtri(np.clip(qmc.Sobol(dimensions, seed=1).random(DRAWS), 1e-6, 1 - 1e-6))
    return points


def _compute_quantile(values: Floats, weights: Floats, share: float) -> float:
    """Compute the weighted quantile of values ≥ 0, rounded up to a whole `_UNIT`, which avoids a slow sort."""
    unit = max(_UNIT, float(values.max()) / 1e6)  # limits the memory where scores are large compared with the margin
    counted = np.bincount(np.ceil(values / unit).astype(np.intp), weights=weights)
    return float(min(int(np.searchsorted(np.cumsum(counted), share)), len(counted) - 1) * unit)
