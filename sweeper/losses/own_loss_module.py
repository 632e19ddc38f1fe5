"""Module around the user's loss, and the checks of the loss before any training."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from sweeper.core.own_code import format_error_line, refuse_user_code
from sweeper.core.records import IGNORE, Task, UserLoss
from sweeper.core.tasks import RULES
from sweeper.losses.own_losses import OPTION, build_own_loss

SIDE = 12
"""Height and width of the test batches."""


class UserLossModule(nn.Module):
    """The user's loss, called as `loss(logits, target)`; float16 and bfloat16 logits become float32."""

    def __init__(self, family: str, loss: Any) -> None:
        super().__init__()
        self.family, self.loss = family, loss

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Return the loss of a batch; logits (N, C, H, W), target (N, H, W) int64 with 255 = no label.

        C is 1 for two classes; a multi-label target is (N, C, H, W) of 0, 1 and 255.
        """
        loss: Tensor = self.loss(logits.float() if logits.dtype != torch.float64 else logits, target)
        return loss.reshape(())


def check_own_loss(user_loss: UserLoss, task: Task, classes: int) -> None:
    """Test a loss at its start values, on small batches shaped as in training.

    Labels are random, all background, or half of them ignored; logits are within ±1, and once within ±60.

    Raises:
        UsageError: with every problem.
    """
    loss = build_own_loss(user_loss, user_loss.starts, task=task, ignore_index=IGNORE, classes=classes)
    problems, is_moved = list[str](), False
    if any(p.requires_grad for p in loss.parameters()):
        problems.append("it must have no weights, as the optimiser has the network's only; make them buffers")
    drawn = torch.Generator().manual_seed(0)
    rules = RULES[task]
    shape = (2, rules.count_channels(classes), SIDE, SIDE)
    values = shape[1] if rules.is_exclusive else 2
    usual = torch.randint(0, values, (2, *rules.list_planes(classes), SIDE, SIDE), generator=drawn)
    ignored = usual.clone()
    ignored[..., : SIDE // 2, :] = IGNORE
    for words, scale, target in (
        ("on random labels", 1.0, usual),
        ("where no pixel but the background's is labelled", 1.0, torch.zeros_like(usual)),
        (f"where half of the pixels have no label ({IGNORE})", 1.0, ignored),
        ("for logits of ±60", 60.0, usual),
    ):
        logits = (scale * torch.randn(shape, generator=drawn).clamp(-1, 1)).requires_grad_()
        try:
            value = loss(logits, target)
            (gradient,) = torch.autograd.grad(value, logits)
        except Exception as error:
            problems.append(f"{words} it must give a number with a gradient, and failed: {format_error_line(error)}")
            continue
        if not (value.isfinite() and gradient.isfinite().all()):
            problems.append(f"{words} it and its gradient must be finite, got {float(value.detach())}")
        if gradient[(target == IGNORE).view(2, -1, SIDE, SIDE).expand_as(gradient)].any():
            problems.append(f"{words} they must not count, and the gradient there is not 0; leave them out")
        is_moved |= bool(gradient.any())
    if not (is_moved or problems):
        problems.append("some logit must change it, and its gradient is 0")
    refuse_user_code(problems, OPTION, user_loss.code, "trained with")
