"""Noise-robust Dice (Wang et al. 2020, COPLE-Net, doi:10.1109/TMI.2020.3000314).

mean_c Σ |p_c − y_c|^e / (Σ p_c² + Σ y_c² + 2), over the labelled pixels of the whole batch. e = 2 is Dice with squared
errors (V-Net's), e = 1 an absolute error that follows single wrong labels less; the authors' is 1.5. The 2 is Dice's
smoothing of one pixel (theirs: 1e-5). A class absent from the batch costs its mean probability.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 — torch's own convention

from sweeper.core.records import Task
from sweeper.losses.class_probabilities import counted, mass, of_own_class
from sweeper.losses.kernel import NEARLY_NOTHING
from sweeper.losses.loss_module import SegmentationLoss, without_frequencies
from sweeper.losses.per_pixel import cleaned, log_of_rest


class NoiseRobustDice(SegmentationLoss):
    """`error_exponent` e in [1, 2]."""

    def __init__(self, task: Task, ignore_index: int, error_exponent: float) -> None:
        super().__init__("robust_dice", task, {"error_exponent": error_exponent}, ignore_index)
        self.exponent = error_exponent

    def compute(self, logits: Tensor, target: Tensor, label_map: Tensor | None) -> Tensor:
        """The loss of a checked batch."""
        labels = target.long().unsqueeze(1)
        labelled = labels != self.ignore_index
        z = cleaned(logits, labelled).contiguous()
        mask = labelled.to(z.dtype)
        # Powers from logarithms: their slopes are finite where an error is 0.
        if self.task == "multiclass":
            log_p, index = F.log_softmax(z, dim=1), torch.where(labelled, labels, 0)
            log_missed = log_of_rest(-log_p.gather(1, index))
            log_error, p = log_p.scatter(1, index, log_missed), log_p.exp()
            actual = of_own_class(mask, index, z)
        else:
            there = (labels == 1).to(z.dtype)
            log_error, p = F.logsigmoid(z * (1 - 2 * there)), torch.sigmoid(z)
            actual = mass(there * mask)
        errors, predicted = mass(counted(torch.exp(self.exponent * log_error), mask)), counted(p, mask)
        lost = errors / (mass(predicted * p) + actual + 2)
        mean = mass(predicted) / mass(mask).clamp(min=NEARLY_NOTHING)
        return torch.where(actual > 0, lost, mean).mean()


build = without_frequencies(NoiseRobustDice)
