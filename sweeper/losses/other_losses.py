"""Losses outside the kernel: functions of a batch and of the family's coordinates, each with the name of its family.

Variants of cross-entropy that select pixels or adjust logits; overlaps of each class over the whole batch; losses that
depend on neighbouring pixels. In overlaps and centre-line Dice a class absent from the batch costs its mean
probability.

`boundary` needs distances. In sweeper's trainings the batch contains them, as they are stored with the labels
(`sweeper.data.label_maps`). Elsewhere `compute_distance_maps` computes them from the target at every call, on the
processor: this is slow (about 10 ms per class of a 256² image), and waits for the device.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 — torch's own convention

from sweeper.core.records import Task
from sweeper.data.label_maps import compute_signed_distances
from sweeper.losses.coordinates import KernelSettings, find_most_frequent_class, log_prior_shifts
from sweeper.losses.kernel import NEARLY_NOTHING, compute_class_cost, sigmoid_loss, softmax_loss, sum_over_pixels
from sweeper.losses.per_pixel import (
    average_labelled,
    cast_to_float32,
    clean_logits,
    compute_focal_factor,
    is_readable_now,
    scatter_to_classes,
    select_hardest_share,
)

ROUNDS = 3
"""Number of erosions for centre lines; structures up to about twice as many pixels wide become lines. MONAI's default;
the authors' code always uses 10 and disregards its argument `iter_` (default 3)."""


CROSS_ENTROPY = KernelSettings()
DICE = KernelSettings(mix=0.0)


class LossBatch(NamedTuple):
    """A checked batch with the loss's task, ignored label and class frequencies."""

    logits: Tensor
    """(N, C, H, W), floating; C = 1 for binary."""
    target: Tensor
    """(N, H, W), integer; for multi-label (N, C, H, W)."""
    task: Task
    ignore_index: int
    class_frequencies: tuple[float, ...] | None = None
    """Training pixels of each class; None if the loss was built without."""
    label_map: Tensor | None = None
    """Signed distances to the boundary of each class, shaped like the logits; None for a family that needs none."""

    @property
    def is_exclusive(self) -> bool:
        """Whether a pixel has one of the channels' classes; else each channel is a class against all other pixels."""
        return self.task == "multiclass"

    @property
    def labels(self) -> Tensor:
        """The target as int64 with the channels' axis: 1, or C of independent classes."""
        labels = self.target.long()
        return labels if labels.ndim == self.logits.ndim else labels.unsqueeze(1)


class ClassProbabilities(NamedTuple):
    """K classes, each against all others: only the foreground for binary (K = 1), else all classes."""

    p: Tensor
    """(N, K, H, W), probabilities."""
    rest: Tensor
    """(N, K, H, W), 1 − p; of a sigmoid computed without cancellation near 0."""
    own: Tensor
    """(N, K, H, W), 1 where the label is the class, else 0."""
    mask: Tensor
    """(N, 1, H, W), for multi-label (N, K, H, W): 1 where there is a label, else 0."""


class ClassSums(NamedTuple):
    """Sums over the labelled pixels of a batch, in pixels, each (K,)."""

    false_positives: Tensor
    """Σ p over the labelled pixels of other classes."""
    false_negatives: Tensor
    """Σ (1 − p) over the pixels of the class."""
    actual: Tensor
    """Pixels of the class. No gradient."""
    rest: Tensor
    """Labelled pixels of other classes. No gradient."""


def compute_kernel(batch: LossBatch, settings: KernelSettings) -> Tensor:
    """Return the kernel's loss, without class weights."""
    loss = softmax_loss if batch.is_exclusive else sigmoid_loss
    return loss(batch.logits, batch.target, settings, batch.ignore_index)


def mix_losses(share: float, first: Callable[[], Tensor], second: Callable[[], Tensor]) -> Tensor:
    """Return share · first + (1 − share) · second; a part with weight 0 is not computed."""
    if share == 0:
        return second()
    return share * first() if share == 1 else share * first() + (1 - share) * second()


def compute_negative_log_likelihood(batch: LossBatch) -> tuple[Tensor, Tensor]:
    """Return −log p_t ≥ 0 of every pixel, with p_t the probability of its label, and whether it is labelled.

    Returns:
        (N, 1, H, W) each, for multi-label (N, C, H, W): at least float32, finite under ignore; bool.
    """
    labels = batch.labels
    labelled = labels != batch.ignore_index
    z = clean_logits(batch.logits, labelled).contiguous()
    if batch.is_exclusive:
        return -F.log_softmax(z, dim=1).gather(1, torch.where(labelled, labels, 0)), labelled
    return -F.logsigmoid(torch.where(labels == 1, z, -z)), labelled


