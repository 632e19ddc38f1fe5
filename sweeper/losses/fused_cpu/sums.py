"""What a pass over a batch gives, and what decides it; shared by the sigmoid and the softmax form."""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

SAMPLE = 1 << 13
"""Losses whose rank is looked up first to find the hardest."""
SAMPLED = 1 << 16
"""Fewer losses are not sampled."""
ROUNDING = 1e-6
"""0.1 of 30 pixels are 3, whatever the rounding of 0.1 says."""


class Sums(NamedTuple):
    """Sums over the labelled pixels of a batch, in pixels; C = classes (1 for binary)."""

    entropy: Tensor
    """Scalar: cross-entropy part, averaged over labelled pixels (and classes, multi-label), or over the hardest."""
    false_positives: Tensor
    """(C,): Σ of the probability of the class where it is not."""
    false_negatives: Tensor
    """(C,): Σ of 1 − its probability where it is."""
    actual: Tensor
    """(C,): pixels of the class. No gradient."""
    rest: Tensor
    """(C,): labelled pixels where the class is not. No gradient."""

    @property
    def labelled(self) -> Tensor:
        """(C,): labelled pixels. No gradient."""
        return self.actual + self.rest


class Entropy(NamedTuple):
    """A cross-entropy part −w_t (1 − p_t)^γ_t log p_t, over all labelled pixels or over the hardest share of them."""

    gammas: tuple[float, ...]
    """γ of each class; of background and foreground where classes do not exclude each other."""
    weights: tuple[float, ...] = (1.0,)
    """w of each class, or one for all; where classes do not exclude each other: where they are."""
    absent_weights: tuple[float, ...] = (1.0,)
    """Where classes do not exclude each other: w where they are not."""
    hard_fraction: float = 1.0


class Batch(NamedTuple):
    """What is looked at; shapes as for `class_sums`."""

    logits: Tensor
    target: Tensor
    weight: Tensor | None
    """Of each pixel."""
    factor: Tensor | None
    """Of each pixel's cross-entropy."""


class Plan(NamedTuple):
    """What a pass is to find."""

    ignore_index: int
    entropy: Entropy | None
    """None: no cross-entropy part."""
    overlap: bool
    """Whether false positives and negatives are wanted."""
    keep: bool
    """Whether there will be a backward pass."""


Slopes = tuple[Tensor | None, Tensor | None, Tensor | None]
"""Of the result with respect to cross-entropy, false positives and false negatives; None = 0."""


def precision_of(logits: Tensor) -> torch.dtype:
    """What is computed in: float64 for float64 logits, else float32."""
    return torch.float64 if logits.dtype == torch.float64 else torch.float32


def block_size(of_one_thread: int) -> int:
    """Elements worked on at once: everything where torch has several threads.

    They meet after every operation, and on a crowded machine wait for each other then: few, large operations are
    better for them, blocks that stay in the cache for one.
    """
    return of_one_thread if torch.get_num_threads() == 1 else sys.maxsize


class Hardest(NamedTuple):
    """The k largest losses. Where several equal the smallest of them, each counts in part, so that k count."""

    threshold: float
    share: float
    """Of each loss that equals the threshold."""
    mean: float
    """Of the k largest."""
    number: int
    """k."""

    def chosen(self, losses: Tensor) -> Tensor:
        """How much each loss counts: 1 above the threshold, 0 below; any shape."""
        above = torch.gt(losses, self.threshold, out=torch.empty_like(losses))
        if self.share > 0:
            above.add_(torch.eq(losses, self.threshold, out=torch.empty_like(losses)), alpha=self.share)
        return above


def hardest(losses: Tensor, labelled: int, fraction: float) -> Hardest:
    """The ⌊fraction · labelled⌋ largest losses (at least one); ignored pixels have loss 0. Any shape, on the CPU."""
    flat = losses.flatten()
    number = max(1, int(labelled * fraction + ROUNDING))
    if not flat.numel():  # a batch without an image
        return Hardest(0.0, 0.0, 0.0, number)
    if not bool(flat.sum().isfinite()):
        mean = torch.topk(flat, number, sorted=False).values.mean().item()
        return Hardest(float("inf"), 0.0, mean, number)
    threshold = _largest(flat.numpy(), number)
    scratch = torch.gt(flat, threshold, out=torch.empty_like(flat))
    more = int(torch.count_nonzero(scratch))
    total = float(scratch.mul_(flat).sum()) + (number - more) * threshold
    ties = int(torch.count_nonzero(torch.eq(flat, threshold, out=scratch)))
    return Hardest(threshold, (number - more) / ties, total / number, number)


def _largest(values: np.ndarray[Any, np.dtype[Any]], number: int) -> float:
    """The `number`-th largest of finite values.

    NumPy's selection takes half the time of torch's, which also moves the places; and a sample tells what need not be
    looked at.
    """
    if values.size >= SAMPLED:
        sample = values[:: values.size // SAMPLE]
        rank = int(1.1 * number / values.size * sample.size) + 30
        if 2 * rank < sample.size:
            likely = values[values >= np.partition(sample, sample.size - rank)[sample.size - rank]]
            if likely.size >= number:
                values = likely
    return float(np.partition(values, values.size - number)[values.size - number])
