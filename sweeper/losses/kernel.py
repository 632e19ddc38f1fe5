"""The loss itself: `L = λ · CE(γ | w) + (1 − λ) · mean_c (1 − TI_c(a, b))^κ`, as pure functions of tensors.

Cross-entropy part: −w_t (1 − p_t)^γ log p_t summed over the labelled pixels and divided by their number (never by the
sum of the weights). p_t is the probability of the pixel's own class, from the sigmoid (binary) or the softmax.
Overlap part: Tversky index over the whole batch with smoothing 1,
TI_c = (TP_c + 1) / (TP_c + a FP_c + b FN_c + 1), of the foreground (binary) or averaged over all classes; a class
absent from the batch's labelled pixels contributes the mean of its probability over them in place of 1 − TI_c.

What holds for every function here:

- Computed in at least float32: float16 and bfloat16 logits are converted, float64 stays; nothing in here is an
  operation that autocast would lower.
- Logits under ignore are replaced before anything else, so whatever stands there (±1e4, infinity, NaN) changes neither
  value nor gradient, and the gradient there is exactly 0. Nothing labelled: value 0, gradient 0.
- Finite values and gradients for finite logits, up to ±1e4 and beyond.
- No waiting for the device: no `.item()`, no boolean indexing, no shape that depends on data. Hence label values are
  not checked here (`sweeper.data` does). A part with weight 0 is not computed.
- Sums are deterministic on every device.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 — torch's own convention

from sweeper.losses.coordinates import KernelSettings

SMOOTHING = 1.0
"""Added to numerator and denominator of the Tversky index, in pixels."""
LINEAR_BELOW = 1e-6
"""Below this, (1 − TI)^κ goes on as a straight line to 0, so that the slope stays bounded at TI = 1 for κ < 1."""


def binary_loss(logits: Tensor, target: Tensor, settings: KernelSettings, ignore_index: int) -> Tensor:
    """Loss of a binary segmentation.

    Args:
        logits: (N, 1, H, W), floating, unbounded.
        target: (N, H, W), integer, 1 = foreground, `ignore_index` = no label, else background.
        settings: the point of the kernel; `class_weights` are those of background and foreground.
        ignore_index: label of pixels that do not count.

    Returns:
        Scalar, float32 (float64 for float64 logits), ≥ 0.
    """
    labels = target.long()
    labelled = labels != ignore_index
    z = torch.where(labelled, _at_least_float32(logits.squeeze(1)), 0.0)
    foreground = (labels == 1).to(z.dtype)
    background = labelled.to(z.dtype) - foreground
    pixels = labelled.sum().clamp(min=1)
    # Everything follows from the logit of being right: p_t = σ(u), 1 − p_t = σ(−u).
    u = z * (foreground - background)
    parts = []
    if settings.mix > 0:
        log_right = F.logsigmoid(u)
        loss = -log_right
        if settings.gamma > 0:
            loss = loss * torch.exp(settings.gamma * (log_right - u))  # log σ(−u) = log σ(u) − u
        low, high = settings.class_weights or (1.0, 1.0)
        weight = background * low + foreground * high
        parts.append(settings.mix * ((loss * weight).sum() / pixels))
    if settings.mix < 1:
        wrong = torch.sigmoid(-u)
        false_positives, false_negatives = (wrong * background).sum(), (wrong * foreground).sum()
        overlap = _overlap(false_positives, false_negatives, foreground.sum(), false_positives / pixels, settings)
        parts.append((1 - settings.mix) * overlap)
    return parts[0] if len(parts) == 1 else parts[0] + parts[1]


def multiclass_loss(
    logits: Tensor, target: Tensor, settings: KernelSettings, ignore_index: int, class_weights: Tensor | None = None
) -> Tensor:
    """Loss of a multi-class segmentation.

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
    # Softmax over channels_last memory copies anyway, and everything after it is slower there.
    z = torch.where(labelled.unsqueeze(1), _at_least_float32(logits).contiguous(), 0.0)
    index = torch.where(labelled, labels, 0)
    pixels = labelled.sum().clamp(min=1)
    parts = []
    if settings.mix > 0:
        log_p = F.log_softmax(z, dim=1)
        loss = -_own(log_p, index)
        if settings.gamma > 0:
            # log(1 − p_t) = log(−expm1(log p_t)); kept off p_t = 1, where it has no finite slope and the loss is 0.
            rest = torch.log(-torch.expm1(-loss.clamp(min=torch.finfo(loss.dtype).tiny)))
            loss = loss * torch.exp(settings.gamma * rest)
        weight = labelled.to(z.dtype)
        if class_weights is not None:
            weight = weight * class_weights[index]
        parts.append(settings.mix * ((loss * weight).sum() / pixels))
    if settings.mix < 1:
        p = log_p.exp() if settings.mix > 0 else F.softmax(z, dim=1)
        mask = labelled.to(p.dtype).unsqueeze(1)
        own = torch.zeros_like(p).scatter_(1, index.unsqueeze(1), mask)  # one-hot labels, 0 under ignore
        actual, true_positives = own.sum(dim=(0, 2, 3)), (p * own).sum(dim=(0, 2, 3))
        predicted = (p * mask).sum(dim=(0, 2, 3))  # TP + FP
        overlap = _overlap(
            predicted - true_positives, actual - true_positives, actual, predicted / pixels, settings
        ).mean()
        parts.append((1 - settings.mix) * overlap)
    return parts[0] if len(parts) == 1 else parts[0] + parts[1]


def _at_least_float32(logits: Tensor) -> Tensor:
    return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits


def _own(values: Tensor, index: Tensor) -> Tensor:
    """The value of each pixel's own class; values (N, C, H, W), index (N, H, W) → (N, H, W)."""
    return values.gather(1, index.unsqueeze(1)).squeeze(1)


def _overlap(
    false_positives: Tensor, false_negatives: Tensor, actual: Tensor, mean_probability: Tensor, settings: KernelSettings
) -> Tensor:
    """(1 − TI)^κ of each class from soft counts in pixels; all () or (C,), `actual` = pixels of the class."""
    true_positives = actual - false_negatives
    errors = settings.fp_weight * false_positives + settings.fn_weight * false_negatives
    lost = errors / (true_positives + errors + SMOOTHING)  # 1 − TI without the cancellation
    lost = torch.where(actual > 0, lost, mean_probability)
    if settings.overlap_exponent == 1:
        return lost
    return lost * lost.clamp(min=LINEAR_BELOW).pow(settings.overlap_exponent - 1)
