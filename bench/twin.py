"""Cross-entropy on a random 80 % of the pixels: in expectation cross-entropy itself, and never quite it."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

KEPT = 0.8


class Twin(nn.Module):
    """Mean cross-entropy over the pixels that a draw keeps: of logits (N, 1 or C, H, W) and labels (N, H, W)."""

    def __init__(self, task: str, ignore_index: int = 255) -> None:
        super().__init__()
        self.task, self.ignored = task, ignore_index

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return a number; pixels without a label do not count."""
        kept = (torch.rand(target.shape, device=target.device) < KEPT) & (target != self.ignored)
        labels = torch.where(kept, target, 0).long()
        if self.task == "binary":
            each = functional.binary_cross_entropy_with_logits(logits[:, 0], labels.to(logits.dtype), reduction="none")
        else:
            each = functional.cross_entropy(logits, labels, reduction="none")
        return (each * kept).sum() / kept.sum().clamp(min=1)
