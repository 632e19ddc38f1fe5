"""The loss itself: `L = λ · CE(γ | w) + (1 − λ) · mean_c (1 − TI_c(a, b))^κ`, as pure functions of tensors.

Cross-entropy part: −w_t (1 − p_t)^γ log p_t summed over the labelled pixels and divided by their number (never by the
sum of the weights). p_t is the probability of the pixel's own class, from the sigmoid (binary) or the
softmax. Hard pixels and boundaries: `sweeper.losses.per_pixel`.
Overlap part: Tversky index over the whole batch with smoothing 1,
TI_c = (TP_c + 1) / (TP_c + a FP_c + b FN_c + 1), of the foreground (binary) or averaged over all classes; a class
absent from the batch's labelled pixels contributes the mean of its probability over them in place of 1 − TI_c.
Options: another smoothing, per image, with or without background, squared errors, a mean weighted by class.

What holds for every function here:

- Computed in at least float32: float16 and bfloat16 logits are converted, float64 stays; nothing in here is an
  operation that autocast would lower.
- What stands in logits under ignore (±1e4, infinity, NaN) changes neither value nor gradient, and the gradient there is
  exactly 0. Nothing labelled: value 0, gradient 0.
- Finite values and gradients for finite logits, up to ±1e4 and beyond.
- Hyper-parameters are numbers or tensors without axes (`TensorSettings`): of tensors every part is computed, so that
  one program serves any values (`sweeper.losses.reloadable`).
- No waiting for a device: no `.item()` there, no boolean indexing, no shape that depends on data. Hence label values
  are not checked here (`sweeper.data` does). A part with weight 0 is not computed.
- Sums are deterministic on every device.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 — torch's own convention

from sweeper.losses.coordinates import KernelSettings
from sweeper.losses.per_pixel import averaged, cleaned, focal_factor, near_boundary, placed, readable

LINEAR_BELOW = 1e-6
"""Below this, (1 − TI)^κ goes on as a straight line to 0, so that the slope stays bounded at TI = 1 for κ < 1."""

NEARLY_NOTHING = 1e-12
"""Divisors in pixels are no smaller; far enough from float32's limits for slopes to be multiplied."""


class TensorSettings(NamedTuple):
    """`KernelSettings` whose hyper-parameters are tensors without axes, or numbers without influence; class weights are
    given beside them."""

    mix: Tensor | float
    gamma: Tensor | float
    fp_weight: Tensor
    fn_weight: Tensor
    overlap_exponent: Tensor | float
    smoothing: Tensor
    label_smoothing: float
    hard_fraction: float
    boundary_weight: float
    per_image: bool
    include_background: bool | None
    squared: bool
    weigh_overlap: bool


def sigmoid_loss(
    logits: Tensor,
    target: Tensor,
    settings: KernelSettings | TensorSettings,
    ignore_index: int,
    class_weights: tuple[Tensor | float, Tensor | float] = (1.0, 1.0),
) -> Tensor:
    """Loss of a binary segmentation.

    Args:
        logits: (N, 1, H, W), floating, unbounded.
        target: (N, H, W), integer, 1 = foreground, `ignore_index` = no label, else background.
        settings: the point of the kernel.
        ignore_index: label of pixels that do not count.
        class_weights: of background and foreground: numbers, or tensors without axes on the logits' device.

    Returns:
        Scalar, float32 (float64 for float64 logits), ≥ 0.
    """
    labels = target.long().unsqueeze(1)
    labelled = labels != ignore_index
    z = cleaned(logits, labelled)
    foreground = (labels == 1).to(z.dtype)
    background = labelled.to(z.dtype) - foreground
    # Everything follows from the logit of being right: p_t = σ(u), 1 − p_t = σ(−u).
    u = z * (foreground - background)
    parts = []
    if _matters(settings.mix, 0):
        low, high = class_weights
        log_right = F.logsigmoid(u)
        loss = -log_right
        if _matters(settings.gamma, 0):
            loss = loss * torch.exp(settings.gamma * (log_right - u))  # log σ(−u) = log σ(u) − u
        loss = loss * (background * low + foreground * high)
        if settings.label_smoothing > 0:
            other = u - log_right  # −log of the probability of the other class, whose weight it gets
            if _matters(settings.gamma, 0):
                other = other * torch.exp(settings.gamma * log_right)
            share = settings.label_smoothing / 2
            loss = (1 - share) * loss + share * other * (background * high + foreground * low)
        if settings.boundary_weight > 0:
            loss = loss * (1 + settings.boundary_weight * near_boundary(labels, labelled).to(loss.dtype))
        parts.append(settings.mix * averaged(loss, labelled, settings.hard_fraction))
    if _matters(settings.mix, 1):
        wrong = torch.sigmoid(-u)
        overlap = _class_overlap(wrong, foreground, background, settings)
        if settings.include_background:
            low, high = class_weights if settings.weigh_overlap else (1.0, 1.0)
            behind = _class_overlap(wrong, background, foreground, settings)
            overlap = (high * overlap + low * behind) / (low + high)
        parts.append((1 - settings.mix) * overlap)
    return parts[0] if len(parts) == 1 else parts[0] + parts[1]


