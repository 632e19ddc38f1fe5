"""Losses of Dice's kind beside the kernel: functions of soft counts of each class over the whole batch.

Each function has the name of its family; a batch and the family's coordinates → a scalar. A class absent from the
batch costs its mean probability.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sweeper.losses.batch import Batch, class_sums
from sweeper.losses.kernel import NEARLY_NOTHING


def generalized_dice(batch: Batch, *, volume_exponent: float) -> Tensor:
    """Generalised Dice (Sudre et al. 2017): one overlap over all classes, each weighted by its size in the batch.

    `Σ_c w_c (FP_c + FN_c) / Σ_c w_c (2 TP_c + FP_c + FN_c)` with w_c = (pixels of c)^−e over the present classes, e = 2
    in the paper. Of one class background and foreground count, as the paper has it. The paper's weight of an absent
    class is infinite (libraries put in 0 or the largest other weight); here the present classes' overlap and the
    absent classes' mean probabilities are averaged, each class counting once.
    """
    found = class_sums(batch)
    false_positives, false_negatives, actual, rest = found
    labelled = found.labelled.clamp(min=NEARLY_NOTHING)
    errors = false_positives + false_negatives
    hit, size = actual - false_negatives, actual
    if batch.task == "binary":  # background and foreground share their errors
        hit, size = torch.cat([hit, rest - false_positives]), torch.cat([size, rest])
    present = size > 0
    # Shares instead of pixels: the same ratio, and far from float32's limits.
    share = torch.where(present, size / labelled, 1.0)
    w = torch.where(present, share.pow(-volume_exponent), 0.0)
    # An absent class has no false negatives: its mean probability is its errors over the labelled pixels.
    absent = torch.where(present, 0.0, errors / labelled)
    lost = (w * errors).sum() / (w * (errors + 2 * hit)).sum().clamp(min=NEARLY_NOTHING)
    return (present.sum() * lost + absent.sum()) / len(size)
