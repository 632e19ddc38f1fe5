"""PolyLoss's first term more or less (Leng et al. 2022, arXiv:2204.12511): −log p_t + ε (1 − p_t).

Cross-entropy is Σ_j (1 − p_t)^j / j; ε changes the weight of j = 1. Above 0 pixels that are half right pull more, below
less; −1 takes the term out.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from sweeper.losses.families import LossTask
from sweeper.losses.surprise import PixelLoss, missed


class PolyCrossEntropy(PixelLoss):
    """`first_term` ε ≥ −1."""

    def __init__(self, task: LossTask, ignore_index: int, first_term: float) -> None:
        super().__init__("poly_ce", task, {"first_term": first_term}, ignore_index)
        self.epsilon = first_term

    def cost(self, found: Tensor) -> Tensor:
        """Of each pixel, from its −log p_t."""
        return found + self.epsilon * missed(found)


def build(
    *, task: LossTask, ignore_index: int, class_frequencies: Sequence[float] | None, first_term: float
) -> PolyCrossEntropy:
    """The module, from checked coordinates."""
    return PolyCrossEntropy(task, ignore_index, first_term)
