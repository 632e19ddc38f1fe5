"""The answer to an image that maximises its expected Dice or IoU, from its pixels' probabilities (RankDice, RankIoU).

Of all answers with k pixels the best takes the k most probable ones, so that the answer is a threshold, but one of each
image's own (Dai & Li, *RankSEG*, JMLR 2023, theorem 1). With A of the k taken pixels and B of the others foreground,
independently of each other,

    Dice_k = E[2 A / (k + A + B)],    IoU_k = E[A / (k + B)],    0/0 = 0,

as there. Since 1/m = ∫₀¹ tᵐ⁻¹ dt, both are exact integrals of the generating functions E[tᴮ] = Π (1 − p + p t):

    Dice_k = 2 ∫₀¹ tᵏ Π_i (1 − p_i + p_i t) Σ_{j taken} p_j / (1 − p_j + p_j t) dt
    IoU_k  = Σ_{j taken} p_j · ∫₀¹ tᵏ⁻¹ Π_{i not taken} (1 − p_i + p_i t) dt

for which a sum over some 50 values of t does (the trapezoidal rule in log(−log t), whose error falls exponentially):
no blind or normal approximation of a sum of pixels, no pruning. Pixels come as counts per bin of logits: those of one
bin are taken together.
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Overlap = Literal["dice", "iou"]
_STEP = 0.5
_CELLS = 4_000_000
"""Most numbers held at a time (32 MB)."""


def expected_overlap(pixels: npt.ArrayLike, probabilities: npt.ArrayLike, overlap: Overlap = "dice") -> Floats:
    """(n, B − 1) expected Dice or IoU of each image, answered as foreground from each inner edge between bins on.

    Args:
        pixels: (n, B) how many pixels of each image lie in each bin; ascending probability.
        probabilities: (B,) of the foreground, in (0, 1).
        overlap: dice or iou.
    """
    counts = np.asarray(pixels, dtype=np.float64)
    p = np.asarray(probabilities, dtype=np.float64)
    s, weights = _nodes(float(counts.sum(axis=1).max(initial=1.0)))
    found = np.zeros((len(counts), len(p) - 1))
    at_once = max(1, _CELLS // (len(p) * len(s)))
    for start in range(0, len(counts), at_once):
        part = counts[start : start + at_once]
        found[start : start + at_once] = (_dice if overlap == "dice" else _iou)(part, p, s, weights)
    return found


def best_edges(pixels: npt.ArrayLike, probabilities: npt.ArrayLike, overlap: Overlap = "dice") -> npt.NDArray[np.intp]:
    """(n,) the inner edge, 0 to B − 2, from which on an answer has the highest expectation; the highest of equals."""
    expected = expected_overlap(pixels, probabilities, overlap)
    best: npt.NDArray[np.intp] = expected.shape[1] - 1 - expected[:, ::-1].argmax(axis=1)
    return best


def _nodes(most: float) -> tuple[Floats, Floats]:
    """Values of s = −log t and their weights in ∫₀^∞ … ds, for sums of up to 2 `most` pixels."""
    low, high = np.log(1e-3 / (2 * most)), np.log(40.0)
    u = np.arange(low, high + _STEP, _STEP)
    s = np.exp(u)
    weights = _STEP * s
    weights[0] /= 1 - np.exp(-_STEP)  # all values below, where what is integrated hardly changes
    return s, weights


def _taken(values: Floats) -> Floats:
    """Sums over the bins above each inner edge, along axis 1: (n, B, …) → (n, B − 1, …)."""
    sums: Floats = values[:, ::-1].cumsum(axis=1)[:, ::-1][:, 1:]
    return sums


def _dice(counts: Floats, p: Floats, s: Floats, weights: Floats) -> Floats:
    rest = -np.expm1(-s)  # 1 − t
    factor = 1 - p[:, None] * rest
    whole = counts @ np.log(factor)  # (n, Q) log of the product over all pixels
    taken = _taken(counts[:, :, None] * (p[:, None] / factor))
    size = _taken(counts)
    # t^k dt is exp(−(k + 1) s) ds.
    value: Floats = 2 * np.einsum("q,nkq,nkq->nk", weights, np.exp(whole[:, None] - (size[:, :, None] + 1) * s), taken)
    return value


def _iou(counts: Floats, p: Floats, s: Floats, weights: Floats) -> Floats:
    factor = np.log(1 - p[:, None] * -np.expm1(-s))
    outside = (counts[:, :, None] * factor).cumsum(axis=1)[:, :-1]  # bins below each inner edge
    size = _taken(counts)
    value: Floats = np.einsum("q,nkq->nk", weights, np.exp(outside - size[:, :, None] * s))
    return np.where(size > 0, _taken(counts * p) * value, 0.0)
