"""Exponential logarithmic loss (Wong et al. 2018, arXiv:1809.00076).

λ · mean (−log p_t)^e + (1 − λ) · mean_c (−log TI_c)^e, where TI_c is the kernel's Dice index. An exponent below 1 makes
both parts steep near the answer and flat far from it; the authors' is 0.3 for both, with 0.2 and 0.8 as the parts'
weights. Their class weights of the cross-entropy are left out. A class absent from the batch costs its mean probability
in place of −log TI_c. Below 1e-6 the power goes on as a straight line, so that slopes stay bounded.
"""

from __future__ import annotations

from torch import Tensor

from sweeper.core.records import Task
from sweeper.losses.class_sums import class_sums
from sweeper.losses.kernel import raised
from sweeper.losses.log_dice import log_index
from sweeper.losses.loss_module import SegmentationLoss, without_frequencies
from sweeper.losses.per_pixel import averaged
from sweeper.losses.surprise import surprise


class ExponentialLogarithmic(SegmentationLoss):
    """`mix` λ and `log_exponent` e."""

    def __init__(self, task: Task, ignore_index: int, mix: float, log_exponent: float) -> None:
        coordinates = {"mix": mix, "log_exponent": log_exponent}
        super().__init__("exp_log", task, dict(coordinates), ignore_index)
        self.mix, self.exponent = mix, log_exponent

    def compute(self, logits: Tensor, target: Tensor, label_map: Tensor | None) -> Tensor:
        """The loss of a checked batch."""
        parts: list[Tensor] = []
        if self.mix > 0:
            found, labelled = surprise(logits, target, self.task, self.ignore_index)
            parts.append(self.mix * averaged(raised(found, self.exponent), labelled))
        if self.mix < 1:
            each = log_index(class_sums(logits, target, self.task, self.ignore_index), self.task)
            parts.append((1 - self.mix) * raised(each, self.exponent).mean())
        return parts[0] if len(parts) == 1 else parts[0] + parts[1]


build = without_frequencies(ExponentialLogarithmic)
