"""Losses that want more of the labels than the labels: distances to boundaries, instances, their sizes, skeletons.

sweeper keeps these maps with the data (`sweeper.data.label_maps`) and gives them with the batch. Without them they are
computed from the target on the processor at every call: right in any loop, but slow (some 10 ms for each class of a
256² image), and it waits for the device.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sweeper.core.errors import LossError
from sweeper.core.records import Task
from sweeper.data.label_maps import OF_LABELS, signed_distances
from sweeper.losses.family_records import MapKind
from sweeper.losses.per_pixel import transformed


def made_map(kind: MapKind, target: Tensor, task: Task, channels: int, ignore_index: int) -> Tensor:
    """The map of a batch that came without it: (N, C, H, W) float32 distances, else shaped as the target.

    Raises:
        LossError: inside torch.func's transformations, where no number can be read.
    """
    if transformed():
        raise LossError(
            f"inside torch.func this loss needs `{kind}=…`, got none; "
            "make it before, with `sweeper.losses.label_maps.made_map`"
        )
    labels = target.detach().cpu().long()
    if kind == "distance":
        return distance_maps(labels, task, channels, ignore_index).to(target.device)
    found = [
        torch.from_numpy(OF_LABELS[kind](one.numpy(), known.numpy()))
        for one, known in zip(labels, labels != ignore_index, strict=True)
    ]
    return torch.stack(found).to(target.device) if found else torch.zeros_like(target)


def distance_maps(target: Tensor, task: Task, classes: int, ignore_index: int) -> Tensor:
    """Signed distances to the boundary of each class: target (N, H, W) on the processor → (N, C, H, W) float32."""
    of_class = [target == c for c in range(classes)] if task == "multiclass" else [target == 1]
    labelled = target != ignore_index
    maps = [
        torch.stack([torch.from_numpy(signed_distances(one.numpy(), known.numpy())) for one in image])
        for image, known in zip(torch.stack(of_class, dim=1) & labelled.unsqueeze(1), labelled, strict=True)
    ]
    return torch.stack(maps)


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
