"""Recall loss (Tian et al. 2021, arXiv:2106.14917): cross-entropy, each class weighted by what is missed of it.

w_c = max(1, FN_c) / (pixels of c), counted in the batch from hard answers (argmax; binary: z > 0 is the
foreground), as in the authors' code; a number, without a gradient. A class that is all right keeps the
weight of one wrong pixel.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 — torch's own convention

from sweeper.core.records import Task
from sweeper.losses.kernel import own_class
from sweeper.losses.loss_module import SegmentationLoss, without_frequencies
from sweeper.losses.per_pixel import averaged, cleaned


class RecallCrossEntropy(SegmentationLoss):
    """No coordinates."""

    def __init__(self, task: Task, ignore_index: int) -> None:
        super().__init__("recall_ce", task, {}, ignore_index)

    def compute(self, logits: Tensor, target: Tensor, label_map: Tensor | None) -> Tensor:
        """The loss of a checked batch."""
        labels = target.long()
        labelled = labels != self.ignore_index
        if self.task == "multiclass":
            z = cleaned(logits, labelled.unsqueeze(1)).contiguous()
            index = torch.where(labelled, labels, 0)
            loss = -own_class(F.log_softmax(z, dim=1), index)
            classes = torch.arange(z.shape[1], device=z.device).view(1, -1, 1, 1)
            own = (labels.unsqueeze(1) == classes) & labelled.unsqueeze(1)
            wrong = (z.detach().argmax(1) != labels).unsqueeze(1)
            return averaged(loss * _missed_share(own, wrong, z.dtype)[index], labelled)
        labels, labelled = labels.unsqueeze(1), labelled.unsqueeze(1)
        z = cleaned(logits, labelled)
        there = labels == 1
        u = torch.where(there, z, -z)
        wrong = (z.detach() > 0) != there
        present = _missed_share(there & labelled, wrong, z.dtype)
        absent = _missed_share(~there & labelled, wrong, z.dtype)
        return averaged(-F.logsigmoid(u) * torch.where(there, present, absent), labelled)


def _missed_share(own: Tensor, wrong: Tensor, dtype: torch.dtype) -> Tensor:
    """Share of each class's pixels that are wrong, (C,); `own` (N, C, H, W) bool, `wrong` broadcast over it."""
    return (own & wrong).sum(dim=(0, 2, 3)).clamp(min=1).to(dtype) / own.sum(dim=(0, 2, 3)).clamp(min=1).to(dtype)


build = without_frequencies(RecallCrossEntropy)