def _class_overlap(
    wrong: Tensor,
    actual: Tensor,
    others: Tensor,
    settings: KernelSettings | TensorSettings,
) -> Tensor:
    """Overlap part from each pixel's probability of being wrong; 1 where the class is, and where another is."""
    false_positives = wrong * others
    mean = _mass(false_positives, settings) / _mass(others, settings).clamp(min=NEARLY_NOTHING)
    false_negatives, true_positives = wrong * actual, None
    if settings.squared:
        true_positives = _mass(actual - false_negatives, settings)
        false_positives, false_negatives = false_positives * wrong, false_negatives * wrong
    each = class_cost(
        _mass(false_positives, settings),
        _mass(false_negatives, settings),
        _mass(actual, settings),
        mean,
        settings,
        true_positives=true_positives,
    )
    return _mean(each, actual + others, settings, None)


def softmax_loss(
    logits: Tensor,
    target: Tensor,
    settings: KernelSettings | TensorSettings,
    ignore_index: int,
    class_weights: Tensor | None = None,
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
    z = cleaned(logits, labelled.unsqueeze(1))
    if readable(z) and _is_plain(settings):
        # Torch's own kernel is the fastest on the processor; on a GPU its sum is not the same twice.
        total = F.cross_entropy(z, labels, class_weights, ignore_index=ignore_index, reduction="sum")
        return total / torch.count_nonzero(labelled).clamp(min=1)
    # Softmax over channels_last memory copies anyway, and everything after it is slower there.
    z = z.contiguous()
    index = torch.where(labelled, labels, 0)
    parts = []
    if _matters(settings.mix, 0):
        log_p = F.log_softmax(z, dim=1)
        loss = -own_class(log_p, index)
        if _matters(settings.gamma, 0):
            loss = loss * focal_factor(loss, settings.gamma)
        if class_weights is not None:
            loss = loss * class_weights[index]
        if settings.label_smoothing > 0:
            spread = -log_p
            if _matters(settings.gamma, 0):
                spread = spread * focal_factor(spread, settings.gamma)
            if class_weights is not None:
                spread = spread * class_weights.view(1, -1, 1, 1)
            loss = (1 - settings.label_smoothing) * loss + settings.label_smoothing * spread.mean(dim=1)
        if settings.boundary_weight > 0:
            loss = loss * (1 + settings.boundary_weight * near_boundary(labels, labelled).to(loss.dtype))
        parts.append(settings.mix * averaged(loss, labelled, settings.hard_fraction))
    if _matters(settings.mix, 1):
        p = log_p.exp() if _matters(settings.mix, 0) else F.softmax(z, dim=1)
        mask = labelled.to(p.dtype).unsqueeze(1)
        own = placed(p, index.unsqueeze(1), mask)  # 1 at the own class, 0 under ignore
        weights = class_weights if settings.weigh_overlap else None
        parts.append((1 - settings.mix) * _classes_overlap(p, own, mask, settings, weights))
    return parts[0] if len(parts) == 1 else parts[0] + parts[1]


def _is_plain(settings: KernelSettings | TensorSettings) -> bool:
    """Whether it is cross-entropy with nothing but class weights."""
    rest = _matters(settings.gamma, 0) or settings.label_smoothing > 0 or settings.boundary_weight > 0
    return not _matters(settings.mix, 1) and settings.hard_fraction == 1 and not rest


def _matters(value: float | Tensor, neutral: float) -> bool:
    """Whether a hyper-parameter can change the loss: a tensor can, as nobody waits for its value."""
    return isinstance(value, Tensor) or value != neutral


def _classes_overlap(
    p: Tensor, own: Tensor, mask: Tensor, settings: KernelSettings | TensorSettings, class_weights: Tensor | None
) -> Tensor:
    """Overlap part from probabilities (N, C, H, W); 1 at the own class, and where any label is (N, 1, H, W).

    `class_weights`: (C,), of the classes in their mean; None = 1.
    """
    if settings.include_background is False:
        p, own = p[:, 1:], own[:, 1:]
        class_weights = None if class_weights is None else class_weights[1:]
    hit, predicted = p * own, p * mask
    actual, true_positives = _mass(own, settings), _mass(hit, settings)
    total = _mass(predicted, settings)  # TP + FP
    mean = total / _mass(mask, settings).clamp(min=NEARLY_NOTHING)
    if settings.squared:
        false_positives = _mass((predicted - hit) * p, settings)
        false_negatives = _mass((own - hit) * (1 - p), settings)
        each = class_cost(false_positives, false_negatives, actual, mean, settings, true_positives=true_positives)
    else:
        each = class_cost(total - true_positives, actual - true_positives, actual, mean, settings)
    return _mean(each, mask, settings, class_weights)


def own_class(values: Tensor, index: Tensor) -> Tensor:
    """The value of each pixel's own class; values (N, C, H, W), index (N, H, W) → (N, H, W)."""
    return values.gather(1, index.unsqueeze(1)).squeeze(1)


def _mass(values: Tensor, settings: KernelSettings | TensorSettings) -> Tensor:
    """Sum over pixels of values (N, C, H, W): of the batch, (C,), or of each image, (N, C)."""
    return values.sum(dim=(2, 3) if settings.per_image else (0, 2, 3))


def _mean(
    each: Tensor, mask: Tensor, settings: KernelSettings | TensorSettings, class_weights: Tensor | None
) -> Tensor:
    """Mean over classes, and over the images that have labelled pixels of a class where each image counts alone."""
    if not settings.per_image:
        return mean_of_classes(each, class_weights)
    has = (mask.sum(dim=(2, 3)) > 0).to(each.dtype).expand_as(each)
    if class_weights is not None:
        has = has * class_weights
    return (each * has).sum() / has.sum().clamp(min=NEARLY_NOTHING)


def mean_of_classes(each: Tensor, class_weights: Tensor | None) -> Tensor:
    """Mean of the classes' costs (C,), weighted by (C,) ≥ 0, or (1,) for all; 0 where no class has a weight."""
    if class_weights is None:
        return each.mean()
    class_weights = class_weights.expand_as(each)
    return (class_weights * each).sum() / class_weights.sum().clamp(min=NEARLY_NOTHING)


def class_cost(
    false_positives: Tensor,
    false_negatives: Tensor,
    actual: Tensor,
    mean_probability: Tensor,
    settings: KernelSettings | TensorSettings,
    *,
    true_positives: Tensor | None = None,
) -> Tensor:
    """(1 − TI)^κ of each class from soft counts in pixels; all of one shape, `actual` = pixels of the class."""
    if true_positives is None:
        true_positives = actual - false_negatives
    errors = settings.fp_weight * false_positives + settings.fn_weight * false_negatives
    lost = errors / (true_positives + errors + settings.smoothing).clamp(
        min=NEARLY_NOTHING
    )  # 1 − TI without the cancellation
    lost = torch.where(actual > 0, lost, mean_probability)
    return raised(lost, settings.overlap_exponent)


def raised(values: Tensor, exponent: float | Tensor) -> Tensor:
    """Values ≥ 0, any shape, to a power above 0; below `LINEAR_BELOW` a straight line to 0."""
    return values * values.clamp(min=LINEAR_BELOW).pow(exponent - 1) if _matters(exponent, 1) else values
