"""Sums over the labelled pixels of a batch that losses of whole classes are made of, and a cross-entropy beside them.

The kernel's conventions hold: at least float32 inside, nothing under ignore matters, no waiting for the device.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 — torch's own convention

from sweeper.core.records import Task
from sweeper.losses.kernel import own_class
from sweeper.losses.per_pixel import averaged, cleaned, focal_factor, placed


class Sums(NamedTuple):
    """Sums over the labelled pixels of a batch, in pixels; C = classes (1 for binary)."""

    entropy: Tensor
    """Scalar: cross-entropy part, averaged over labelled pixels; 0 where none is asked."""
    false_positives: Tensor
    """(C,): Σ of the probability of the class where it is not."""
    false_negatives: Tensor
    """(C,): Σ of 1 − its probability where it is."""
    actual: Tensor
    """(C,): pixels of the class. No gradient."""
    rest: Tensor
    """(C,): labelled pixels where the class is not. No gradient."""

    @property
    def labelled(self) -> Tensor:
        """(C,): labelled pixels. No gradient."""
        return self.actual + self.rest


class Entropy(NamedTuple):
    """A cross-entropy part −w_t (1 − p_t)^γ_t log p_t over all labelled pixels."""

    gammas: tuple[float, ...]
    """γ of each class; binary: of background and foreground."""
    weights: tuple[float, ...]
    """w of each class, likewise."""


def class_sums(
    logits: Tensor, target: Tensor, task: Task, ignore_index: int, *, entropy: Entropy | None = None
) -> Sums:
    """Errors and pixels of each class; with `entropy` its value, too.

    Shapes as for `SegmentationLoss.forward`.
    """
    if task == "multiclass":
        return _softmax_sums(logits, target, ignore_index, entropy)
    return _sigmoid_sums(logits, target.unsqueeze(1), ignore_index, entropy)


def _softmax_sums(logits: Tensor, target: Tensor, ignore_index: int, part: Entropy | None) -> Sums:
    labels = target.long()
    labelled = labels != ignore_index
    z = cleaned(logits, labelled.unsqueeze(1)).contiguous()
    index = torch.where(labelled, labels, 0)
    log_p = F.log_softmax(z, dim=1)
    entropy = z.new_zeros(())
    if part is not None:
        loss = -own_class(log_p, index)
        if any(part.gammas):
            loss = loss * focal_factor(loss, _of_class(part.gammas, index, loss))
        loss = loss * _of_class(part.weights, index, loss)
        entropy = averaged(loss, labelled)
    p = log_p.exp()
    mask = labelled.to(z.dtype).unsqueeze(1)
    own = placed(p, index.unsqueeze(1), mask)
    return _sums(entropy, (p, 1 - p), own, mask)


def _sigmoid_sums(logits: Tensor, target: Tensor, ignore_index: int, part: Entropy | None) -> Sums:
    labels = target.long()
    labelled = labels != ignore_index
    z = cleaned(logits, labelled)
    there = (labels == 1).to(z.dtype)
    absent = labelled.to(z.dtype) - there
    # Everything follows from the logit of being right: p_t = σ(u), 1 − p_t = σ(−u).
    u = z * (there - absent)
    entropy = z.new_zeros(())
    if part is not None:
        log_right = F.logsigmoid(u)
        loss = -log_right
        low, high = part.gammas
        if low > 0 or high > 0:
            loss = loss * torch.exp((low * absent + high * there) * (log_right - u))  # log σ(−u) = log σ(u) − u
        low, high = part.weights
        entropy = averaged(loss * (low * absent + high * there), labelled)
    return _sums(entropy, (torch.sigmoid(z), torch.sigmoid(-z)), there, labelled.to(z.dtype))


def _sums(entropy: Tensor, p: tuple[Tensor, Tensor], own: Tensor, mask: Tensor) -> Sums:
    """From the probabilities of each class and of its absence; 1 where it is, and where any label is."""
    others = mask - own
    return Sums(entropy, _mass(p[0] * others), _mass(p[1] * own), _mass(own), _mass(others))


def _mass(values: Tensor) -> Tensor:
    """Sum over the pixels of the batch, (N, C, H, W) → (C,)."""
    return values.sum(dim=(0, 2, 3))


def _of_class(values: Sequence[float], index: Tensor, like: Tensor) -> Tensor:
    """The number of each pixel's class, without a copy to the device."""
    return torch.stack([value * (index == c).to(like.dtype) for c, value in enumerate(values)]).sum(0)
