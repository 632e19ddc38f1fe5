"""Measure whether two losses are the same function for an optimiser, on a data set's labels.

Weighted cross-entropy with a weight of 1 is cross-entropy, and with 1.007 nearly so. AdamW divides gradients by their
size, so that a constant factor changes nothing. Two losses therefore count as the same if their normalised gradients
differ little at every stage of a training, and the factor between the gradients is the same at all stages.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sweeper.core.errors import LossError
from sweeper.core.label_planes import unpack_planes
from sweeper.core.records import IGNORE, Task
from sweeper.core.tasks import RULES
from sweeper.losses.build import build_loss
from sweeper.losses.families import FAMILIES

STAGES = ((0.0, 0.5, 0.0), (1.5, 1.0, 0.1), (4.0, 1.5, 0.03))
"""Stages of a training: how far the logits have moved to the labels, their noise, and the share of wrong pixels."""

KEPT_COMPONENTS = 2**14
"""Components kept of each loss's gradient, enough to separate most losses. Whole gradients would need too much memory:
about 100 MB each for eleven classes."""


class ComparedLoss(NamedTuple):
    """A family with its coordinates."""

    family: str
    params: Mapping[str, float]


class _Gradient(NamedTuple):
    """A whole gradient, or a sample of it: whole gradients of many losses would not fit into memory."""

    length: float
    """Length of the whole gradient."""
    components: Tensor
    """All, or those at the same positions for every loss."""


NONE = _Gradient(math.nan, torch.empty(0))


def measure_gradient_distances(
    pairs: Sequence[tuple[ComparedLoss, ComparedLoss]],
    labels: npt.NDArray[np.unsignedinteger[Any]],
    task: Task,
    frequencies: Sequence[float],
    *,
    enough: float = math.inf,
) -> list[float]:
    """Measure the distance between the gradients of each pair: 0 = the same function up to a factor.

    Args:
        pairs: losses to compare.
        labels: (N, H, W) stored labels of a batch.
        task: task of the losses.
        frequencies: as for `build_loss`.
        enough: whole gradients are compared only if the samples are no farther apart than this.

    Returns:
        For each pair the largest, over the stages, of |g/‖g‖ − h/‖h‖| and of the change of ‖g‖/‖h‖ between stages; inf
        if a loss cannot be built or needs more than labels, a gradient is not finite, or only one of the two
        gradients is 0. A value above `enough` may be a lower bound.
    """
    measured = _MeasuredGradients(_make_batches(labels, task, frequencies), task, frequencies, enough)
    return [measured.measure_distance(first, second) for first, second in pairs]


class _MeasuredGradients:
    """Gradients of losses on the same batches, computed on demand; a sample of each is cached."""

    def __init__(
        self, batches: Sequence[tuple[Tensor, Tensor]], task: Task, frequencies: Sequence[float], enough: float
    ) -> None:
        self._batches, self._task, self._frequencies, self._enough = batches, task, frequencies, enough
        self._glimpses: dict[tuple[object, ...], _Gradient] = {}
        """By loss and stage."""

    def measure_distance(self, first: ComparedLoss, second: ComparedLoss) -> float:
        """See `measure_gradient_distances`; one stage is often enough to separate two losses."""
        apart, factors = 0.0, list[float]()
        for stage in range(len(self._batches)):
            g, h = self._sample_gradient(first, stage), self._sample_gradient(second, stage)
            if not math.isfinite(g.length + h.length) or (g.length == 0) != (h.length == 0):
                return math.inf
            if g.length:
                factors.append(g.length / h.length)
                apart = max(apart, _compute_distance(g, h))
            least = max(apart, _compute_change(factors))
            if least > self._enough:
                return least
        wholes = (self._measure_whole_distance(first, second, stage) for stage in range(len(self._batches)))
        return max(*wholes, _compute_change(factors))

    def _measure_whole_distance(self, first: ComparedLoss, second: ComparedLoss, stage: int) -> float:
        g, h = (self._compute_gradient(loss, stage) for loss in (first, second))
        return _compute_distance(g, h) if g.length else 0.0

    def _sample_gradient(self, loss: ComparedLoss, stage: int) -> _Gradient:
        key = (stage, loss.family, *sorted(loss.params.items()))
        if key not in self._glimpses:
            whole = self._compute_gradient(loss, stage)
            every = max(1, -(-whole.components.numel() // KEPT_COMPONENTS))
            self._glimpses[key] = whole._replace(components=whole.components[::every].clone())
        return self._glimpses[key]

    def _compute_gradient(self, loss: ComparedLoss, stage: int) -> _Gradient:
        """Compute the flat gradient by the logits; `NONE` if the loss cannot be built, or needs more than labels."""
        if FAMILIES[loss.family].needs_map:
            return NONE
        try:
            criterion = build_loss(
                loss.family, task=self._task, ignore_index=IGNORE, class_frequencies=self._frequencies, **loss.params
            )
        except LossError:
            return NONE
        logits, target = self._batches[stage]
        leaf = logits.clone().requires_grad_(True)
        criterion(leaf, target).backward()
        assert leaf.grad is not None
        return _Gradient(float(leaf.grad.norm(dtype=torch.float64)), leaf.grad.flatten())


def _compute_distance(g: _Gradient, h: _Gradient) -> float:
    """Return the distance between two gradients; of samples it is a lower bound."""
    return float((g.components.double() / g.length - h.components.double() / h.length).norm())


def _compute_change(factors: Sequence[float]) -> float:
    return max(factors, default=1.0) / min(factors, default=1.0) - 1


def _make_batches(
    labels: npt.NDArray[np.unsignedinteger[Any]], task: Task, frequencies: Sequence[float]
) -> list[tuple[Tensor, Tensor]]:
    """Make logits and labels of each stage: logits are the log prior, moved towards the labels, with noise."""
    generator, rules, classes = torch.Generator().manual_seed(0), RULES[task], len(frequencies)
    if rules.has_planes:
        target = torch.from_numpy(unpack_planes(labels, classes)).long()
        shares = torch.tensor(frequencies, dtype=torch.float64).clamp(1e-9, 1 - 1e-9)
        prior, values = shares.logit().float(), 2
    else:
        target = torch.from_numpy(np.ascontiguousarray(labels)).long()
        shares = torch.tensor([max(1.0, p) for p in frequencies], dtype=torch.float64)
        prior, values = (shares / shares.sum()).log().float(), classes
    truth = torch.where(target == IGNORE, 0, target)
    batches = []
    for moved, noise, astray in STAGES:
        wrong = torch.rand(target.shape, generator=generator) < astray
        seen = torch.where(wrong, torch.randint(0, values, target.shape, generator=generator), truth)
        towards = (
            2.0 * seen - 1
            if rules.has_planes
            else torch.nn.functional.one_hot(seen, classes).permute(0, 3, 1, 2).float()
        )
        logits = prior.view(1, -1, 1, 1) / (1 + moved) + moved * towards
        logits = logits + noise * torch.randn(logits.shape, generator=generator)
        if rules.first_channel:
            logits = logits[:, 1:] - logits[:, :1]
        batches.append((logits, target))
    return batches
