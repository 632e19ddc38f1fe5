"""Dice and the distance to the true boundary (Kervadec et al. 2019, arXiv:1812.07032).

(1 − m) · Dice + m · mean over labelled pixels and classes of |φ_c| · |p_c − y_c|, with φ_c the signed distance to the
boundary of class c in pixels, clipped (see `sweeper.data.distance_maps`). The paper's mean of φ_c · p_c differs from
it by a constant, so that the gradients are the same; ours is 0 for a perfect answer. Two deliberate differences: a
pixel beside the boundary has distance ½ on either side (the authors' code has 0 inside, which makes lines of one or
two pixels free to miss), and a class absent from an image is as far away as the clip allows (there: distance 0, false
positives free). The paper raises m from 0.01 during training and combines it with generalised Dice; here m stays and
the other part is the kernel's Dice.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import Function

from sweeper.data.distance_maps import signed_distances
from sweeper.losses.build import build_part
from sweeper.losses.class_probabilities import as_classes
from sweeper.losses.families import LossTask
from sweeper.losses.fused_cpu import walks
from sweeper.losses.label_maps import FromLabels
from sweeper.losses.loss_module import SegmentationLoss
from sweeper.losses.per_pixel import transformed


class BoundaryDistance(SegmentationLoss):
    """`distance_mix` m. Called as `loss(logits, target, distance=maps)`.

    Without `distance` the maps are computed from `target` on the processor at every call: right in any loop, but slow
    (some 10 ms for each class of a 256² image), and it waits for the device.
    """

    def __init__(self, task: LossTask, ignore_index: int, distance_mix: float) -> None:
        super().__init__("boundary", task, {"distance_mix": distance_mix}, ignore_index)
        self.mix = distance_mix
        self.dice = build_part("dice", task=task, ignore_index=ignore_index)

    def compute(self, logits: Tensor, target: Tensor, weight: Tensor | None, distance: Tensor | None) -> Tensor:
        """The loss of a checked batch."""
        parts: list[Tensor] = []
        if self.mix < 1:
            parts.append((1 - self.mix) * self.dice(logits, target, weight))
        if self.mix > 0:
            if distance is None:
                classes = logits.shape[1]

                def make(labels: Tensor) -> Tensor:
                    return distance_maps(labels, self.task, classes, self.ignore_index)

                made: Any = FromLabels.apply
                distance = made(target, make) if transformed() else make(target)
            parts.append(self.mix * self._far(logits, target, weight, distance))
        return parts[0] if len(parts) == 1 else parts[0] + parts[1]

    def _far(self, logits: Tensor, target: Tensor, weight: Tensor | None, distance: Tensor) -> Tensor:
        number = (target.long() != self.ignore_index).sum().clamp(min=1)
        if self.task == "multiclass":
            number = number * logits.shape[1]
        if not walks(logits, weight) or not walks(distance, distance):
            return self._sum(logits, target, weight, distance) / number

        def of_images(at: slice, part: Tensor) -> Tensor:
            return self._sum(part, target[at], None if weight is None else weight[at], distance[at])

        keep = torch.is_grad_enabled() and logits.requires_grad
        total: Tensor = SumOfImages.apply(of_images, keep, logits)  # type: ignore[no-untyped-call]
        return total / number

    def _sum(self, logits: Tensor, target: Tensor, weight: Tensor | None, distance: Tensor) -> Tensor:
        classes = as_classes(logits, target, self.task, self.ignore_index)
        labels = target.long() if self.task == "multilabel" else target.long().unsqueeze(1)
        labelled = labels != self.ignore_index
        far = torch.where(labelled, distance.to(logits.device, classes.p.dtype).abs(), 0.0)
        if weight is not None:  # outside the absolute value, which has no slope at a weight of 0
            far = far * (weight if weight.ndim == far.ndim else weight.unsqueeze(1))
        # p · mask − own is −(1 − p) where the class is and p where it is not.
        return (far * (classes.p * classes.mask - classes.own).abs()).sum()


class SumOfImages(Function):
    """(value of some images, whether a gradient is wanted, logits) → the values' sum.

    Values are differentiated image by image as they are found, so that no more than one image's intermediate results
    are there at a time, and those in the processor's cache. For second derivatives the whole batch is done anew.
    """

    @staticmethod
    def forward(ctx: Any, value: Callable[[slice, Tensor], Tensor], keep: bool, logits: Tensor) -> Tensor:
        """Logits (N, C, H, W) → scalar."""
        total, gradient = 0.0, torch.empty_like(logits) if keep else None
        dtype = logits.dtype
        for image, part in enumerate(torch.split(logits.detach(), 1)):
            with torch.set_grad_enabled(keep):
                found = value(slice(image, image + 1), part.requires_grad_(keep))
            if gradient is not None:
                gradient[image] = torch.autograd.grad(found, part)[0][0]
            total, dtype = total + float(found), found.dtype
        if keep:
            ctx.save_for_backward(logits)
            ctx.value, ctx.gradient = value, gradient
        return torch.tensor(total, dtype=dtype)

    @staticmethod
    def backward(ctx: Any, *slopes: Any) -> tuple[Tensor | None, ...]:
        """Times the slope of the sum."""
        if torch.is_grad_enabled():
            (logits,) = ctx.saved_tensors
            found = ctx.value(slice(None), logits)
            return None, None, torch.autograd.grad(found, logits, slopes[0], create_graph=True)[0]
        return None, None, ctx.gradient * slopes[0]


def distance_maps(target: Tensor, task: LossTask, classes: int, ignore_index: int) -> Tensor:
    """Signed distances of a batch, computed on the processor: target as for the loss → (N, C, H, W) float32."""
    labels = target.detach().cpu().long()
    if task == "multiclass":
        present = torch.stack([labels == c for c in range(classes)], dim=1)
    else:
        present = (labels if task == "multilabel" else labels.unsqueeze(1)) == 1
    labelled = (labels if task == "multilabel" else labels.unsqueeze(1)) != ignore_index
    labelled = labelled.expand_as(present)
    maps = [
        [signed_distances(one.numpy(), known.numpy()) for one, known in zip(image, has, strict=True)]
        for image, has in zip(present & labelled, labelled, strict=True)
    ]
    return torch.stack([torch.stack([torch.from_numpy(m) for m in image]) for image in maps]).to(target.device)


def build(
    *, task: LossTask, ignore_index: int, class_frequencies: Sequence[float] | None, distance_mix: float
) -> BoundaryDistance:
    """The module, from checked coordinates."""
    return BoundaryDistance(task, ignore_index, distance_mix)
