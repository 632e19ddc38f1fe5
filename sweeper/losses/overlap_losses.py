"""Overlap losses outside the kernel: overlaps of each class over the whole batch.

Each function has the name of its family and maps a batch and the family's coordinates to a scalar. A class absent from
the batch costs its mean probability.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 — torch's own convention

from sweeper.losses.batch import LossBatch, compute_class_sums, compute_negative_log_likelihood, mix_losses
from sweeper.losses.coordinates import KernelSettings, find_most_frequent_class
from sweeper.losses.kernel import NEARLY_NOTHING, compute_class_cost
from sweeper.losses.per_pixel import (
    average_labelled,
    cast_to_float32,
    compute_focal_factor,
    is_readable_now,
    scatter_to_classes,
)


def generalized_dice(batch: LossBatch, *, volume_exponent: float) -> Tensor:
    """Compute generalised Dice (Sudre et al. 2017): one overlap over all classes, weighted by their size in the batch.

    `Σ_c w_c (FP_c + FN_c) / Σ_c w_c (2 TP_c + FP_c + FN_c)` with w_c = (pixels of c)^−e over the present classes, e = 2
    in the paper. A binary task has two classes, background and foreground, as in the paper. There the weight of an
    absent class is infinite (libraries use 0 or the largest other weight); here the loss is the average of the present
    classes' overlap and the absent classes' mean probabilities, weighted by the number of classes.
    """
    false_positives, false_negatives, actual, rest = compute_class_sums(batch)
    labelled = (actual + rest).clamp(min=NEARLY_NOTHING)
    errors = false_positives + false_negatives
    hit, size = actual - false_negatives, actual
    if batch.task == "binary":  # background and foreground have the same errors
        hit, size = torch.cat([hit, rest - false_positives]), torch.cat([size, rest])
    present = size > 0
    # Shares instead of pixel counts give the same ratio, without overflow in float32.
    share = torch.where(present, size / labelled, 1.0)
    w = torch.where(present, share.pow(-volume_exponent), 0.0)
    # An absent class has no false negatives: its errors over the labelled pixels are its mean probability.
    absent = torch.where(present, 0.0, errors / labelled)
    lost = (w * errors).sum() / (w * (errors + 2 * hit)).sum().clamp(min=NEARLY_NOTHING)
    return (present.sum() * lost + absent.sum()) / len(size)


def unified_focal(batch: LossBatch, *, mix: float, delta: float, suppression: float) -> Tensor:
    """Compute the unified focal loss (Yeung et al. 2022, arXiv:2102.04525), asymmetric form (equations 16 to 18).

    λ · CE part + (1 − λ) · overlap part, with one weight δ (`delta`) and one exponent s (`suppression`, the paper's γ)
    for both parts:

    - a pixel of a rare class costs −δ log p_t, of the common class −(1 − δ) (1 − p_t)^s log p_t; mean over labelled
      pixels;
    - a rare class costs (1 − TI_c(1 − δ, δ))^(1 − s), the common class 1 − TI_c(1 − δ, δ); mean over the classes.

    The common class is the background (binary) or the most frequent class (multi-class; class 0 without class
    frequencies); all others are rare. As in the paper, the overlap part includes the background.
    """
    frequencies = batch.class_frequencies if batch.task == "multiclass" else None
    common = find_most_frequent_class(frequencies) if frequencies else 0

    def pixels() -> Tensor:
        loss, labelled = compute_negative_log_likelihood(batch)
        is_common = (batch.target == common).to(loss.dtype)
        if suppression > 0:
            loss = loss * compute_focal_factor(loss, suppression * is_common)
        return average_labelled(loss * (delta + (1 - 2 * delta) * is_common), labelled)

    def overlap() -> Tensor:
        marked, missed, actual, rest = compute_class_sums(batch)
        if batch.task == "binary":  # the background comes first
            marked, missed = torch.cat([missed, marked]), torch.cat([marked, missed])
            actual, rest = torch.cat([rest, actual]), torch.cat([actual, rest])
        # All probability of an absent class is false positives.
        counts = (marked, missed, actual, marked / (actual + rest).clamp(min=NEARLY_NOTHING))
        settings = KernelSettings(fp_weight=1 - delta, fn_weight=delta, overlap_exponent=1 - suppression)
        steep = compute_class_cost(*counts, settings)
        is_common = torch.arange(len(actual), device=actual.device) == common
        return torch.where(
            is_common, compute_class_cost(*counts, settings._replace(overlap_exponent=1.0)), steep
        ).mean()

    return mix_losses(mix, pixels, overlap)


def lovasz(batch: LossBatch) -> Tensor:
    """Compute the Lovász extension of the Jaccard index (Berman et al. 2018): hinge (binary) or softmax (multi-class).

    For each class, the errors of the batch's labelled pixels are sorted, largest first, and weighted by their increment
    of 1 − Jaccard (the paper's per-image variant is a batch of one image). A class absent from the batch costs its
    *mean* error, which for the softmax is its mean probability; the extension would cost only the largest error, and
    leave all other false positives without a gradient. The paper reports the softmax form over the present classes.
    """
    labels = batch.target.long().unsqueeze(1)
    labelled = labels != batch.ignore_index
    z = torch.where(labelled, cast_to_float32(batch.logits).contiguous(), 0.0)
    if batch.task == "multiclass":
        is_class = labels == torch.arange(z.shape[1], device=z.device).view(1, -1, 1, 1)
        # |y − p|; p is at most 1, up to rounding.
        p = F.softmax(z, dim=1)
        errors = torch.where(is_class, 1 - p, p)
        labelled = labelled.expand_as(errors)
        is_class = is_class & labelled
    else:
        is_class = labels == 1
        errors = F.relu(1 - torch.where(is_class, z, -z))
    return compute_jaccard_extension(
        _flatten_per_class(errors), _flatten_per_class(is_class), _flatten_per_class(labelled)
    ).mean()


def _flatten_per_class(values: Tensor) -> Tensor:
    """Reshape (N, C, H, W) → (C, N·H·W)."""
    return values.transpose(0, 1).flatten(1)


def compute_jaccard_extension(errors: Tensor, is_class: Tensor, labelled: Tensor) -> Tensor:
    """Compute the Lovász extension of 1 − Jaccard of each row; the mean error for a row without pixels of its class.

    Args:
        errors: (C, P), ≥ 0.
        is_class: (C, P) bool, whether the pixel is of the class; False under ignore.
        labelled: (C, P) bool.

    Returns:
        (C,), ≥ 0; 0 if no pixel is labelled.
    """
    if is_readable_now(errors):
        with torch.no_grad():
            rows = zip(errors.detach(), is_class, labelled, strict=True)
            weights = torch.stack([_compute_row_weights(*row) for row in rows])
    else:
        # Ignored pixels come last and cost 0. The order has no gradient.
        order = torch.where(labelled, errors.detach(), -1.0).argsort(dim=1, descending=True)
        hit = (
            is_class.gather(1, order).to(torch.int32).cumsum(dim=1, dtype=torch.int32)
        )  # integers: the same on every device
        total = is_class.sum(dim=1, keepdim=True)
        number = labelled.sum(dim=1, keepdim=True).clamp(min=1).to(errors.dtype)
        steps = _compute_jaccard_steps(hit, total, errors.dtype)
        weights = torch.where(total > 0, scatter_to_classes(errors, order, steps), 1 / number)
    return (torch.where(labelled, errors, 0.0) * weights).sum(dim=1)


def _compute_jaccard_steps(hit: Tensor, total: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the increment of 1 − Jaccard at each pixel of a sorted row.

    Args:
        hit: (…, P) integer, pixels of the class up to each pixel.
        total: (…, 1) integer, pixels of the class.
        dtype: of the result.
    """
    rank = torch.arange(1, hit.shape[-1] + 1, dtype=hit.dtype, device=hit.device)
    # 1 − Jaccard after each pixel: intersection = total − hit, union = total + (rank − hit).
    lost = 1 - (total - hit).to(dtype) / (total + rank - hit).to(dtype)
    return torch.cat([lost[..., :1], lost[..., 1:] - lost[..., :-1]], dim=-1)


def _compute_row_weights(errors: Tensor, is_class: Tensor, labelled: Tensor) -> Tensor:
    """Compute the weights (P,) of a row's errors on a processor, which sorts integers ten times as fast as floats.

    Floats ≥ 0 and their bits have the same order. The sort is stable: equal errors keep their order, so that the result
    is reproducible.
    """
    total = torch.count_nonzero(is_class)
    if not total:
        return torch.full_like(errors, 1 / max(1, int(torch.count_nonzero(labelled))))
    integer = torch.int64 if errors.dtype == torch.float64 else torch.int32
    # Ignored pixels get error 0, which has no cost and no gradient at any place in the order.
    bits = torch.where(labelled, errors, 0.0).clamp_(min=0).view(integer)
    order = torch.sort(torch.iinfo(integer).max - bits, stable=True).indices
    hit = is_class.index_select(0, order).cumsum(0, dtype=torch.int32)
    return torch.empty_like(errors).scatter_(0, order, _compute_jaccard_steps(hit, total.to(torch.int32), errors.dtype))
