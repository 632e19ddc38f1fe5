"""The one call for both forms, and where it can be used."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.forward_ad import unpack_dual

from sweeper.losses.fused_cpu.sigmoid import SigmoidSums
from sweeper.losses.fused_cpu.softmax import SoftmaxSums
from sweeper.losses.fused_cpu.sums import Entropy, Plan, Sums
from sweeper.losses.per_pixel import readable


def walks(logits: Tensor, weight: Tensor | None = None) -> bool:
    """Whether `class_sums` can be used: on a processor, not compiled, not transformed, no gradient for the weights, no
    forward-mode derivative."""
    return (
        readable(logits)
        and not (weight is not None and weight.requires_grad)
        and not any(t is not None and _is_dual(t) for t in (logits, weight))
    )


def _is_dual(values: Tensor) -> bool:
    """Whether values carry a derivative forward."""
    tangent = unpack_dual(values).tangent  # type: ignore[no-untyped-call]
    return tangent is not None


def class_sums(
    logits: Tensor,
    target: Tensor,
    ignore_index: int,
    *,
    softmax: bool,
    entropy: Entropy | None = None,
    overlap: bool = True,
    weight: Tensor | None = None,
    entropy_weight: Tensor | None = None,
) -> Sums:
    """Cross-entropy and class sums of a batch on a processor, differentiable in the logits.

    Args:
        logits: (N, C, H, W), floating, unbounded; C ≥ 2 for the softmax.
        target: (N, H, W), integer in [0, C) or `ignore_index`, for the softmax; else (N, C, H, W), integer: 1 = the
            class is there, `ignore_index` = no label, else not there.
        ignore_index: label of pixels that do not count, whatever their logits are.
        softmax: whether classes exclude each other.
        entropy: the cross-entropy part; None = its value is 0.
        overlap: whether false positives and negatives are wanted; else they are 0.
        weight: shaped as `target`, ≥ 0, 0 under ignore: factor of each pixel in the sums and the cross-entropy (never
            in its divisor).
        entropy_weight: the same for the cross-entropy alone.

    Returns:
        The sums, in at least float32.

    Raises:
        IndexError: for a label that is no class (softmax).
    """
    keep = torch.is_grad_enabled() and logits.requires_grad
    plan = Plan(ignore_index, entropy, overlap, keep)
    form = SoftmaxSums if softmax else SigmoidSums
    return Sums(*form.apply(plan, logits, target, weight, entropy_weight))  # type: ignore[no-untyped-call]
