"""How probable it is that each finalist is the best: one number for readers who think in odds.

The true means are drawn around the estimates, with both sources of variance and everything that the finalists share
(the same pictures, the same seeds):

- seeds: the deviations of each finalist's seeds from its mean, each seed with one standard normal weight that all
  finalists share, over √(S (S − 1)), and widened to Student's t by √((S − 1) / χ²);
- pictures: normal with the covariance of the columns of the finalists' picture tables, less the interaction's (see
  `sweeper.evidence.intervals`).

It is a flat-prior (Bayesian) reading of the intervals and decides nothing: the verdict is the intervals'.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from scipy.special import chdtri

from sweeper.evidence.intervals import Floats, PictureTable

DRAWS = 10_000
"""The Monte-Carlo error is below 0.5 percentage points."""


def probability_best(
    finalists: Sequence[Mapping[int, int]], table: PictureTable, rng: np.random.Generator, draws: int = DRAWS
) -> tuple[float | None, ...]:
    """Probability that each finalist's true mean is the highest; ties share.

    Args:
        finalists: of each, seed → row of `table`.
        table: the score of all runs.
        rng: draws; the same state gives the same numbers.
        draws: number of draws.

    Returns:
        One per finalist, summing to 1; None for all with fewer than two finalists or pictures, or where one has fewer
        than two seeds: a variance is unknown then.
    """
    if len(finalists) < 2 or table.pictures < 2 or min(map(len, finalists)) < 2:
        return (None,) * len(finalists)
    rows = [list(f.values()) for f in finalists]
    centre = np.array([table.scores[r].mean() for r in rows])
    noise = rng.standard_normal((draws, len(finalists))) @ _root(_picture_covariance(rows, table)).T
    seeds = sorted({seed for f in finalists for seed in f})
    weights = rng.standard_normal((draws, len(seeds)))
    tail = rng.random(draws)
    for k, finalist in enumerate(finalists):
        size = len(finalist)
        deviations = table.scores[rows[k]] - centre[k]
        shared = weights[:, [seeds.index(s) for s in finalist]] @ deviations / np.sqrt(size * (size - 1))
        noise[:, k] += shared * np.sqrt((size - 1) / chdtri(size - 1, tail))
    drawn = centre + noise
    best = drawn >= drawn.max(axis=1, keepdims=True)
    shares = (best / best.sum(axis=1, keepdims=True)).mean(axis=0)
    return tuple(float(share) for share in shares)


def _picture_covariance(rows: Sequence[Sequence[int]], table: PictureTable) -> Floats:
    """(F, F) covariance of the finalists' means from the choice of pictures, beyond the interaction."""
    n = table.pictures
    columns = np.stack([table.shares[list(r)].mean(axis=0) for r in rows])
    covariance: Floats = columns @ columns.T / (n * (n - 1))
    for k, r in enumerate(rows):
        residuals = table.shares[list(r)] - columns[k]
        covariance[k, k] -= np.square(residuals).sum() / ((len(r) - 1) * (n - 1) * len(r) * n)
    return covariance


def _root(covariance: Floats) -> Floats:
    """A square root of the nearest covariance matrix without negative eigenvalues."""
    values, vectors = np.linalg.eigh(covariance)
    root: Floats = vectors * np.sqrt(np.clip(values, 0.0, None))
    return root
