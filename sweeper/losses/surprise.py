"""Losses that are a function of each pixel's −log p_t: what they share.

p_t is the probability of the pixel's own class, from the sigmoid or the softmax. Plain operations of torch, which have
derivatives of any order and wait for no device.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 — torch's own convention

from sweeper.losses.families import LossTask
from sweeper.losses.kernel import own_class
from sweeper.losses.loss_module import SegmentationLoss
from sweeper.losses.per_pixel import averaged, cleaned


def surprise(logits: Tensor, target: Tensor, task: LossTask, ignore_index: int) -> tuple[Tensor, Tensor]:
    """−log p_t ≥ 0 of every pixel in at least float32, and whether it is labelled; shapes as for the loss.

    Returns:
        (N, H, W) for multi-class, (N, 1, H, W) for binary, (N, C, H, W) for multi-label; finite under ignore.
    """
    labels = target.long().unsqueeze(1) if task == "binary" else target.long()
    labelled = labels != ignore_index
    if task == "multiclass":
        z = cleaned(logits, labelled.unsqueeze(1)).contiguous()
        return -own_class(F.log_softmax(z, dim=1), torch.where(labelled, labels, 0)), labelled
    z = cleaned(logits, labelled)
    return -F.logsigmoid(torch.where(labels == 1, z, -z)), labelled


class PixelLoss(SegmentationLoss):
    """Mean over the labelled pixels of a function of −log p_t; subclasses give the function, or more."""

    def compute(self, logits: Tensor, target: Tensor, weight: Tensor | None, distance: Tensor | None) -> Tensor:
        """The loss of a checked batch."""
        found, labelled = surprise(logits, target, self.task, self.ignore_index)
        weight = weight.unsqueeze(1) if weight is not None and weight.ndim < labelled.ndim else weight
        return self.over_pixels(found, labelled, weight)

    def over_pixels(self, found: Tensor, labelled: Tensor, weight: Tensor | None) -> Tensor:
        """The mean; arguments shaped as `surprise` gives them."""
        return averaged(self.cost(found), labelled, 1.0, weight)

    def cost(self, found: Tensor) -> Tensor:
        """Of each pixel, from its −log p_t; 0 at 0, any shape."""
        raise NotImplementedError


def missed(found: Tensor) -> Tensor:
    """1 − p_t from −log p_t, with all its digits where p_t is near 1."""
    return -torch.expm1(-found)
