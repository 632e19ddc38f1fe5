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
from sweeper.losses.onepass import Entropy, Sums, class_sums, walks
from sweeper.losses.pixels import cleaned, focal_factor


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


def sums(
    logits: Tensor,
    target: Tensor,
    task: LossTask,
    ignore_index: int,
    weight: Tensor | None,
    *,
    entropy: Entropy | None = None,
) -> Sums:
    """False positives, false negatives, pixels and labelled pixels of each class; with `entropy` its value, too.

    Shapes as for `SegmentationLoss.forward`. In one pass on a processor, in plain operations elsewhere.
    """
    if walks(logits, weight):
        if task != "multiclass":
            target = target.unsqueeze(1) if task == "binary" else target
            weight = weight.unsqueeze(1) if weight is not None and weight.ndim == 3 else weight
        softmax = task == "multiclass"
        return class_sums(logits, target, ignore_index, softmax=softmax, entropy=entropy, weight=weight)
    classes = as_classes(logits, target, task, ignore_index, weight)
    value = classes.z.new_zeros(())
    if entropy is not None:
        # Pixels, not weights, divide, as in the kernel; `mask` may hold weights.
        value = _entropy(classes, task, entropy) / (target.long() != ignore_index).sum().clamp(min=1)
    others = classes.mask - classes.own
    counts = (classes.p * others, (1 - classes.p) * classes.own, classes.own, others)
    return Sums(value, *(mass(each) for each in counts))


def _entropy(classes: Classes, task: LossTask, entropy: Entropy) -> Tensor:
    """Sum of the cross-entropy over all labelled pixels; its hard fraction is not looked at."""
    gammas, weights, own = entropy.gammas, entropy.weights, classes.own
    if task == "multiclass":
        surprise = -F.log_softmax(classes.z, dim=1)
    else:  # absence and presence of each class
        surprise = -F.logsigmoid(torch.cat([-classes.z, classes.z], dim=1))
        k = own.shape[1]
        own = torch.cat([classes.mask - own, own], dim=1)
        gammas = (gammas[0],) * k + (gammas[1],) * k
        weights = (entropy.absent_weights * k)[:k] + (entropy.weights * k)[:k]
    each = [
        weight * ((one * focal_factor(one, gamma) if gamma > 0 else one) * there).sum()
        for one, there, gamma, weight in zip(surprise.unbind(1), own.unbind(1), gammas, weights, strict=True)
    ]
    return torch.stack(each).sum()


def mass(values: Tensor) -> Tensor:
    """Sum over the pixels of the batch, (N, K, H, W) → (K,)."""
    return values.sum(dim=(0, 2, 3))


def mean_probability(classes: Classes) -> Tensor:
    """Mean of each class's probability over the labelled pixels, (K,): what an absent class costs."""
    return mass(classes.p * classes.mask) / mass(classes.mask).clamp(min=NEARLY_NOTHING)
