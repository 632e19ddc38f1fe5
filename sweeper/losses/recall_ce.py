"""Recall loss (Tian et al. 2021, arXiv:2106.14917): cross-entropy, each class weighted by what is missed of it.

w_c = max(1, FN_c) / (pixels of c), counted in the batch from hard answers (argmax; binary and multi-label: z > 0 is the
class, else its absence), as in the authors' code; a number, without a gradient. A class that is all right keeps the
weight of one wrong pixel. Weights of pixels do not take part in counting.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 — torch's own convention

from sweeper.losses.families import LossTask
from sweeper.losses.kernel import own_class
from sweeper.losses.loss_module import SegmentationLoss
from sweeper.losses.per_pixel import averaged, cleaned


class RecallCrossEntropy(SegmentationLoss):
    """No coordinates."""

    def __init__(self, task: LossTask, ignore_index: int) -> None:
        super().__init__("recall_ce", task, {}, ignore_index)

    def compute(self, logits: Tensor, target: Tensor, weight: Tensor | None, distance: Tensor | None) -> Tensor:
        """The loss of a checked batch."""
        labels = target.long().unsqueeze(1) if self.task == "binary" else target.long()
        labelled = labels != self.ignore_index
        if self.task == "multiclass":
            z = cleaned(logits, labelled.unsqueeze(1)).contiguous()
            index = torch.where(labelled, labels, 0)
            loss = -own_class(F.log_softmax(z, dim=1), index)
            classes = torch.arange(z.shape[1], device=z.device).view(1, -1, 1, 1)
            own = (labels.unsqueeze(1) == classes) & labelled.unsqueeze(1)
            wrong = (z.detach().argmax(1) != labels).unsqueeze(1)
            return averaged(loss * _missed_share(own, wrong, z.dtype)[index], labelled, 1.0, weight)
        z = cleaned(logits, labelled)
        there = labels == 1
        u = torch.where(there, z, -z)
        wrong = (z.detach() > 0) != there
        present = _missed_share(there & labelled, wrong, z.dtype).view(-1, 1, 1)
        absent = _missed_share(~there & labelled, wrong, z.dtype).view(-1, 1, 1)
        weight = weight.unsqueeze(1) if weight is not None and weight.ndim < labelled.ndim else weight
        return averaged(-F.logsigmoid(u) * torch.where(there, present, absent), labelled, 1.0, weight)


def _missed_share(own: Tensor, wrong: Tensor, dtype: torch.dtype) -> Tensor:
    """Share of each class's pixels that are wrong, (C,); `own` (N, C, H, W) bool, `wrong` broadcast over it."""
    return (own & wrong).sum(dim=(0, 2, 3)).clamp(min=1).to(dtype) / own.sum(dim=(0, 2, 3)).clamp(min=1).to(dtype)


def build(*, task: LossTask, ignore_index: int, class_frequencies: Sequence[float] | None) -> RecallCrossEntropy:
    """The module, from checked coordinates."""
    return RecallCrossEntropy(task, ignore_index)
