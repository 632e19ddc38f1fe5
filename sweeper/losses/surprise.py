"""−log p_t of each pixel, for the losses that are a function of it.

p_t is the probability of the pixel's own class, from the sigmoid or the softmax. Plain operations of torch, which have
derivatives of any order and wait for no device.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 — torch's own convention

from sweeper.core.records import Task
from sweeper.losses.kernel import own_class
from sweeper.losses.per_pixel import cleaned


def surprise(logits: Tensor, target: Tensor, task: Task, ignore_index: int) -> tuple[Tensor, Tensor]:
    """−log p_t ≥ 0 of every pixel in at least float32, and whether it is labelled; shapes as for the loss.

    Returns:
        (N, H, W) for multi-class, (N, 1, H, W) for binary; finite under ignore.
    """
    labels = target.long().unsqueeze(1) if task == "binary" else target.long()
    labelled = labels != ignore_index
    if task == "multiclass":
        z = cleaned(logits, labelled.unsqueeze(1)).contiguous()
        return -own_class(F.log_softmax(z, dim=1), torch.where(labelled, labels, 0)), labelled
    z = cleaned(logits, labelled)
    return -F.logsigmoid(torch.where(labels == 1, z, -z)), labelled
