"""The two passes as autograd calls them, the same for both forms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import Function

from sweeper.losses.fused_cpu.plain import differentiable_gradient
from sweeper.losses.fused_cpu.sums import Batch, Plan, Slopes, Sums
from sweeper.losses.per_pixel import transformed


def in_two_passes(
    measure: Callable[[Batch, Plan], tuple[Sums, Any]],
    gradient: Callable[[Batch, Plan, Any, Slopes], Tensor],
    *,
    softmax: bool,
) -> type[Function]:
    """A function of autograd, (plan, logits, target, weight, factor) → the fields of `Sums`.

    Args:
        measure: the first pass: the sums, and what the other pass needs.
        gradient: the other, which writes over what it needs.
        softmax: whether classes exclude each other.
    """

    class Passes(Function):
        @staticmethod
        def forward(ctx: Any, plan: Plan, *tensors: Any) -> tuple[Tensor, ...]:
            sums, kept = measure(Batch(*tensors), plan)
            ctx.mark_non_differentiable(sums.actual, sums.rest)
            ctx.set_materialize_grads(False)
            if plan.keep:
                ctx.save_for_backward(*tensors)
                ctx.plan, ctx.kept = plan, kept
            return tuple(sums)

        @staticmethod
        def backward(ctx: Any, *slopes: Any) -> tuple[Tensor | None, ...]:
            batch = Batch(*ctx.saved_tensors)
            # In plain operations where a graph of it is wanted (second derivatives) or it is transformed.
            if torch.is_grad_enabled() or transformed(*slopes):
                return None, differentiable_gradient(batch, ctx.plan, slopes[:3], softmax=softmax), None, None, None
            # What was kept is written over; a second backward pass (retain_graph) pays for the first pass again.
            kept = ctx.kept or measure(batch, ctx.plan)[1]
            ctx.kept = None
            return None, gradient(batch, ctx.plan, kept, slopes[:3]), None, None, None

    return Passes
