"""Lovász extension of the Jaccard index (Berman et al. 2018): hinge (binary, multi-label) or softmax (multi-class).

The errors of a class's pixels are sorted, largest first, and weighted by how much each adds to 1 − Jaccard. Over the
labelled pixels of the whole batch (the paper's per-image variant is a batch of one picture). A class absent from the
batch costs the *mean* error of its pixels, for the softmax that is its mean probability; the extension itself would
cost the largest error alone and leave every other false positive without a gradient.

The paper reports the softmax form over the classes that are present; here the absent ones count as said.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 — torch's own convention

from sweeper.losses.families import LossTask
from sweeper.losses.pixels import at_least_float32
from sweeper.losses.segmentation import SegmentationLoss


class Lovasz(SegmentationLoss):
    """No coordinates. Pixels cannot be weighted: the index counts them."""

    takes_weight = False

    def __init__(self, task: LossTask, ignore_index: int) -> None:
        super().__init__("lovasz", task, {}, ignore_index)

    def compute(self, logits: Tensor, target: Tensor, weight: Tensor | None, distance: Tensor | None) -> Tensor:
        """The loss of a checked batch."""
        labels = target.long() if self.task == "multilabel" else target.long().unsqueeze(1)
        labelled = labels != self.ignore_index
        z = torch.where(labelled, at_least_float32(logits).contiguous(), 0.0)
        if self.task == "multiclass":
            own = labels == torch.arange(logits.shape[1], device=logits.device).view(1, -1, 1, 1)
            # |y − p|, where p of the own class is at most 1, up to rounding.
            p = F.softmax(z, dim=1)
            errors = torch.where(own, 1 - p, p)
            labelled = labelled.expand_as(errors)
            own = own & labelled
        else:
            own = labels == 1
            errors = F.relu(1 - torch.where(own, z, -z))
        return jaccard_extension(_rows(errors), _rows(own), _rows(labelled)).mean()


def _rows(values: Tensor) -> Tensor:
    """(N, C, H, W) → (C, N·H·W)."""
    return values.transpose(0, 1).flatten(1)


def jaccard_extension(errors: Tensor, own: Tensor, labelled: Tensor) -> Tensor:
    """Lovász extension of 1 − Jaccard in each row; the mean error where a row has no pixel of its class.

    Args:
        errors: (C, P), ≥ 0.
        own: (C, P) bool, whether the pixel is of the class; False under ignore.
        labelled: (C, P) bool.

    Returns:
        (C,), ≥ 0; 0 where nothing is labelled.
    """
    # Ignored pixels come last and cost 0. The order itself has no gradient.
    order = torch.where(labelled, errors.detach(), -1.0).argsort(dim=1, descending=True)
    hit = own.gather(1, order).to(torch.int32).cumsum(dim=1, dtype=torch.int32)  # integers: the same on every device
    total = own.sum(dim=1, keepdim=True)
    rank = torch.arange(1, errors.shape[1] + 1, device=errors.device)
    # 1 − Jaccard after each pixel: intersection = total − hit, union = total + (rank − hit).
    lost = 1 - (total - hit).to(errors.dtype) / (total + rank - hit).to(errors.dtype)
    steps = torch.cat([lost[:, :1], lost[:, 1:] - lost[:, :-1]], dim=1)
    number = labelled.sum(dim=1, keepdim=True).clamp(min=1).to(errors.dtype)
    weights = torch.where(total > 0, torch.zeros_like(errors).scatter_(1, order, steps), 1 / number)
    return (torch.where(labelled, errors, 0.0) * weights).sum(dim=1)


def build(*, task: LossTask, ignore_index: int, class_frequencies: Sequence[float] | None) -> Lovasz:
    """The module, from checked coordinates."""
    return Lovasz(task, ignore_index)
