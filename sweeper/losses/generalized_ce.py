"""Generalised cross-entropy (Zhang & Sabuncu 2018, arXiv:1805.07836, equation 6): mean of (1 − p_t^q) / q.

q → 0 is cross-entropy, q = 1 the mean absolute error 1 − p_t. The slope of a pixel is that of cross-entropy times
p_t^q: the surer the network is that a label is wrong, the less it listens. The paper's truncation is left out.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from sweeper.losses.families import LossTask
from sweeper.losses.surprise import PixelLoss, missed


class GeneralizedCrossEntropy(PixelLoss):
    """`robustness` q; 0.7 is the authors'."""

    def __init__(self, task: LossTask, ignore_index: int, robustness: float) -> None:
        super().__init__("generalized_ce", task, {"robustness": robustness}, ignore_index)
        self.q = robustness

    def cost(self, found: Tensor) -> Tensor:
        """Of each pixel, from its −log p_t."""
        return missed(self.q * found) / self.q if self.q > 0 else found


def build(
    *, task: LossTask, ignore_index: int, class_frequencies: Sequence[float] | None, robustness: float
) -> GeneralizedCrossEntropy:
    """The module, from checked coordinates."""
    return GeneralizedCrossEntropy(task, ignore_index, robustness)
