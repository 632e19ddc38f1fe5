"""RankDice: the answer to an image that maximises its expected Dice, from its pixels' probabilities.

Of all answers with k pixels the best takes the k most probable ones, so it is a threshold, but one per image (Dai & Li,
*RankSEG*, JMLR 2023, theorem 1). If A of the k taken pixels and B of the others are foreground, independently of each
other,

  Dice_k = E[2 A / (k + A + B)],    k > 0

No pixel is taken if the probability of an empty image, Π (1 − p), is higher than all of these: by the project's
convention (`sweeper.core.metrics`) an empty image then scores 1, and 0 with any other answer.

Since 1/m = ∫₀¹ tᵐ⁻¹ dt, it is an exact integral of the generating function E[tᴬ⁺ᴮ] = Π (1 − p + p t):

  Dice_k = 2 ∫₀¹ tᵏ Π_i (1 − p_i + p_i t) Σ_{j taken} p_j / (1 − p_j + p_j t) dt

A sum over some 50 values of t is enough (the trapezoidal rule in log(−log t), whose error falls exponentially): there
is no blind or normal approximation of a sum of pixels, and no pruning. Pixels come as counts per bin of logits, and
those of one bin are taken together.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
_STEP = 0.5
_CELLS = 4_000_000
"""Most numbers held at a time (32 MB)."""


def compute_expected_dice(pixels: npt.ArrayLike, probabilities: npt.ArrayLike) -> Floats:
    """Compute each image's expected Dice (n, B − 1) if all bins above an inner edge are foreground.

    Args:
        pixels: (n, B) number of pixels of each image in each bin; ascending probability.
        probabilities: (B,) of the foreground, in (0, 1).
    """
    counts, p = np.asarray(pixels, dtype=np.float64), np.asarray(probabilities, dtype=np.float64)
    most = float(counts.sum(axis=1).max(initial=1.0))
    # Values of s = −log t and their weights in ∫ … ds: sums of pixels are between 1 and twice `most`.
    u = np.arange(np.log(1e-3 / (2 * most)), np.log(40.0) + _STEP, _STEP)
    s = np.exp(u)
    weights = _STEP * s
    weights[0] /= 1 - np.exp(-_STEP)  # all values below, where the integrand is nearly constant
    factor = 1 - p[:, None] * -np.expm1(-s)  # 1 − p + p t, (B, Q)
    summed_table, log_factor = p[:, None] / factor, np.log(factor)

    def expect(part: Floats) -> Floats:
        weighted = np.concatenate([part[:, :, None] * summed_table, part[:, :, None]], axis=-1)
        sums = weighted[:, ::-1].cumsum(axis=1)[:, ::-1][:, 1:]  # over this bin and all above it
        whole = part @ log_factor
        inner = np.exp(whole[:, None] - (sums[..., -1:] + 1) * s)  # tᵏ dt is exp(−(k + 1) s) ds
        expected: Floats = 2 * np.einsum("q,nkq,nkq->nk", weights, inner, sums[..., :-1])
        return expected

    at_once = max(1, _CELLS // factor.size)
    return np.concatenate([expect(counts[i : i + at_once]) for i in range(0, max(1, len(counts)), at_once)])


def find_best_edges(pixels: npt.ArrayLike, probabilities: npt.ArrayLike) -> npt.NDArray[np.intp]:
    """Find each image's inner edge (n,), 0 to B − 2, with the highest expected Dice; B − 1 = take no pixel."""
    counts, p = np.asarray(pixels, dtype=np.float64), np.asarray(probabilities, dtype=np.float64)
    values, empty = compute_expected_dice(counts, p), np.exp(counts @ np.log1p(-p))
    edges: npt.NDArray[np.intp] = values.argmax(axis=1)
    edges[empty > values.max(axis=1)] = counts.shape[1] - 1  # taking no pixel is better than any edge
    return edges
