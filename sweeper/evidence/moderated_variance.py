"""Variances over few seeds, moderated by those of the other pairs of finalists.

Three seeds leave 2 degrees of freedom to a pair's variance, and one that came out small by chance makes a winner, one
that came out large hides it. All pairs were trained by one recipe on one data set, so that their variances are alike,
though not equal: each is drawn towards their mean as far as the data say that they are alike (empirical Bayes, as limma
does for the genes of a microarray):

    s̃² = ((S − 1) s² + d₀ p²) / (S − 1 + d₀)        on S − 1 + d₀ degrees of freedom

with p² the mean of the pairs' variances. d₀, the degrees of freedom that the others lend, is the smallest of

- `MOST`;
- (K − 2)(S − 1): the K (K − 1) / 2 pairs of K finalists share their trainings, and know no more than K − 1 contrasts of
  them do, of which one is the pair's own;
- 2 ψ'⁻¹(var(log s²) − ψ'((S − 1) / 2)): what the spread of the variances allows (ψ' is the trigamma function; where
  they spread no more than chance would, this is no bound). It keeps one noisy loss from lending its variance to the
  others, and them from lending theirs to it.

Less than `LEAST` degrees of freedom are not lent: the pairs then differ so much that their mean stands for none of
them. A loss that collapsed on one of five seeds has 500 times the variance of the others; half a degree of freedom
towards that mean hid a gain of 0.03 in half of the simulated sweeps, which the own seeds show (bench/verdict.md).

With two finalists nothing changes.

Source: Smyth, *Linear models and empirical Bayes methods for assessing differential expression in microarray
experiments* (Statistical Applications in Genetics and Molecular Biology 2004), section 6.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.special import polygamma

from sweeper.evidence.intervals import Floats

MOST = 4.0
"""Degrees of freedom that the other pairs lend at most: losses may differ in noise, and their own seeds must count."""

LEAST = 1.0
"""Fewer degrees of freedom than this are not lent."""


def moderate_variances(variances: Floats, seeds: npt.NDArray[np.intp], finalists: int) -> tuple[Floats, float]:
    """Return the variances of a single seed's difference, shrunk to their mean, and the borrowed degrees of freedom.

    Args:
        variances: (P,) s² ≥ 0 of each pair, from `seeds` seeds.
        seeds: (P,) common seeds of each pair, ≥ 2.
        finalists: K of whom the pairs are; with fewer than 3 nothing is borrowed.
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
    borrowed = min(MOST, float((finalists - 2) * degrees.min()))
    if beyond_chance > 0:
        borrowed = min(borrowed, 2 * _invert_trigamma(beyond_chance))
    return borrowed if borrowed >= LEAST else 0.0


def _invert_trigamma(value: float) -> float:
    """X > 0 with ψ'(x) = value > 0, by Newton's method on 1 / ψ', which converges from below (Smyth 2004, appendix)."""
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
