"""Sensitivity–specificity (Brosch et al. 2015, doi:10.1007/978-3-319-24574-4_1), mean over the classes.

r · Σ (1 − p_c)² y_c / Σ y_c + (1 − r) · Σ p_c² (1 − y_c) / Σ (1 − y_c), over the labelled pixels of the whole batch:
the mean squared error of the class's own pixels and that of all others, each counting as a whole however few they are.
A class absent from the batch costs its mean probability: its squares alone are so flat that other classes' would push
probability over to it. Where there is nothing but the class, the second term is 0.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sweeper.losses.class_probabilities import as_classes, mass, mean_probability
from sweeper.losses.families import LossTask
from sweeper.losses.kernel import NEARLY_NOTHING
from sweeper.losses.loss_module import SegmentationLoss


class SensitivitySpecificity(SegmentationLoss):
    """`sensitivity_share` r; the authors' is 0.05."""

    def __init__(self, task: LossTask, ignore_index: int, sensitivity_share: float) -> None:
        super().__init__("sens_spec", task, {"sensitivity_share": sensitivity_share}, ignore_index)
        self.share = sensitivity_share

    def compute(self, logits: Tensor, target: Tensor, weight: Tensor | None, distance: Tensor | None) -> Tensor:
        """The loss of a checked batch."""
        classes = as_classes(logits, target, self.task, self.ignore_index, weight)
        p, own = classes.p, classes.own
        others = classes.mask - own
        actual = mass(own)
        missed = mass(own * (1 - p).square()) / actual.clamp(min=NEARLY_NOTHING)
        marked = mass(others * p.square()) / mass(others).clamp(min=NEARLY_NOTHING)
        each = self.share * missed + (1 - self.share) * marked
        return torch.where(actual > 0, each, mean_probability(classes)).mean()


def build(
    *, task: LossTask, ignore_index: int, class_frequencies: Sequence[float] | None, sensitivity_share: float
) -> SensitivitySpecificity:
    """The module, from checked coordinates."""
    return SensitivitySpecificity(task, ignore_index, sensitivity_share)
