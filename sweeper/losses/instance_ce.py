"""Cross-entropy in which instances count alike, however large (Shirokikh et al. 2020, arXiv:2007.10033).

−Σ s^−e log p_t / Σ s^−e over the labelled pixels, with s the pixels of the connected component that the pixel belongs
to; all of class 0 in an image is one. e = 1 is the paper's: each component has the same
weight as a whole. e = 0 is cross-entropy. The sizes are those in the whole image: what a crop leaves of a large
component weighs no more for it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sweeper.core.records import Task
from sweeper.data.label_maps import instance_sizes
from sweeper.losses.kernel import NEARLY_NOTHING
from sweeper.losses.label_maps import LabelMapLoss
from sweeper.losses.loss_module import without_frequencies
from sweeper.losses.surprise import surprise


class InstanceCrossEntropy(LabelMapLoss):
    """`instance_power` e. Called as `loss(logits, target, sizes=maps)`; without `sizes` they are counted in the target.

    `sizes`: shaped as the target, of any type: pixels of the instance that each pixel belongs to, at least 1 (less is
    taken for 1); whatever under ignore. Instances need not be connected components.
    """

    of_labels = staticmethod(instance_sizes)

    def __init__(self, task: Task, ignore_index: int, instance_power: float) -> None:
        super().__init__("instance_ce", task, {"instance_power": instance_power}, ignore_index)
        self.power = instance_power

    def compute(self, logits: Tensor, target: Tensor, label_map: Tensor | None) -> Tensor:
        """The loss of a checked batch; the map is its sizes."""
        assert label_map is not None
        found, labelled = surprise(logits, target, self.task, self.ignore_index)
        sizes = label_map.view(found.shape).to(found.dtype).clamp(min=1)
        shares = torch.where(labelled, sizes.pow(-self.power), 0.0)
        return (shares * found).sum() / shares.sum().clamp(min=NEARLY_NOTHING)


build = without_frequencies(InstanceCrossEntropy)
