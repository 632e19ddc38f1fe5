"""The kernel of the losses: `L = λ · CE(γ | w) + (1 − λ) · mean_c (1 − TI_c(a, b))^κ`, as pure functions of tensors.

Cross-entropy part: −w_t (1 − p_t)^γ log p_t, summed over the labelled pixels and divided by their number (never by the
sum of the weights). p_t is the probability of the pixel's label, from the sigmoid or the softmax; of a multi-label task
the pixels of every class count. Hard pixels and boundaries: `sweeper.losses.per_pixel`.
Overlap part: Tversky index over the whole batch with smoothing 1,
TI_c = (TP_c + 1) / (TP_c + a FP_c + b FN_c + 1), of the foreground (binary) or averaged over all classes. For a class
without labelled pixels in the batch, its mean probability over the labelled pixels replaces 1 − TI_c.

All functions here

- compute in at least float32: float16 and bfloat16 logits are converted, float64 stays, and no operation is one that
  autocast lowers;
- disregard logits under ignore (±1e4, infinity, NaN): the gradient there is exactly 0. Without labelled pixels value
  and gradient are 0;
- have finite values and gradients for finite logits, up to ±1e4 and beyond;
- never wait for a device: no `.item()`, no boolean indexing, no shape that depends on data. They therefore do not check
  label values (`sweeper.data` does). A part with weight 0 is not computed;
- sum deterministically on every device.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 — torch's own convention

from sweeper.losses.coordinates import KernelSettings
from sweeper.losses.per_pixel import (
    average_labelled,
    clean_logits,
    compute_focal_factor,
    is_near_boundary,
    scatter_to_classes,
)

LINEAR_BELOW = 1e-6
"""Below this, (1 − TI)^κ is linear down to 0, so that its gradient is bounded at TI = 1 for κ < 1."""

NEARLY_NOTHING = 1e-12
"""Lower bound of divisors in pixels; products of gradients stay within float32's limits."""


def sigmoid_loss(
    logits: Tensor,
    target: Tensor,
    settings: KernelSettings,
    ignore_index: int,
    class_weights: Tensor | tuple[float, float] = (1.0, 1.0),
) -> Tensor:
    """Compute the loss of independent classes: of one in a binary segmentation, of several in a multi-label one.

    Args:
        logits: (N, C, H, W), floating, unbounded.
        target: (N, C, H, W), or (N, H, W) for C = 1; integer, 1 = the class, `ignore_index` = no label, else not.
        settings: the point of the kernel.
        ignore_index: label of pixels that do not count.
        class_weights: of the pixels that are not of the class and of those that are: numbers, or each (C, 1, 1).

    Returns:
        Scalar, float32 (float64 for float64 logits), ≥ 0.
    """
    labels = target.long().reshape(logits.shape)
    labelled = labels != ignore_index
    z = clean_logits(logits, labelled)
    foreground = (labels == 1).to(z.dtype)
    background = labelled.to(z.dtype) - foreground
    # u is the logit of the pixel's label: p_t = σ(u), 1 − p_t = σ(−u).
    u = z * (foreground - background)
    parts = []
    if settings.mix != 0:
        low, high = class_weights
        log_right = F.logsigmoid(u)
        loss = -log_right
        if settings.gamma != 0:
            loss = loss * torch.exp(settings.gamma * (log_right - u))  # log σ(−u) = log σ(u) − u
        loss = loss * (background * low + foreground * high)
        parts.append(settings.mix * _average_cross_entropy(loss, labels, labelled, settings))
    if settings.mix != 1:
        wrong = torch.sigmoid(-u)
        false_positives, others = sum_over_pixels(wrong * background), sum_over_pixels(background)
        mean = false_positives / others.clamp(min=NEARLY_NOTHING)
        each = compute_class_cost(
            false_positives, sum_over_pixels(wrong * foreground), sum_over_pixels(foreground), mean, settings
        )
        parts.append((1 - settings.mix) * each.mean())
    return parts[0] if len(parts) == 1 else parts[0] + parts[1]


def softmax_loss(
    logits: Tensor, target: Tensor, settings: KernelSettings, ignore_index: int, class_weights: Tensor | None = None
) -> Tensor:
    """Compute the loss of a multi-class segmentation.

    Args:
        logits: (N, C, H, W), floating, unbounded, C ≥ 2.
        target: (N, H, W), integer in [0, C), or `ignore_index` = no label.
        settings: the point of the kernel.
        ignore_index: label of pixels that do not count.
        class_weights: (C,), `settings.class_weights` on the device and in the precision of the computation; None = 1.

    Returns:
        Scalar, float32 (float64 for float64 logits), ≥ 0.
    """
    labels = target.long()
    labelled = labels != ignore_index
    # Softmax copies channels_last memory anyway, and all later operations are slower on it.
    z = clean_logits(logits, labelled.unsqueeze(1)).contiguous()
    index = torch.where(labelled, labels, 0)
    log_p = F.log_softmax(z, dim=1)
    parts = []
    if settings.mix != 0:
        loss = -log_p.gather(1, index.unsqueeze(1)).squeeze(1)
        if settings.gamma != 0:
            loss = loss * compute_focal_factor(loss, settings.gamma)
        if class_weights is not None:
            loss = loss * class_weights[index]
        parts.append(settings.mix * _average_cross_entropy(loss, labels, labelled, settings))
    if settings.mix != 1:
        p, mask = log_p.exp(), labelled.to(z.dtype).unsqueeze(1)
        one_hot = scatter_to_classes(p, index.unsqueeze(1), mask)  # 1 at the label, 0 under ignore
        actual, true_positives = sum_over_pixels(one_hot), sum_over_pixels(p * one_hot)
        total = sum_over_pixels(p * mask)  # TP + FP
        mean = total / sum_over_pixels(mask).clamp(min=NEARLY_NOTHING)
        each = compute_class_cost(total - true_positives, actual - true_positives, actual, mean, settings)
        parts.append((1 - settings.mix) * each.mean())
    return parts[0] if len(parts) == 1 else parts[0] + parts[1]


def _average_cross_entropy(loss: Tensor, labels: Tensor, labelled: Tensor, settings: KernelSettings) -> Tensor:
    """Average the pixels' losses to the cross-entropy part; all tensors have one shape."""
    if settings.boundary_weight > 0:
        loss = loss * (1 + settings.boundary_weight * is_near_boundary(labels, labelled).to(loss.dtype))
    return average_labelled(loss, labelled, settings.hard_fraction)


def sum_over_pixels(values: Tensor) -> Tensor:
    """Sum over the pixels of the batch, (N, C, H, W) → (C,)."""
    return values.sum(dim=(0, 2, 3))


def compute_class_cost(
    false_positives: Tensor, false_negatives: Tensor, actual: Tensor, mean_probability: Tensor, settings: KernelSettings
) -> Tensor:
    """Compute (1 − TI)^κ of each class from soft counts in pixels, all (C,); `actual` = pixels of the class."""
    errors = settings.fp_weight * false_positives + settings.fn_weight * false_negatives
    lost = errors / (actual - false_negatives + errors + 1)  # 1 − TI without the cancellation
    values, exponent = torch.where(actual > 0, lost, mean_probability), settings.overlap_exponent
    return values * values.clamp(min=LINEAR_BELOW).pow(exponent - 1) if exponent != 1 else values
