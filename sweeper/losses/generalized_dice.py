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

from sweeper.losses.families import LossTask
from sweeper.losses.relatives import as_classes, mass, mean_probability, with_background
from sweeper.losses.segmentation import SegmentationLoss


class GeneralizedDice(SegmentationLoss):
    """`volume_exponent` 0 gives all pixels the same weight, 2 is the paper's."""

    def __init__(self, task: LossTask, ignore_index: int, volume_exponent: float) -> None:
        super().__init__("generalized_dice", task, {"volume_exponent": volume_exponent}, ignore_index)
        self.exponent = volume_exponent

    def compute(self, logits: Tensor, target: Tensor, weight: Tensor | None, distance: Tensor | None) -> Tensor:
        """The loss of a checked batch."""
        classes = as_classes(logits, target, self.task, self.ignore_index, weight)
        if self.task != "multiclass":
            classes = with_background(classes)
        actual, labelled = mass(classes.own), mass(classes.mask)
        hit, wrong = mass(classes.p * classes.own), mass(classes.p * (classes.mask - classes.own))
        present = actual > 0
        # Shares instead of pixels: the same ratio, and far from float32's limits.
        share = torch.where(present, actual / labelled.clamp(min=1e-12), 1.0)
        w = torch.where(present, share.pow(-self.exponent), 0.0)
        errors = wrong + mass((1 - classes.p) * classes.own)
        if self.task == "multilabel":  # every class is a problem of its own, of two classes
            w, errors, hit, present_2d = (x.view(2, -1) for x in (w, errors, hit, present))
        else:
            w, errors, hit, present_2d = (x.view(-1, 1) for x in (w, errors, hit, present))
        lost = (w * errors).sum(0) / (w * (errors + 2 * hit)).sum(0).clamp(min=1e-12)
        absent_cost = torch.where(present, 0.0, mean_probability(classes)).view(present_2d.shape).sum(0)
        number = present_2d.to(lost.dtype).sum(0)
        return ((number * lost + absent_cost) / present_2d.shape[0]).mean()


def build(
    *, task: LossTask, ignore_index: int, class_frequencies: Sequence[float] | None, volume_exponent: float
) -> GeneralizedDice:
    """The module, from checked coordinates."""
    return GeneralizedDice(task, ignore_index, volume_exponent)
