"""Losses that want more of the labels than the labels: instances, their sizes, skeletons.

sweeper keeps these maps with the data (`sweeper.data.label_maps`) and gives them with the batch. Without them they are
computed from the target on the processor at every call: right in any loop, but slow, and it waits for the device.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.autograd.function import Function

from sweeper.losses.loss_module import SegmentationLoss
from sweeper.losses.per_pixel import transformed

OfLabels = Callable[[npt.NDArray[np.integer], npt.NDArray[np.bool_]], npt.NDArray[Any]]
"""(class indices, whether labelled) of one image, or of one class of it → its map, of the same shape."""


class LabelMapLoss(SegmentationLoss):
    """A loss whose `compute` gets a map of the labels, shaped as the target, as its last argument."""

    of_labels: OfLabels

    def made_map(self, target: Tensor) -> Tensor:
        """The map of a batch that came without it."""

        def make(labels: Tensor) -> Tensor:
            return maps_of(labels, self.ignore_index, type(self).of_labels)

        made: Any = FromLabels.apply if transformed() else _called
        found: Tensor = made(target, make)
        return found


def maps_of(target: Tensor, ignore_index: int, of_labels: OfLabels) -> Tensor:
    """Maps of a batch, computed on the processor: target as for the loss → the same shape."""
    labels = target.detach().cpu().long()
    found = [
        torch.from_numpy(of_labels(one.numpy(), known.numpy()))
        for one, known in zip(labels, labels != ignore_index, strict=True)
    ]
    return torch.stack(found).view(target.shape).to(target.device) if found else torch.zeros_like(target)


def _called(target: Tensor, make: Callable[[Tensor], Tensor]) -> Tensor:
    return make(target)


class FromLabels(Function):
    """`make(target)` inside torch.func's transformations, which hand the plain numbers to a function like this."""

    @staticmethod
    def forward(target: Tensor, make: Callable[[Tensor], Tensor]) -> Tensor:
        """Labels of a batch → its maps."""
        return make(target)

    @staticmethod
    def setup_context(ctx: Any, inputs: Any, output: Tensor) -> None:
        """Labels have no gradient."""
        ctx.mark_non_differentiable(output)

    @staticmethod
    def vmap(
        info: Any, in_dims: tuple[int | None, ...], target: Tensor, make: Callable[[Tensor], Tensor]
    ) -> tuple[Tensor, int]:
        """Many batches as one long one."""
        batches = target.movedim(in_dims[0] or 0, 0)
        maps: Any = FromLabels.apply  # there may be another vmap around this one
        found = maps(batches.flatten(0, 1), make)
        return found.view(*batches.shape[:2], *found.shape[1:]), 0


def segment_sums(values: Tensor, index: Tensor, number: int) -> Tensor:
    """Sums of values by index, each the same on every run.

    A processor adds one value after the other: in float32 a million of them lose digits, and it counts no further
    than to 2²⁴.

    Args:
        values: any shape.
        index: int64 in [0, number), the same shape.
        number: of sums.

    Returns:
        (number,), in the type of `values`.
    """
    none = values.new_zeros(number)
    if values.device.type == "cuda":  # its other way of adding does so in no order
        return none.index_put((index.flatten(),), values.flatten(), accumulate=True)
    if values.device.type == "cpu":
        return none.double().index_add(0, index.flatten(), values.flatten().double()).to(values.dtype)
    return none.index_add(0, index.flatten(), values.flatten())
