"""1 − Matthews' correlation of each class (Abhishek & Hamarneh 2021, arXiv:2010.13454), mean over the classes.

MCC = (TP TN − FP FN) / √((TP + FP)(TP + FN)(TN + FP)(TN + FN)) of soft counts over the whole batch: the one of the
overlap losses that looks at true negatives, and sees class and background alike. One pixel is added to TP and TN, as
one is added to Dice, so that nothing is divided by 0 and a perfect answer costs 0. A class absent from the batch costs
its mean probability; one that fills it, the mean of what is missing.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sweeper.core.records import Task
from sweeper.losses.class_sums import class_sums
from sweeper.losses.kernel import NEARLY_NOTHING
from sweeper.losses.loss_module import SegmentationLoss, without_frequencies


class Matthews(SegmentationLoss):
    """No coordinates; in [0, 2]."""

    def __init__(self, task: Task, ignore_index: int) -> None:
        super().__init__("mcc", task, {}, ignore_index)

    def compute(self, logits: Tensor, target: Tensor, label_map: Tensor | None) -> Tensor:
        """The loss of a checked batch."""
        found = class_sums(logits, target, self.task, self.ignore_index)
        marked, missed, actual, rest = found[1:]
        lost = one_less_mcc(actual - missed + 1, marked, missed, rest - marked + 1)
        # One of the two has no pixel then, and its probability is that of errors alone.
        mean = (marked + missed) / (actual + rest).clamp(min=NEARLY_NOTHING)
        return torch.where((actual > 0) & (rest > 0), lost, mean).mean()


def one_less_mcc(hit: Tensor, marked: Tensor, missed: Tensor, kept: Tensor) -> Tensor:
    """1 − MCC from true positives, false positives, false negatives and true negatives in pixels; the ends above 0."""
    total = hit + marked + missed + kept
    a, b, c, d = hit / total, marked / total, missed / total, kept / total  # products of shares stay in float32's range
    good, crossed = a * d - b * c, a * d + b * c
    square = (crossed + a * c + b * d) * (crossed + a * b + c * d)
    root = square.sqrt()
    # √² − good² with every term positive: near a perfect answer 1 − good / root would have no digits left.
    apart = crossed * (a * c + b * d + a * b + c * d) + (a * c + b * d) * (a * b + c * d) + 4 * a * b * c * d
    near = apart / (root * (root + good.clamp(min=0)))
    return torch.where(good > 0, near, 1 - good / root)


build = without_frequencies(Matthews)
