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

from sweeper.losses.families import LossTask
from sweeper.losses.kernel import NEARLY_NOTHING
from sweeper.losses.pixels import cleaned


class Classes(NamedTuple):
    """A batch as K classes, each against all else: binary has its foreground alone (K = 1), multi-class all of them."""

    z: Tensor
    """Logits (N, C, H, W), at least float32, finite under ignore."""
    p: Tensor
    """(N, K, H, W), probabilities."""
    own: Tensor
    """(N, K, H, W), 1 (or the pixel's weight) where the class is labelled, else 0."""
    mask: Tensor
    """(N, 1 or K, H, W), 1 (or the pixel's weight) where there is a label, else 0."""


def as_classes(
    logits: Tensor, target: Tensor, task: LossTask, ignore_index: int, weight: Tensor | None = None
) -> Classes:
    """Probabilities and pixels of each class; shapes as for `SegmentationLoss.forward`."""
    labels = target.long() if task == "multilabel" else target.long().unsqueeze(1)
    labelled = labels != ignore_index
    z = cleaned(logits, labelled).contiguous()
    mask = labelled.to(z.dtype)
    if weight is not None:
        mask = mask * (weight if weight.ndim == 4 else weight.unsqueeze(1))
    if task == "multiclass":
        p = F.softmax(z, dim=1)
        own = torch.zeros_like(p).scatter_(1, torch.where(labelled, labels, 0), mask)
    else:
        p, own = torch.sigmoid(z), (labels == 1).to(z.dtype) * mask
    return Classes(z, p, own, mask)


def mass(values: Tensor) -> Tensor:
    """Sum over the pixels of the batch, (N, K, H, W) → (K,)."""
    return values.sum(dim=(0, 2, 3))


def mean_probability(classes: Classes) -> Tensor:
    """Mean of each class's probability over the labelled pixels, (K,): what an absent class costs."""
    return mass(classes.p * classes.mask) / mass(classes.mask).clamp(min=NEARLY_NOTHING)


def with_background(classes: Classes) -> Classes:
    """Binary or multi-label seen as 2 K classes: what is not the class comes first."""
    p, own, mask = classes.p, classes.own, classes.mask
    # 1 − σ(z) = σ(−z), without the cancellation.
    return Classes(
        classes.z,
        torch.cat([torch.sigmoid(-classes.z), p], dim=1),
        torch.cat([mask - own, own], dim=1),
        mask.expand_as(own).repeat(1, 2, 1, 1),
    )
