"""Log-cosh Dice (Jadon 2020): log cosh of the kernel's Dice loss, whose policy for absent classes it keeps."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sweeper.losses.build import build_part
from sweeper.losses.families import LossTask
from sweeper.losses.loss_module import SegmentationLoss


class LogCoshDice(SegmentationLoss):
    """log cosh of the mean Dice loss over classes, in [0, 0.434]."""

    def __init__(self, task: LossTask, ignore_index: int) -> None:
        super().__init__("log_cosh_dice", task, {}, ignore_index)
        self.dice = build_part("dice", task=task, ignore_index=ignore_index)

    def compute(self, logits: Tensor, target: Tensor, weight: Tensor | None, distance: Tensor | None) -> Tensor:
        """The loss of a checked batch."""
        dice: Tensor = self.dice(logits, target, weight)
        # log cosh x = log(1 + sinh²x) / 2: keeps its digits near 0, where log(cosh x) in float32 is 0.
        return torch.log1p(torch.sinh(dice).square()) / 2


def build(*, task: LossTask, ignore_index: int, class_frequencies: Sequence[float] | None) -> LogCoshDice:
    """The module, from checked coordinates."""
    return LogCoshDice(task, ignore_index)
