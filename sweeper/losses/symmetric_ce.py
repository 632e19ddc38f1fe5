"""Symmetric cross-entropy (Wang et al. 2019, arXiv:1908.06112): (1 − r) CE + r · mean of (1 − p_t).

The paper's α CE + β RCE with log 0 := A: the reverse cross-entropy −Σ_k p_k log y_k of a hard label is −A (1 − p_t).
Only the ratio matters to an optimiser that scales gradients, r = −βA / (α − βA): the authors' α = 0.1, β = 1, A = −4
(CIFAR-10) is r = 0.976. The same function as `poly_ce` at ε = r / (1 − r), up to the factor 1 − r; the ranges searched
differ.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from sweeper.losses.families import LossTask
from sweeper.losses.surprise import PixelLoss, missed


class SymmetricCrossEntropy(PixelLoss):
    """`reverse_share` r: 0 is cross-entropy, 1 the mean absolute error."""

    def __init__(self, task: LossTask, ignore_index: int, reverse_share: float) -> None:
        super().__init__("symmetric_ce", task, {"reverse_share": reverse_share}, ignore_index)
        self.share = reverse_share

    def cost(self, found: Tensor) -> Tensor:
        """Of each pixel, from its −log p_t."""
        return (1 - self.share) * found + self.share * missed(found)


def build(
    *, task: LossTask, ignore_index: int, class_frequencies: Sequence[float] | None, reverse_share: float
) -> SymmetricCrossEntropy:
    """The module, from checked coordinates."""
    return SymmetricCrossEntropy(task, ignore_index, reverse_share)
