"""Points of the kernel from one pass's sums."""

from __future__ import annotations

import torch
from torch import Tensor

from sweeper.losses.coordinates import KernelSettings
from sweeper.losses.fused_cpu.sums import Entropy, Sums
from sweeper.losses.fused_cpu.walk import class_sums, walks
from sweeper.losses.kernel import NEARLY_NOTHING, class_cost, mean_of_classes
from sweeper.losses.per_pixel import near_boundary


def covers(logits: Tensor, weight: Tensor | None, settings: KernelSettings) -> bool:
    """Whether `kernel_loss` can be used: where `class_sums` can, but for three options of the kernel.

    `label_smoothing`, `per_image` and `squared` are left to `sweeper.losses.kernel`.
    """
    return walks(logits, weight) and not (settings.label_smoothing > 0 or settings.per_image or settings.squared)


def kernel_loss(
    logits: Tensor,
    target: Tensor,
    settings: KernelSettings,
    ignore_index: int,
    *,
    softmax: bool,
    weight: Tensor | None = None,
) -> Tensor:
    """The value of `sweeper.losses.kernel.softmax_loss` or `sigmoid_loss`; shapes as there."""
    entropy = None
    extra = None
    if settings.mix > 0:
        entropy = _entropy(settings, softmax=softmax, binary=logits.shape[1] == 1)
        if settings.boundary_weight > 0:
            near = near_boundary(target, target.long() != ignore_index)
            extra = torch.add(
                1,
                near.to(torch.float64 if logits.dtype == torch.float64 else torch.float32),
                alpha=settings.boundary_weight,
            )
    sums = class_sums(
        logits,
        target,
        ignore_index,
        softmax=softmax,
        entropy=entropy,
        overlap=settings.mix < 1,
        weight=weight,
        entropy_weight=extra,
    )
    if settings.mix == 1:
        return sums.entropy
    overlap = _overlap(sums, settings, softmax=softmax)
    return settings.mix * sums.entropy + (1 - settings.mix) * overlap if settings.mix > 0 else overlap


def _entropy(settings: KernelSettings, *, softmax: bool, binary: bool) -> Entropy:
    weights, absent = settings.class_weights or (1.0,), settings.absent_weights or (1.0,)
    if binary and settings.class_weights is not None and settings.absent_weights is None:
        absent, weights = weights[:1], weights[1:]  # of background and foreground
    gammas = (settings.gamma,) if softmax else (settings.gamma, settings.gamma)
    return Entropy(gammas, weights, absent, settings.hard_fraction)


def _overlap(sums: Sums, settings: KernelSettings, *, softmax: bool) -> Tensor:
    _, marked, missed, actual, rest = sums
    weights = actual.new_tensor(settings.class_weights) if settings.weigh_overlap else None
    if softmax:
        # An absent class has no other probability than false positives.
        each = class_cost(marked, missed, actual, marked / sums.labelled.clamp(min=NEARLY_NOTHING), settings)
        if settings.include_background is False:
            each, weights = each[1:], None if weights is None else weights[1:]
        return mean_of_classes(each, weights)
    each = class_cost(marked, missed, actual, marked / rest.clamp(min=NEARLY_NOTHING), settings)
    if settings.include_background:
        swapped = class_cost(missed, marked, rest, missed / actual.clamp(min=NEARLY_NOTHING), settings)
        if weights is not None:  # of background and foreground: there is one channel
            return mean_of_classes(torch.cat([swapped, each]), weights)
        each = (each + swapped) / 2
    return mean_of_classes(each, weights if len(each) > 1 else None)
