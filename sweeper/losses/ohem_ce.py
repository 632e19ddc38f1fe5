"""Online hard example mining by a threshold: cross-entropy over the pixels with p_t below it, and a share at least.

Shrivastava et al. 2016 (arXiv:1604.03540) for regions; for pixels Wu et al. 2016 (arXiv:1605.06885), and the authors'
codes of HRNet, BiSeNet and MMSegmentation: threshold 0.7, and never fewer than a number of pixels (BiSeNet: a sixteenth
of them). The sum over the chosen pixels is divided by how many they are. Ignored pixels are neither chosen nor counted.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sweeper.core.records import Task
from sweeper.losses.loss_module import SegmentationLoss, without_frequencies
from sweeper.losses.per_pixel import readable
from sweeper.losses.surprise import surprise

ROUNDING = 1e-6
"""0.1 of 30 pixels are 3, whatever the rounding of 0.1 says."""


class HardExamples(SegmentationLoss):
    """`sure_at` is the probability of the own class from which a pixel is left out, `kept_at_least` the share."""

    def __init__(self, task: Task, ignore_index: int, sure_at: float, kept_at_least: float) -> None:
        coordinates = {"sure_at": sure_at, "kept_at_least": kept_at_least}
        super().__init__("ohem_ce", task, dict(coordinates), ignore_index)
        self.limit = -math.log(sure_at) if sure_at > 0 else math.inf
        self.least = kept_at_least

    def compute(self, logits: Tensor, target: Tensor, label_map: Tensor | None) -> Tensor:
        """The loss of a checked batch: the mean over the chosen pixels."""
        found, labelled = surprise(logits, target, self.task, self.ignore_index)
        with torch.no_grad():
            # Not `>=`: a NaN has to stay.
            chosen = labelled & ~(found < self._cutoff(found.detach(), labelled))
            number = chosen.sum().clamp(min=1)
        return torch.where(chosen, found, 0.0).sum() / number

    def _cutoff(self, found: Tensor, labelled: Tensor) -> Tensor:
        """The smallest −log p_t that is kept, scalar: that of the threshold, or of the last of the share."""
        limit = found.new_full((), self.limit)
        if self.least == 0 or found.numel() == 0:
            return limit
        if readable(found):
            number = max(1, int(int(torch.count_nonzero(labelled)) * self.least + ROUNDING))
            if int(torch.count_nonzero(labelled & (found >= limit))) >= number:
                return limit
            ranked = torch.where(labelled, found, -1.0).flatten()
            return torch.topk(ranked, number, sorted=False).values.min()
        # Room for as many as there can be, so that no shape depends on data.
        room = max(1, int(self.least * found.numel() + ROUNDING))
        wanted = (labelled.sum().double() * self.least + ROUNDING).floor().clamp(min=1).long()
        hardest = torch.topk(torch.where(labelled, found, -1.0).flatten(), room).values
        return torch.minimum(hardest.gather(0, (wanted - 1).view(1)).squeeze(0), limit)


build = without_frequencies(HardExamples)
