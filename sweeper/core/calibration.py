"""Calibration of a network's logits to probabilities: σ(slope · z + bias), softmax(slope · z + biases).

Class weights and overlap losses shift and sharpen logits, so that σ(z) is no true probability, and 0.5 no neutral
threshold. A temperature (slope without bias) does not change the answer at 0.5. Slope and bias together are Platt's
scaling (*Probabilistic outputs for support vector machines*, 1999), fitted on counts per bin of logits. For several
classes, one slope and a bias each are bias-corrected temperature scaling (Alexandari, Kundaje & Shrikumar, *Maximum
likelihood with bias-corrected calibration is hard-to-beat at label shift adaptation*, ICML 2020), fitted on single
pixels.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from pydantic import Field

from sweeper.core.base import Record
from sweeper.core.operating_points import BINS, LOGIT_RANGE
from sweeper.core.records import ImageCounts

Floats = npt.NDArray[np.float64]
LOGITS: Floats = -LOGIT_RANGE + 2 * LOGIT_RANGE * (np.arange(BINS) + 0.5) / BINS
"""Middle of each bin, (512,); the end bins include everything beyond them."""
_SLOPES = (0.01, 100.0)
_ROUNDS = 100


class Calibration(Record):
    """p = σ(slope · logit + bias)."""

    slope: float = Field(1.0, gt=0)
    bias: float = 0.0

    @property
    def bin_probabilities(self) -> Floats:
        """(512,) the probability of a pixel in each bin of logits, in (0, 1)."""
        return self.compute_probability(LOGITS)

    def compute_probability(self, logits: npt.ArrayLike) -> Floats:
        """Compute probabilities in (0, 1) from logits of any shape."""
        z = np.clip(self.slope * np.asarray(logits, dtype=np.float64) + self.bias, -30.0, 30.0)
        probability: Floats = 1 / (1 + np.exp(-z))
        return probability


class ClassCalibration(Record):
    """p = softmax(slope · logits + biases) of several classes."""

    slope: float = Field(1.0, gt=0)
    biases: tuple[float, ...]
    """(C,)"""


def fit_classes(logits: npt.ArrayLike, labels: npt.ArrayLike) -> ClassCalibration:
    """Fit the slope and the biases by maximum likelihood.

    Args:
        logits: (n, C) of single pixels, finite; n at least 1.
        labels: (n,) their true classes.

    A normal prior of standard deviation 1 on the biases, with the weight of about one pixel, keeps the bias of a class
    without pixels finite.
    """
    from scipy.optimize import minimize
    from scipy.special import log_softmax

    z, true = np.asarray(logits, dtype=np.float64), np.asarray(labels, dtype=np.intp)
    rows = np.arange(len(z))

    def loss(at: Floats) -> tuple[float, Floats]:
        shares = log_softmax(at[0] * z + at[1:], axis=1)
        off = np.exp(shares)
        off[rows, true] -= 1
        value = at[1:] @ at[1:] / 2 - shares[rows, true].sum()
        return float(value), np.concatenate([[(off * z).sum()], off.sum(axis=0) + at[1:]])

    start = np.concatenate([[1.0], np.zeros(z.shape[1])])
    bounds = [_SLOPES, *[(None, None)] * z.shape[1]]
    at = minimize(loss, start, jac=True, method="L-BFGS-B", bounds=bounds).x
    return ClassCalibration(slope=float(at[0]), biases=tuple(at[1:].tolist()))


def fit_calibration(histogram: npt.ArrayLike) -> Calibration:
    """Fit slope and bias by maximum likelihood, by Newton's method with step halving.

    Args:
        histogram: (2, 512) pixels of each true class by bin of logits, as in `ImageCounts`.

    The targets are Platt's, (N₊ + 1)/(N₊ + 2) and 1/(N₋ + 2), which keep the fit finite for classes that a threshold
    separates perfectly. Slope 1 and bias 0 where a class has no pixel, or higher logits do not mean foreground.
    """
    counts = np.asarray(histogram, dtype=np.float64)
    negative, positive = counts.sum(axis=1)
    if not negative or not positive:
        return Calibration()
    pixels = counts.sum(axis=0)
    share = (counts[1] * (positive + 1) / (positive + 2) + counts[0] / (negative + 2)) / np.maximum(pixels, 1)

    def loss(at: Floats) -> float:
        z = at[0] * LOGITS + at[1]
        return float(pixels @ (np.logaddexp(0, z) - share * z))

    at, value = np.array([1.0, 0.0]), np.inf
    for _ in range(_ROUNDS):
        value = loss(at)
        p = 1 / (1 + np.exp(-np.clip(at[0] * LOGITS + at[1], -700, 700)))
        off, curve = pixels * (p - share), pixels * p * (1 - p)
        slope = np.array([off @ LOGITS, off.sum()])
        second = np.array([[curve @ LOGITS**2, curve @ LOGITS], [curve @ LOGITS, curve.sum()]])
        step = np.linalg.solve(second + 1e-9 * np.eye(2), slope)
        length = 1.0
        while loss(at - length * step) > value and length > 1e-6:
            length /= 2
        at = at - length * step
        if np.abs(length * step).max() < 1e-9:
            break
    if not np.isfinite(at).all() or not _SLOPES[0] <= at[0] <= _SLOPES[1]:
        return Calibration()
    return Calibration(slope=float(at[0]), bias=float(at[1]))


def fit_counts(counts: ImageCounts | None) -> Calibration | None:
    """Fit the calibration to all images of a binary task; None without counts, or for more classes."""
    if counts is None or counts.kind != "histogram":
        return None
    return fit_calibration(counts.data.sum(axis=0, dtype=np.int64))


def count_calibration_gaps(histogram: npt.NDArray[np.int64], calibration: Calibration, bins: int = 30) -> Floats:
    """Compute the sums of the expected calibration error: (..., 30, 3) from counts (..., 2, 512).

    Per bin of the winning class's probability: pixels, pixels that p ≥ 0.5 answers right, and their confidence, as in
    `TestDetail.confidence`; input of `sweeper.core.detail_scores.compute_calibration_error`.
    """
    p = calibration.bin_probabilities
    confidence = np.maximum(p, 1 - p)
    place = np.minimum((confidence * bins).astype(np.int64), bins - 1)
    right = np.where(p >= 0.5, histogram[..., 1, :], histogram[..., 0, :])
    pixels = histogram.sum(axis=-2)
    weighted = np.stack([pixels, right, pixels * confidence], axis=-1).astype(np.float64)  # (..., 512, 3)
    gaps = np.zeros((*weighted.shape[:-2], bins, 3))
    for b in range(bins):
        gaps[..., b, :] = weighted[..., place == b, :].sum(axis=-2)
    return gaps
