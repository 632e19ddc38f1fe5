"""Define cross-entropy on a random 80 % of the pixels, for bench/aliases.py: equal to cross-entropy in expectation."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

SHARE = 0.8


class Twin(nn.Module):
    """Mean cross-entropy over a random share of the pixels, of logits (N, 1 or C, H, W) and labels (N, H, W)."""

    def __init__(self, task: str, ignore_index: int = 255) -> None:
        super().__init__()
        self.task, self.ignored = task, ignore_index

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the mean; pixels without a label do not count."""
        is_used = (torch.rand(target.shape, device=target.device) < SHARE) & (target != self.ignored)
        labels = torch.where(is_used, target, 0).long()
        if self.task == "binary":
            each = functional.binary_cross_entropy_with_logits(logits[:, 0], labels.to(logits.dtype), reduction="none")
        else:
            each = functional.cross_entropy(logits, labels, reduction="none")
        return (each * is_used).sum() / is_used.sum().clamp(min=1)
