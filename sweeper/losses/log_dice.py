"""−log Dice: mean over the classes of −log TI_c(½, ½), with the kernel's smoothing and its Dice index TI.

As 1 − TI near a perfect overlap, and ever steeper the worse it is: a class that is hardly found pulls much more. Common
since Dice has been reported on a logarithmic scale (Wong et al. 2018, arXiv:1809.00076, with other exponents);
`log_loss=True` in segmentation-models-pytorch. A class absent from the batch costs its mean probability.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sweeper.core.records import Task
from sweeper.losses.class_sums import Sums, class_sums
from sweeper.losses.kernel import NEARLY_NOTHING
from sweeper.losses.loss_module import SegmentationLoss, without_frequencies


class LogDice(SegmentationLoss):
    """No coordinates."""

    def __init__(self, task: Task, ignore_index: int) -> None:
        super().__init__("log_dice", task, {}, ignore_index)

    def compute(self, logits: Tensor, target: Tensor, label_map: Tensor | None) -> Tensor:
        """The loss of a checked batch."""
        return log_index(class_sums(logits, target, self.task, self.ignore_index), self.task).mean()


def log_index(found: Sums, task: Task) -> Tensor:
    """−log of the Dice index of each class, (C,); the mean probability of a class that is absent."""
    marked, missed, actual = found.false_positives, found.false_negatives, found.actual
    places = found.labelled if task == "multiclass" else found.rest
    # 1 / TI − 1, without the cancellation near a perfect overlap.
    more = (marked + missed) / 2 / (actual - missed + 1)
    return torch.where(actual > 0, torch.log1p(more), marked / places.clamp(min=NEARLY_NOTHING))


build = without_frequencies(LogDice)
