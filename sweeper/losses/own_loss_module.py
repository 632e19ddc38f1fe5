"""Module around the user's loss, and the checks of the loss before any training."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn

from sweeper.core.errors import UsageError
from sweeper.core.own_code import format_error_line, refuse_user_code
from sweeper.core.records import IGNORE, Task, UserLoss
from sweeper.losses.own_losses import OPTION, build_own_loss

SIDE = 12
"""Height and width of the test batches."""


class UserLossModule(nn.Module):
    """The user's loss, called as `loss(logits, target)`; float16 and bfloat16 logits become float32."""

    def __init__(self, family: str, loss: Any) -> None:
        super().__init__()
        self.family, self.loss = family, loss

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss of a batch; logits (N, 1 or C, H, W), target (N, H, W) int64 with 255 = no label."""
        loss: Tensor = self.loss(logits.float() if logits.dtype != torch.float64 else logits, target)
        return loss


def check_own_loss(user_loss: UserLoss, task: Task, classes: int) -> None:
    """Test a loss at its start values, on small batches shaped as in training.

    Labels are random, all background, or half of them ignored; logits are within ±1, and once within ±60.

    Raises:
        UsageError: with every problem.
    """
    refuse_user_code(list(_find_problems(user_loss, task, classes)), OPTION, user_loss.code, "trained with")


def _find_problems(user_loss: UserLoss, task: Task, classes: int) -> Iterator[str]:
    try:
        loss = build_own_loss(user_loss, user_loss.starts, task=task, ignore_index=IGNORE, classes=classes)
    except UsageError as error:
        yield str(error)
        return
    if any(p.requires_grad for p in loss.parameters()):
        yield "it must have no weights of its own: the optimiser has the network's alone; make them buffers"
    drawn = torch.Generator().manual_seed(0)
    shape = (2, 1 if task == "binary" else classes, SIDE, SIDE)
    usual = torch.randint(0, classes, (2, SIDE, SIDE), generator=drawn)
    ignored = usual.clone()
    ignored[:, : SIDE // 2] = IGNORE
    batches = (
        ("on random labels", 1.0, usual),
        ("where no pixel but the background's is labelled", 1.0, torch.zeros_like(usual)),
        (f"where half of the pixels have no label ({IGNORE})", 1.0, ignored),
        ("for logits of ±60", 60.0, usual),
    )
    for words, scale, target in batches:
        logits = (scale * torch.randn(shape, generator=drawn).clamp(-1, 1)).requires_grad_()
        try:
            value = loss(logits, target)
        except Exception as error:
            if isinstance(error, MemoryError):
                raise
            yield f"{words} it must give a number, and failed: {format_error_line(error)}"
            continue
        yield from (f"{words} {text}" for text in _find_value_problems(value, logits, target, usual=scale == 1.0))


def _find_value_problems(value: object, logits: Tensor, target: Tensor, *, usual: bool) -> Iterator[str]:
    if not isinstance(value, Tensor) or value.ndim:
        shown = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else type(value).__name__
        yield f"it must give a tensor of no dimension, got {shown}; take the mean over pixels"
        return
    if not torch.isfinite(value):
        yield f"it must be finite, got {float(value.detach())}"
        return
    if not value.requires_grad:
        yield "it must depend on the logits by operations with derivatives, and has none"
        return
    try:
        (gradient,) = torch.autograd.grad(value, logits, allow_unused=True)
    except Exception as error:
        yield f"its gradient must be computable, and failed: {format_error_line(error)}"
        return
    if gradient is None or not bool(torch.isfinite(gradient).all()):
        yield "its gradient must be finite, " + ("and there is none" if gradient is None else "got NaN or infinity")
        return
    without = (target == IGNORE).unsqueeze(1).expand_as(gradient)
    if bool(gradient[without].any()):
        yield f"pixels without a label ({IGNORE}) must not count, and the gradient there is not 0; leave them out"
    if usual and bool((target > 0).any()) and not bool(gradient.any()):
        yield "some logit must change it, and its gradient is 0"
