"""Generalised Dice (Sudre et al. 2017): one overlap over all classes, each weighted by its size in the batch.

`Σ_c w_c (FP_c + FN_c) / Σ_c w_c (2 TP_c + FP_c + FN_c)` with w_c = (pixels of c)^−e over the present classes, e = 2 in
the paper. Of one class background and foreground count, as the paper has it. The paper's weight
of an absent class is infinite (libraries put in 0 or the largest other weight); here the present classes' overlap and
the absent classes' mean probabilities are averaged, each class counting once.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sweeper.core.records import Task
from sweeper.losses.class_sums import class_sums
from sweeper.losses.kernel import NEARLY_NOTHING
from sweeper.losses.loss_module import SegmentationLoss, without_frequencies


class GeneralizedDice(SegmentationLoss):
    """`volume_exponent` 0 gives all pixels the same weight, 2 is the paper's."""

    def __init__(self, task: Task, ignore_index: int, volume_exponent: float) -> None:
        super().__init__("generalized_dice", task, {"volume_exponent": volume_exponent}, ignore_index)
        self.exponent = volume_exponent

    def compute(self, logits: Tensor, target: Tensor, label_map: Tensor | None) -> Tensor:
        """The loss of a checked batch."""
        found = class_sums(logits, target, self.task, self.ignore_index)
        _, false_positives, false_negatives, actual, rest = found
        labelled = found.labelled
        errors = false_positives + false_negatives
        # An absent class has no false negatives: its mean probability is its errors over the labelled pixels.
        hit, size = actual - false_negatives, actual
        if self.task == "binary":  # background and foreground share their errors
            hit, size = torch.cat([hit, rest - false_positives]), torch.cat([size, rest])
        present = size > 0
        # Shares instead of pixels: the same ratio, and far from float32's limits.
        share = torch.where(present, size / labelled.clamp(min=NEARLY_NOTHING), 1.0)
        w = torch.where(present, share.pow(-self.exponent), 0.0)
        absent = torch.where(present, 0.0, errors / labelled.clamp(min=NEARLY_NOTHING))
        lost = (w * errors).sum() / (w * (errors + 2 * hit)).sum().clamp(min=NEARLY_NOTHING)
        return (present.sum() * lost + absent.sum()) / len(size)


build = without_frequencies(GeneralizedDice)