def split_classes(batch: LossBatch) -> ClassProbabilities:
    """Compute the probabilities and label masks of each class."""
    labels = batch.labels
    labelled = labels != batch.ignore_index
    z = clean_logits(batch.logits, labelled).contiguous()
    mask = labelled.to(z.dtype)
    if batch.is_exclusive:
        p = F.softmax(z, dim=1)
        return ClassProbabilities(p, 1 - p, scatter_to_classes(p, torch.where(labelled, labels, 0), mask), mask)
    return ClassProbabilities(torch.sigmoid(z), torch.sigmoid(-z), (labels == 1).to(z.dtype) * mask, mask)


def compute_class_sums(batch: LossBatch) -> ClassSums:
    """Sum the errors and pixels of each class."""
    classes = split_classes(batch)
    others = classes.mask - classes.own
    return ClassSums(
        sum_over_pixels(classes.p * others),
        sum_over_pixels(classes.rest * classes.own),
        sum_over_pixels(classes.own),
        sum_over_pixels(others),
    )


# --- Variants of cross-entropy ---


def logit_adjusted(batch: LossBatch, *, tau: float = 0.0, prior_odds: float = 1.0) -> Tensor:
    """Compute the cross-entropy of z + τ log f (Menon et al. 2021, arXiv:2007.07314).

    f is each class's share of the training pixels. The trained network's z is free of the prior: during training, class
    a had to exceed class b by τ log(f_b / f_a), which is more for a rare class. τ = 1 is the balanced softmax (Ren et
    al. 2020, arXiv:2007.10740), τ = 0 cross-entropy. Binary is the softmax over (0, z): z − log o, with o the odds of
    background to foreground to the power τ; multi-label is that for each class. A class without training pixels gets
    the adjustment of the rarest other class.
    """
    z = cast_to_float32(batch.logits)
    if batch.task == "binary":
        shifted = z - math.log(prior_odds)
    else:
        frequencies = batch.class_frequencies
        shifts = log_prior_shifts(frequencies, tau, batch.task) if tau and frequencies else (0.0,)
        # Filled on the device: a copy would wait for the device.
        shifted = z + torch.cat([z.new_full((1, 1, 1), shift) for shift in shifts])
    return compute_kernel(batch._replace(logits=shifted), CROSS_ENTROPY)


def ohem_ce(batch: LossBatch, *, sure_at: float, kept_at_least: float) -> Tensor:
    """Compute the mean cross-entropy over the pixels with p_t below a threshold, but at least over a hardest share.

    Online hard example mining: Shrivastava et al. 2016 (arXiv:1604.03540) for regions, Wu et al. 2016
    (arXiv:1605.06885) for pixels. The code of HRNet, BiSeNet and MMSegmentation uses threshold 0.7 and a minimum number
    of pixels (BiSeNet: a sixteenth of them). Ignored pixels are neither chosen nor counted.
    """
    loss, labelled = compute_negative_log_likelihood(batch)
    with torch.no_grad():
        cutoff = loss.new_full((), -math.log(sure_at) if sure_at > 0 else math.inf)
        if kept_at_least > 0 and loss.numel() > 0:
            hardest, wanted = select_hardest_share(loss, labelled, kept_at_least)
            cutoff = torch.minimum(hardest.gather(0, (wanted - 1).view(1)).squeeze(0), cutoff)
        chosen = labelled & ~(loss < cutoff)  # not `>=`: NaN must not be masked
        number = chosen.sum().clamp(min=1)
    return torch.where(chosen, loss, 0.0).sum() / number


# --- Overlaps ---


def generalized_dice(batch: LossBatch, *, volume_exponent: float) -> Tensor:
    """Compute generalised Dice (Sudre et al. 2017): one overlap over all classes, weighted by their size in the batch.

    `Σ_c w_c (FP_c + FN_c) / Σ_c w_c (2 TP_c + FP_c + FN_c)` with w_c = (pixels of c)^−e over the present classes, e = 2
    in the paper. A binary task has two classes, background and foreground, as in the paper; multi-label is the mean of
    such losses. There the weight of an absent class is infinite (libraries use 0 or the largest other weight); here the
    loss is the average of the present classes' overlap and the absent classes' mean probabilities, weighted by the
    number of classes.
    """
    false_positives, false_negatives, actual, rest = compute_class_sums(batch)
    labelled = (actual + rest).clamp(min=NEARLY_NOTHING)
    errors = false_positives + false_negatives
    if batch.is_exclusive:  # one overlap of K classes
        labelled, errors = labelled.unsqueeze(1), errors.unsqueeze(1)
        hit, size = (actual - false_negatives).unsqueeze(1), actual.unsqueeze(1)
    else:  # K overlaps of two classes, background and foreground, which have the same errors
        hit, size = torch.stack([actual - false_negatives, rest - false_positives]), torch.stack([actual, rest])
    present = size > 0
    # Shares instead of pixel counts give the same ratio, without overflow in float32.
    share = torch.where(present, size / labelled, 1.0)
    w = torch.where(present, share.pow(-volume_exponent), 0.0)
    # An absent class has no false negatives: its errors over the labelled pixels are its mean probability.
    absent = torch.where(present, 0.0, errors / labelled)
    lost = (w * errors).sum(0) / (w * (errors + 2 * hit)).sum(0).clamp(min=NEARLY_NOTHING)
    return ((present.sum(0) * lost + absent.sum(0)) / len(size)).mean()


