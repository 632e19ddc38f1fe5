"""Cross-entropy in which instances count alike, however large (Shirokikh et al. 2020, arXiv:2007.10033).

−Σ s^−e log p_t / Σ s^−e over the labelled pixels, with s the pixels of the connected component that the pixel belongs
to; all of class 0 (or the absence of a label) in an image is one. e = 1 is the paper's: each component has the same
weight as a whole. e = 0 is cross-entropy. The sizes are those in the whole image: what a crop leaves of a large
component weighs no more for it.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sweeper.data.instances import instance_sizes
from sweeper.losses.build import build_part
from sweeper.losses.families import LossTask
from sweeper.losses.kernel import NEARLY_NOTHING
from sweeper.losses.label_maps import LabelMapLoss
from sweeper.losses.per_pixel import transformed


class InstanceCrossEntropy(LabelMapLoss):
    """`instance_power` e. Called as `loss(logits, target, sizes=maps)`; without `sizes` they are counted in the target.

    `sizes`: shaped as the target, of any type: pixels of the instance that each pixel belongs to, at least 1 (less is
    taken for 1); whatever under ignore. Instances need not be connected components.
    """

    of_labels = staticmethod(instance_sizes)

    def __init__(self, task: LossTask, ignore_index: int, instance_power: float) -> None:
        super().__init__("instance_ce", task, {"instance_power": instance_power}, ignore_index)
        self.power = instance_power
        self.entropy = build_part("cross_entropy", task=task, ignore_index=ignore_index)

    def compute(self, logits: Tensor, target: Tensor, weight: Tensor | None, distance: Tensor | None) -> Tensor:
        """The loss of a checked batch; the last argument is its sizes."""
        assert distance is not None
        labelled = target.long() != self.ignore_index
        precision = torch.float64 if logits.dtype == torch.float64 else torch.float32
        if transformed(logits, target, weight, distance):
            shares = torch.where(labelled, distance.to(precision).clamp(min=1).pow(-self.power), 0.0)
        else:  # in one place: new memory for each operation takes as long as cross-entropy itself
            shares = distance.to(precision, copy=True).clamp_(min=1).pow_(-self.power).masked_fill_(~labelled, 0.0)
        # To a mean of 1 over the labelled pixels, whose number cross-entropy divides by.
        shares = shares * (labelled.sum() / shares.sum().clamp(min=NEARLY_NOTHING))
        if weight is not None:
            shares = shares * weight
        return self.entropy.compute(logits, target, shares, None)


def build(
    *, task: LossTask, ignore_index: int, class_frequencies: Sequence[float] | None, instance_power: float
) -> InstanceCrossEntropy:
    """The module, from checked coordinates."""
    return InstanceCrossEntropy(task, ignore_index, instance_power)
