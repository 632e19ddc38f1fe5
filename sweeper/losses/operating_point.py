"""Choose the operating point of any network from its validation logits, as sweeper's trainings do.

This module is copied into the single file of exported losses: it needs only torch and uses no constants of the package.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from sweeper.losses.per_pixel import settle_labels, settle_shapes

IGNORED = 255
"""Label of pixels that do not count; in a file exported for a user's script, the script's label."""


def choose_threshold(
    batches: Iterable[tuple[Tensor, Tensor]], metric: str = "miou", ignore_index: int = IGNORED
) -> float:
    """Return the threshold with the highest metric over all batches; of ties the nearest to 0.5.

    Candidates are the 511 inner edges of 512 bins, uniform in the logit from −12 to 12.

    Args:
        batches: (logits, target) of validation images, logits (N, 1, H, W) before the sigmoid, or (N, 2, H, W) before
            the softmax, and target (N, H, W) with 0, 1 and `ignore_index` = ignored. Only counts are kept in memory.
        metric: `miou`, `fg_iou` or `dice`, of counts summed over all images.
        ignore_index: label of pixels that do not count.

    Raises:
        ValueError: if shapes do not fit, a label is no class, or the metric is not one of these.
    """
    return _choose_each(_count_bins(batches, ignore_index, 1)[0], metric)


def choose_thresholds(
    batches: Iterable[tuple[Tensor, Tensor]], metric: str = "miou", ignore_index: int = IGNORED
) -> tuple[float, ...]:
    """Return for each class the threshold at which its IoU or Dice over all batches is the highest.

    Args:
        batches: (logits, target) of validation images, both (N, C, H, W), target with 0, 1 and `ignore_index`. See
            `choose_threshold`.
        metric: `miou` or `dice`.
        ignore_index: label of pixels that do not count.

    Raises:
        ValueError: as `choose_threshold`.
    """
    own = {"miou": "fg_iou", "dice": "fg_dice"}.get(metric, metric)
    return tuple(_choose_each(pixels, own) for pixels in _count_bins(batches, ignore_index, None))


def _count_bins(batches: Iterable[tuple[Tensor, Tensor]], ignore_index: int, channels: int | None) -> Sequence[Tensor]:
    """Count the pixels of each channel by label and bin of the logit: (2, 512) each."""
    pixels = list[Tensor]()
    for logits, target in batches:
        each = [(logits, target)]
        if channels is None:
            if logits.shape != target.shape:
                shapes = f"{tuple(logits.shape)} and {tuple(target.shape)}"
                raise ValueError(f"logits and target must both be (N, C, H, W), got {shapes}")
            each = [(logits[:, c : c + 1], target[:, c]) for c in range(logits.shape[1])]
        pixels = pixels or [torch.zeros(2, 512, dtype=torch.int64) for _ in each]
        for channel, (some, own) in enumerate(each):
            values, labels = _select_labelled(some, own, 1, ignore_index)
            bins = ((values[:, 0] + 12.0) * (512 / 24)).floor().clamp(0, 511).long()
            pixels[channel] += torch.bincount(labels * 512 + bins, minlength=1024).view(2, 512).cpu()
    return pixels or [torch.zeros(2, 512, dtype=torch.int64)]


def _choose_each(pixels: Tensor, metric: str) -> float:
    """Return the best threshold of a channel by its counts (2, 512)."""
    above = pixels.flip(1).cumsum(1).flip(1)
    marked, left = above[:, 1:], above[:, :1] - above[:, 1:]
    background = torch.stack([left[0], left[1], marked[0]], -1)
    foreground = torch.stack([marked[1], marked[0], left[1]], -1)
    points = [1 / (1 + math.exp(12 - k * 24 / 512)) for k in range(1, 512)]
    return _find_best_point(torch.stack([background, foreground], 1), points, metric)


def choose_tau(
    batches: Iterable[tuple[Tensor, Tensor]], log_prior: Tensor, metric: str = "miou", ignore_index: int = IGNORED
) -> float:
    """Return the τ in −1, −0.75, …, 1 with the highest metric over all batches; of ties the nearest to 0.

    Args:
        batches: (logits, target) of validation images, logits (N, C, H, W) before the softmax and target (N, H, W)
            with classes and `ignore_index` = ignored. Only counts are kept in memory.
        log_prior: (C,) logarithm of each class's share of the training pixels; the prediction is argmax of
            logits − τ · log_prior.
        metric: `miou`, `fg_iou` or `dice`, of counts summed over all images.
        ignore_index: label of pixels that do not count.

    Raises:
        ValueError: if shapes do not fit, a label is no class, or the metric is not one of these.
    """
    classes, taus = len(log_prior), [k / 4 for k in range(-4, 5)]
    counts = torch.zeros(len(taus), classes, 3, dtype=torch.int64)
    for logits, target in batches:
        values, labels = _select_labelled(logits, target, classes, ignore_index)
        occurs = torch.bincount(labels, minlength=classes)
        for n, tau in enumerate(taus):
            answer = (values - tau * log_prior.to(values)).argmax(1)
            hit = torch.bincount(labels[answer == labels], minlength=classes)
            counts[n] += torch.stack([hit, torch.bincount(answer, minlength=classes) - hit, occurs - hit], -1).cpu()
    return _find_best_point(counts, taus, metric)


def _select_labelled(logits: Tensor, target: Tensor, channels: int, ignore_index: int) -> tuple[Tensor, Tensor]:
    """Return logits (P, `channels`) and labels (P,) of the labelled pixels."""
    logits, target = settle_shapes(logits, target, channels)
    if logits.shape[1] != channels or target.shape != logits[:, 0].shape:
        raise ValueError(
            f"logits must be (N, {channels}, H, W) and target (N, H, W), got {tuple(logits.shape)} and "
            f"{tuple(target.shape)}"
        )
    labels = settle_labels(target.cpu(), max(2, channels), ignore_index).to(logits.device)
    is_labelled = labels != ignore_index
    labels, values = labels[is_labelled], logits.detach().float().movedim(1, -1)[is_labelled]
    return torch.nan_to_num(values), labels


def _find_best_point(counts: Tensor, points: Sequence[float], metric: str) -> float:
    """Return the best of T points by counts (T, C, 3) of tp, fp and fn; of ties the nearest to the middle point."""
    weight = {"miou": 1.0, "fg_iou": 1.0, "dice": 2.0, "fg_dice": 2.0}.get(metric)
    if weight is None:
        raise ValueError(f"metric must be miou, fg_iou or dice, got {metric}")
    true, false, missed = counts.double().unbind(-1)
    counted = (true + missed)[0] > 0
    if metric.startswith("fg_"):
        counted[0] = False
    values = torch.nan_to_num(weight * true / (weight * true + false + missed), nan=1.0)[:, counted].mean(1)
    plain = points[len(points) // 2]
    best = torch.nonzero(values >= values.max() - 1e-12).flatten().tolist()
    return min((points[n] for n in best), key=lambda point: abs(point - plain), default=plain)
