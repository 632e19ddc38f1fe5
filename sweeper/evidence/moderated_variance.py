"""Variances over few seeds, moderated by those of the other pairs of finalists.

Three seeds leave a pair's variance 2 degrees of freedom: an estimate that is too small by chance makes a false winner,
one that is too large hides a real one. All pairs were trained by one recipe on one data set, so their variances are
similar, though not equal: each is shrunk towards their mean as far as the data support (empirical Bayes, as limma does
for the genes of a microarray):

  s̃² = ((S − 1) s² + d₀ p²) / (S − 1 + d₀)        on S − 1 + d₀ degrees of freedom

with p² the mean of the pairs' variances. d₀, the degrees of freedom borrowed from the other pairs, is the smallest of

- `MAX_BORROWED`;
- (K − 2)(S − 1): the K (K − 1) / 2 pairs of K finalists share their trainings and have only K − 1 independent
  contrasts, of which one is the pair's own;
- 2 ψ'⁻¹(var(log s²) − ψ'((S − 1) / 2)): what the spread of the variances allows (ψ' is the trigamma function; no bound
  where they spread no more than by chance). It keeps one noisy loss from changing the variances of the others, and them
  from changing its own.

Fewer than `MIN_BORROWED` degrees of freedom are not borrowed: the pairs then differ too much for a common mean. A loss
that collapsed on one of five seeds has 500 times the variance of the others; half a degree of freedom towards that mean
hid a gain of 0.03, evident from the pair's own seeds, in half of the simulated sweeps (bench/answer.md).

With two finalists nothing changes.

Source: Smyth, *Linear models and empirical Bayes methods for assessing differential expression in microarray
experiments* (Statistical Applications in Genetics and Molecular Biology 2004), section 6.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import polygamma

from sweeper.evidence.intervals import Floats

MAX_BORROWED = 4.0
"""Most degrees of freedom that are borrowed: losses may differ in noise, and a pair's own seeds must count."""

MIN_BORROWED = 1.0
"""Fewer degrees of freedom than this are not borrowed."""


def moderate_variances(variances: Floats, seeds: npt.NDArray[np.intp], finalists: int) -> tuple[Floats, float]:
    """Return the variances of a single seed's difference, shrunk to their mean, and the borrowed degrees of freedom.

    Args:
        variances: (P,) s² ≥ 0 of each pair, from `seeds` seeds.
        seeds: (P,) common seeds of each pair, ≥ 2.
        finalists: K, the number of finalists; with fewer than 3 nothing is borrowed.
    """
    borrowed = _borrow_variance(variances, seeds - 1, finalists)
    degrees = seeds - 1
    mean = variances.mean() if len(variances) else 0.0
    return (degrees * variances + borrowed * mean) / (degrees + borrowed), borrowed


def _borrow_variance(variances: Floats, degrees: npt.NDArray[np.intp], finalists: int) -> float:
    positive = variances > 0
    if finalists < 3 or positive.sum() < 2:
        return 0.0
    logs = np.log(variances[positive])
    beyond_chance = float(logs.var(ddof=1) - polygamma(1, degrees[positive] / 2).mean())
    borrowed = min(MAX_BORROWED, float((finalists - 2) * degrees.min()))
    if beyond_chance > 0:
        borrowed = min(borrowed, 2 * _invert_trigamma(beyond_chance))
    return borrowed if borrowed >= MIN_BORROWED else 0.0


def _invert_trigamma(value: float) -> float:
    """Solve ψ'(x) = value > 0 for x > 0 by Newton's method on 1 / ψ', which converges from below (Smyth 2004)."""
    if value > 1e7:
        return float(1 / np.sqrt(value))
    if value < 1e-6:
        return 1 / value
    x = 0.5 + 1 / value
    for _ in range(50):
        trigamma = float(polygamma(1, x))
        change = trigamma * (1 - trigamma / value) / float(polygamma(2, x))
        x += change
        if -change / x < 1e-10:
            break
    return x