def unified_focal(batch: LossBatch, *, mix: float, delta: float, suppression: float) -> Tensor:
    """Compute the unified focal loss (Yeung et al. 2022, arXiv:2102.04525), asymmetric form (equations 16 to 18).

    λ · CE part + (1 − λ) · overlap part, with one weight δ (`delta`) and one exponent s (`suppression`, the paper's γ)
    for both parts:

    - a pixel of a rare class costs −δ log p_t, of the common class −(1 − δ) (1 − p_t)^s log p_t; mean over labelled
      pixels;
    - a rare class costs (1 − TI_c(1 − δ, δ))^(1 − s), the common class 1 − TI_c(1 − δ, δ); mean over the classes.

    The common class is the background (binary), that of each class (multi-label) or the most frequent class
    (multi-class; class 0 without class frequencies); all others are rare. As in the paper, the overlap part includes
    the background.
    """
    frequencies = batch.class_frequencies if batch.is_exclusive else None
    common = find_most_frequent_class(frequencies) if frequencies else 0

    def pixels() -> Tensor:
        loss, labelled = compute_negative_log_likelihood(batch)
        is_common = (batch.labels == common).to(loss.dtype)
        if suppression > 0:
            loss = loss * compute_focal_factor(loss, suppression * is_common)
        return average_labelled(loss * (delta + (1 - 2 * delta) * is_common), labelled)

    def overlap() -> Tensor:
        marked, missed, actual, rest = compute_class_sums(batch)
        alike = 1 if batch.is_exclusive else len(actual)
        if not batch.is_exclusive:  # the backgrounds come first
            marked, missed = torch.cat([missed, marked]), torch.cat([marked, missed])
            actual, rest = torch.cat([rest, actual]), torch.cat([actual, rest])
        # All probability of an absent class is false positives.
        counts = (marked, missed, actual, marked / (actual + rest).clamp(min=NEARLY_NOTHING))
        settings = KernelSettings(fp_weight=1 - delta, fn_weight=delta, overlap_exponent=1 - suppression)
        steep = compute_class_cost(*counts, settings)
        is_common = torch.arange(len(actual), device=actual.device) // alike == common
        return torch.where(
            is_common, compute_class_cost(*counts, settings._replace(overlap_exponent=1.0)), steep
        ).mean()

    return mix_losses(mix, pixels, overlap)


def lovasz(batch: LossBatch) -> Tensor:
    """Compute the Lovász extension of the Jaccard index (Berman et al. 2018): softmax (multi-class), else hinge.

    For each class, the errors of the batch's labelled pixels are sorted, largest first, and weighted by their increment
    of 1 − Jaccard (the paper's per-image variant is a batch of one image). A class absent from the batch costs its
    *mean* error, which for the softmax is its mean probability; the extension would cost only the largest error, and
    leave all other false positives without a gradient. The paper reports the softmax form over the present classes.
    """
    labels = batch.labels
    labelled = labels != batch.ignore_index
    z = torch.where(labelled, cast_to_float32(batch.logits).contiguous(), 0.0)
    if batch.is_exclusive:
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


# --- Neighbouring pixels: boundaries, centre lines ---


def compute_distance_maps(target: Tensor, task: Task, classes: int, ignore_index: int) -> Tensor:
    """Compute signed distances to the boundary of each of C = `classes` channels' classes.

    target (N, H, W), for multi-label (N, C, H, W) → (N, C, H, W) float32, same device.
    """
    labels = target.detach().cpu().long()
    labels = labels if task == "multilabel" else labels.unsqueeze(1)
    labelled = (labels != ignore_index).expand(-1, classes, -1, -1)
    own = torch.arange(classes).view(-1, 1, 1) if task == "multiclass" else 1
    present, distances = (labels == own) & labelled, torch.zeros(labelled.shape)
    for n, c in np.ndindex(*labelled.shape[:2]):
        distances[n, c] = torch.from_numpy(compute_signed_distances(present[n, c].numpy(), labelled[n, c].numpy()))
    return distances.to(target.device)


