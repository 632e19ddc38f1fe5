"""Dice and the distance to the true boundary (Kervadec et al. 2019, arXiv:1812.07032).

(1 − m) · Dice + m · mean over labelled pixels and classes of |φ_c| · |p_c − y_c|, with φ_c the signed distance to the
boundary of class c in pixels, clipped (see `sweeper.data.label_maps`). The paper's mean of φ_c · p_c differs from
it by a constant, so that the gradients are the same; ours is 0 for a perfect answer. Two deliberate differences: a
pixel beside the boundary has distance ½ on either side (the authors' code has 0 inside, which makes lines of one or
two pixels free to miss), and a class absent from an image is as far away as the clip allows (there: distance 0, false
positives free). The paper raises m from 0.01 during training and combines it with generalised Dice; here m stays and
the other part is the kernel's Dice.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sweeper.core.records import Task
from sweeper.data.label_maps import signed_distances
from sweeper.losses.build import build_part
from sweeper.losses.class_probabilities import as_classes
from sweeper.losses.label_maps import FromLabels
from sweeper.losses.loss_module import SegmentationLoss, without_frequencies
from sweeper.losses.per_pixel import transformed


class BoundaryDistance(SegmentationLoss):
    """`distance_mix` m. Called as `loss(logits, target, distance=maps)`.

    Without `distance` the maps are computed from `target` on the processor at every call: right in any loop, but slow
    (some 10 ms for each class of a 256² image), and it waits for the device.
    """

    def __init__(self, task: Task, ignore_index: int, distance_mix: float) -> None:
        super().__init__("boundary", task, {"distance_mix": distance_mix}, ignore_index)
        self.mix = distance_mix
        self.dice = build_part("dice", task=task, ignore_index=ignore_index)

    def compute(self, logits: Tensor, target: Tensor, label_map: Tensor | None) -> Tensor:
        """The loss of a checked batch."""
        parts: list[Tensor] = []
        if self.mix < 1:
            parts.append((1 - self.mix) * self.dice(logits, target))
        if self.mix > 0:
            if label_map is None:
                classes = logits.shape[1]

                def make(labels: Tensor) -> Tensor:
                    return distance_maps(labels, self.task, classes, self.ignore_index)

                made: Any = FromLabels.apply
                label_map = made(target, make) if transformed() else make(target)
            parts.append(self.mix * self._far(logits, target, label_map))
        return parts[0] if len(parts) == 1 else parts[0] + parts[1]

    def _far(self, logits: Tensor, target: Tensor, distance: Tensor) -> Tensor:
        classes = as_classes(logits, target, self.task, self.ignore_index)
        labelled = target.long().unsqueeze(1) != self.ignore_index
        far = torch.where(labelled, distance.to(logits.device, classes.p.dtype).abs(), 0.0)
        # p · mask − own is −(1 − p) where the class is and p where it is not.
        total = (far * (classes.p * classes.mask - classes.own).abs()).sum()
        return total / (labelled.sum().clamp(min=1) * logits.shape[1])


def distance_maps(target: Tensor, task: Task, classes: int, ignore_index: int) -> Tensor:
    """Signed distances of a batch, computed on the processor: target as for the loss → (N, C, H, W) float32."""
    labels = target.detach().cpu().long()
    if task == "multiclass":
        present = torch.stack([labels == c for c in range(classes)], dim=1)
    else:
        present = labels.unsqueeze(1) == 1
    labelled = (labels.unsqueeze(1) != ignore_index).expand_as(present)
    maps = [
        [signed_distances(one.numpy(), known.numpy()) for one, known in zip(image, has, strict=True)]
        for image, has in zip(present & labelled, labelled, strict=True)
    ]
    return torch.stack([torch.stack([torch.from_numpy(m) for m in image]) for image in maps]).to(target.device)


build = without_frequencies(BoundaryDistance)
