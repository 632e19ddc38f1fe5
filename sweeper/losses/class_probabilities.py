"""What the losses beside the kernel share: the probabilities of each class, and its pixels.

The kernel's conventions hold for them: at least float32 inside, sums over the labelled pixels of the whole batch,
nothing under ignore matters, no waiting for the device. A class absent from the batch's labelled pixels contributes the
mean of its probability over them, so that false positives cost something and every falsely marked pixel is pulled back.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 — torch's own convention

from sweeper.core.records import Task
from sweeper.losses.kernel import NEARLY_NOTHING
from sweeper.losses.label_maps import segment_sums
from sweeper.losses.per_pixel import cleaned, placed, readable


class Classes(NamedTuple):
    """A batch as K classes, each against all else: binary has its foreground alone (K = 1), multi-class all of them."""

    z: Tensor
    """Logits (N, C, H, W), at least float32, finite under ignore."""
    p: Tensor
    """(N, K, H, W), probabilities."""
    own: Tensor
    """(N, K, H, W), 1 where the class is labelled, else 0."""
    mask: Tensor
    """(N, 1, H, W), 1 where there is a label, else 0."""


def as_classes(logits: Tensor, target: Tensor, task: Task, ignore_index: int) -> Classes:
    """Probabilities and pixels of each class; shapes as for `SegmentationLoss.forward`."""
    labels = target.long().unsqueeze(1)
    labelled = labels != ignore_index
    z = cleaned(logits, labelled).contiguous()
    mask = labelled.to(z.dtype)
    if task == "multiclass":
        p = F.softmax(z, dim=1)
        own = placed(p, torch.where(labelled, labels, 0), mask)
    else:
        p, own = torch.sigmoid(z), (labels == 1).to(z.dtype)
    return Classes(z, p, own, mask)


def mass(values: Tensor) -> Tensor:
    """Sum over the pixels of the batch, (N, K, H, W) → (K,)."""
    return values.sum(dim=(0, 2, 3))


def of_own_class(values: Tensor, index: Tensor, classes: Tensor) -> Tensor:
    """Sum over the pixels of each class of values (N, 1, H, W) by the pixel's class, of the same shape → (C,).

    `classes` (N, C, H, W) says how many there are. A device would sort all pixels to sum them by an index.
    """
    if readable(values):
        return segment_sums(values, index, classes.shape[1])
    return mass(placed(classes, index, values))


def counted(values: Tensor, mask: Tensor) -> Tensor:
    """Values (N, K, H, W) times the mask (N, 1, H, W), which is left out where it is known to be 1 everywhere."""
    known = readable(mask) and not mask.requires_grad
    return values if known and bool((mask == 1).all()) else values * mask


def mean_probability(classes: Classes) -> Tensor:
    """Mean of each class's probability over the labelled pixels, (K,): what an absent class costs."""
    return mass(classes.p * classes.mask) / mass(classes.mask).clamp(min=NEARLY_NOTHING)
