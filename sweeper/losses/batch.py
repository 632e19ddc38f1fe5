"""Batches for the losses outside the kernel: pixels, classes, sums over classes.

The kernel's conventions hold: compute in at least float32, sum over the labelled pixels of the whole batch, disregard
ignored pixels, never wait for the device. A class without labelled pixels in the batch costs its mean probability over
the labelled pixels, so that every false positive has a gradient.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 — torch's own convention

from sweeper.core.records import Task
from sweeper.losses.coordinates import KernelSettings
from sweeper.losses.kernel import NEARLY_NOTHING, pick_own_class, sigmoid_loss, softmax_loss, sum_over_pixels
from sweeper.losses.per_pixel import clean_logits, scatter_to_classes

CROSS_ENTROPY = KernelSettings()
DICE = KernelSettings(mix=0.0)


class LossBatch(NamedTuple):
    """A checked batch with the loss's task, ignored label and class frequencies."""

    logits: Tensor
    """(N, C, H, W), floating; C = 1 for binary."""
    target: Tensor
    """(N, H, W), integer."""
    task: Task
    ignore_index: int
    class_frequencies: tuple[float, ...] | None = None
    """Training pixels of each class; None if the loss was built without."""
    label_map: Tensor | None = None
    """Signed distances to the boundary of each class, shaped like the logits; None for a family that needs none."""


class ClassProbabilities(NamedTuple):
    """K classes, each against all others: only the foreground for binary (K = 1), all classes for multi-class."""

    p: Tensor
    """(N, K, H, W), probabilities."""
    rest: Tensor
    """(N, K, H, W), 1 − p; for binary computed without cancellation near 0."""
    own: Tensor
    """(N, K, H, W), 1 where the label is the class, else 0."""
    mask: Tensor
    """(N, 1, H, W), 1 where there is a label, else 0."""


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
    loss = softmax_loss if batch.task == "multiclass" else sigmoid_loss
    return loss(batch.logits, batch.target, settings, batch.ignore_index)


def mix_losses(share: float, first: Callable[[], Tensor], second: Callable[[], Tensor]) -> Tensor:
    """Return share · first + (1 − share) · second; a part with weight 0 is not computed."""
    if share == 0:
        return second()
    return share * first() if share == 1 else share * first() + (1 - share) * second()


def compute_negative_log_likelihood(batch: LossBatch) -> tuple[Tensor, Tensor]:
    """Return −log p_t ≥ 0 of every pixel, with p_t the probability of its label, and whether it is labelled.

    Returns:
        (N, H, W) each: at least float32, finite under ignore; bool.
    """
    labels = batch.target.long()
    labelled = labels != batch.ignore_index
    z = clean_logits(batch.logits, labelled.unsqueeze(1)).contiguous()
    if batch.task == "multiclass":
        return -pick_own_class(F.log_softmax(z, dim=1), torch.where(labelled, labels, 0)), labelled
    z = z.squeeze(1)
    return -F.logsigmoid(torch.where(labels == 1, z, -z)), labelled


def split_classes(batch: LossBatch) -> ClassProbabilities:
    """Compute the probabilities and label masks of each class."""
    labels = batch.target.long().unsqueeze(1)
    labelled = labels != batch.ignore_index
    z = clean_logits(batch.logits, labelled).contiguous()
    mask = labelled.to(z.dtype)
    if batch.task == "multiclass":
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


def compute_mean_probability(classes: ClassProbabilities) -> Tensor:
    """Return each class's mean probability over the labelled pixels, (K,): the cost of an absent class."""
    return sum_over_pixels(classes.p * classes.mask) / sum_over_pixels(classes.mask).clamp(min=NEARLY_NOTHING)
