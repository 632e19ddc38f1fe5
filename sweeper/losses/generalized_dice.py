"""Generalised Dice (Sudre et al. 2017): one overlap over all classes, each weighted by its size in the batch.

`Σ_c w_c (FP_c + FN_c) / Σ_c w_c (2 TP_c + FP_c + FN_c)` with w_c = (pixels of c)^−e over the present classes, e = 2 in
the paper. Binary and multi-label count background and foreground of each class, as the paper does. The paper's weight
of an absent class is infinite (libraries put in 0 or the largest other weight); here the present classes' overlap and
the absent classes' mean probabilities are averaged, each class counting once.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sweeper.losses.class_probabilities import sums
from sweeper.losses.families import LossTask
from sweeper.losses.kernel import NEARLY_NOTHING
from sweeper.losses.loss_module import SegmentationLoss


class GeneralizedDice(SegmentationLoss):
    """`volume_exponent` 0 gives all pixels the same weight, 2 is the paper's."""

    def __init__(self, task: LossTask, ignore_index: int, volume_exponent: float) -> None:
        super().__init__("generalized_dice", task, {"volume_exponent": volume_exponent}, ignore_index)
        self.exponent = volume_exponent

    def compute(self, logits: Tensor, target: Tensor, weight: Tensor | None, distance: Tensor | None) -> Tensor:
        """The loss of a checked batch."""
        found = sums(logits, target, self.task, self.ignore_index, weight)
        _, false_positives, false_negatives, actual, rest = found
        labelled = found.labelled
        errors = false_positives + false_negatives
        # An absent class has no false negatives: its mean probability is its errors over the labelled pixels.
        if self.task == "multiclass":
            sides = [(actual - false_negatives, actual)]
        else:  # each class is a problem of its own, of two classes that share their errors
            sides = [(actual - false_negatives, actual), (rest - false_positives, rest)]
        hit, size = (torch.stack(x) for x in zip(*sides, strict=True))
        present = size > 0
        # Shares instead of pixels: the same ratio, and far from float32's limits.
        share = torch.where(present, size / labelled.clamp(min=NEARLY_NOTHING), 1.0)
        w = torch.where(present, share.pow(-self.exponent), 0.0)
        absent = torch.where(present, 0.0, errors / labelled.clamp(min=NEARLY_NOTHING))
        classes_dim = 1 if self.task == "multiclass" else 0
        lost = (w * errors).sum(classes_dim) / (w * (errors + 2 * hit)).sum(classes_dim).clamp(min=NEARLY_NOTHING)
        number = present.to(lost.dtype).sum(classes_dim)
        return ((number * lost + absent.sum(classes_dim)) / size.shape[classes_dim]).mean()


def build(
    *, task: LossTask, ignore_index: int, class_frequencies: Sequence[float] | None, volume_exponent: float
) -> GeneralizedDice:
    """The module, from checked coordinates."""
    return GeneralizedDice(task, ignore_index, volume_exponent)
