"""Sensitivity–specificity (Brosch et al. 2015, doi:10.1007/978-3-319-24574-4_1), mean over the classes.

r · Σ (1 − p_c)² y_c / Σ y_c + (1 − r) · Σ p_c² (1 − y_c) / Σ (1 − y_c), over the labelled pixels of the whole batch:
the mean squared error of the class's own pixels and that of all others, each counting as a whole however few they are.
A class absent from the batch costs its mean probability: its squares alone are so flat that other classes' would push
probability over to it. Where there is nothing but the class, the second term is 0.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 — torch's own convention

from sweeper.core.records import Task
from sweeper.losses.class_probabilities import counted, mass, of_own_class
from sweeper.losses.kernel import NEARLY_NOTHING
from sweeper.losses.loss_module import SegmentationLoss, without_frequencies
from sweeper.losses.per_pixel import cleaned


class SensitivitySpecificity(SegmentationLoss):
    """`sensitivity_share` r; the authors' is 0.05."""

    def __init__(self, task: Task, ignore_index: int, sensitivity_share: float) -> None:
        super().__init__("sens_spec", task, {"sensitivity_share": sensitivity_share}, ignore_index)
        self.share = sensitivity_share

    def compute(self, logits: Tensor, target: Tensor, label_map: Tensor | None) -> Tensor:
        """The loss of a checked batch."""
        labels = target.long().unsqueeze(1)
        labelled = labels != self.ignore_index
        z = cleaned(logits, labelled).contiguous()
        mask = labelled.to(z.dtype)
        if self.task == "multiclass":
            p, index = F.softmax(z, dim=1), torch.where(labelled, labels, 0)
            actual = of_own_class(mask, index, z)
            # Not the total less the class's own, which may be nearly all of it; nor a product that autocast lowers.
            others = (actual * (1 - torch.eye(z.shape[1], dtype=z.dtype, device=z.device))).sum(dim=1)
            missed = of_own_class(mask * (1 - p.gather(1, index)).square(), index, z)
            marked = mass(counted(p.scatter(1, index, 0.0).square(), mask))
        else:
            p, there = torch.sigmoid(z), labels == 1
            own, rest = there * mask, ~there * mask
            actual, others = mass(own), mass(rest)
            missed, marked = mass(own * (1 - p).square()), mass(rest * p.square())
        missed = missed / actual.clamp(min=NEARLY_NOTHING)
        marked = marked / others.clamp(min=NEARLY_NOTHING)
        each = self.share * missed + (1 - self.share) * marked
        mean = mass(counted(p, mask)) / mass(mask).clamp(min=NEARLY_NOTHING)
        return torch.where(actual > 0, each, mean).mean()


build = without_frequencies(SensitivitySpecificity)