def boundary(batch: LossBatch, *, distance_mix: float) -> Tensor:
    """Compute Dice plus the distance to the true boundary (Kervadec et al. 2019, arXiv:1812.07032).

    (1 − m) · Dice + m · mean over labelled pixels and classes of |φ_c| · |p_c − y_c|, with φ_c the signed distance to
    the boundary of class c in pixels, clipped (see `sweeper.data.label_maps`). The paper's mean of φ_c · p_c differs by
    a constant and has the same gradients; this form is 0 for a perfect prediction. Deliberate differences:

    - Pixels next to the boundary have distance ½ on both sides. The authors' code has 0 inside, so that missing a line
      of one or two pixels costs nothing.
    - A class absent from an image has the clipping distance. The authors' code has 0, so that false positives cost
      nothing.
    - m is constant, and the other part is the kernel's Dice. The paper raises m from 0.01 during training, next to
      generalised Dice.
    """
    return mix_losses(distance_mix, lambda: _compute_distance_loss(batch), lambda: compute_kernel(batch, DICE))


def _compute_distance_loss(batch: LossBatch) -> Tensor:
    classes = split_classes(batch)
    assert batch.label_map is not None
    far = torch.where(classes.mask > 0, batch.label_map.to(classes.p.device, classes.p.dtype).abs(), 0.0)
    wrong = classes.p * (classes.mask - classes.own) + classes.rest * classes.own
    return (far * wrong).sum() / (classes.mask.sum().clamp(min=1) * (classes.p.shape[1] // classes.mask.shape[1]))


def soft_cldice(batch: LossBatch, *, skeleton_weight: float) -> Tensor:
    """Compute Dice plus the Dice of soft centre lines (Shit et al. 2021, arXiv:2003.07311).

    (1 − s) · Dice + s · mean_c (1 − 2 P_c R_c / (P_c + R_c)): P is the share of the prediction's skeleton that is in
    the label, R the share of the label's skeleton that is in the prediction, both with smoothing 1 over the whole
    batch; s = 0.5 is the authors' default. As in the paper, the skeleton comes from repeated soft erosion (minimum over
    a cross) and dilation (maximum over a square). Minimum and maximum disregard ignored pixels, like pixels beyond the
    image's edge.
    """
    return mix_losses(skeleton_weight, lambda: _compute_cldice_loss(batch), lambda: compute_kernel(batch, DICE))


def _compute_cldice_loss(batch: LossBatch) -> Tensor:
    classes = split_classes(batch)
    labelled = classes.mask > 0
    with torch.no_grad():
        actual_line = soft_skeleton(classes.own, labelled)
    line = soft_skeleton(classes.p, labelled)
    precision = (sum_over_pixels(line * classes.own) + 1) / (sum_over_pixels(line) + 1)
    recall = (sum_over_pixels(actual_line * classes.p) + 1) / (sum_over_pixels(actual_line) + 1)
    lost = 1 - 2 * precision * recall / (precision + recall)
    mean = sum_over_pixels(classes.p * classes.mask) / sum_over_pixels(classes.mask).clamp(min=NEARLY_NOTHING)
    return torch.where(sum_over_pixels(classes.own) > 0, lost, mean).mean()


def soft_skeleton(values: Tensor, labelled: Tensor) -> Tensor:
    """Compute soft centre lines of values (N, C, H, W) in [0, 1]; `labelled` is broadcast over C. 0 under ignore."""
    mask = labelled.expand_as(values)

    def erode(x: Tensor) -> Tensor:
        x = -torch.where(mask, x, 1.0)
        return -torch.maximum(_max_of_three(x, 2), _max_of_three(x, 3))

    def dilate(x: Tensor) -> Tensor:
        return _max_of_three(_max_of_three(torch.where(mask, x, 0.0), 2), 3)

    eroded = erode(values)
    line = torch.relu(values - dilate(eroded))
    for _ in range(ROUNDS):
        values, eroded = eroded, erode(eroded)
        detail = torch.relu(values - dilate(eroded))
        line = line + torch.relu(detail - line * detail)
    return torch.where(mask, line, 0.0)


def _max_of_three(x: Tensor, dim: int) -> Tensor:
    """Return the maximum of each value and its neighbours along `dim` (2 or 3)."""
    if not torch.compiler.is_compiling():
        size, padding = ((3, 1), (1, 0)) if dim == 2 else ((1, 3), (0, 1))
        return F.max_pool2d(x, size, 1, padding)
    # The compiler of torch 2.12 computes a wrong gradient of max-pooling fused with a mask.
    n = x.shape[dim]
    if n == 1:
        return x
    wide = torch.cat([x.narrow(dim, 1, 1), x, x.narrow(dim, n - 2, 1)], dim)  # mirrored: no new value at the edge
    return torch.maximum(torch.maximum(wide.narrow(dim, 0, n), x), wide.narrow(dim, 2, n))
