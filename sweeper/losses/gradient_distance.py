"""Whether two losses are the same function on a data set's own labels, as an optimiser sees them.

Weighted cross-entropy with a weight of 1 is cross-entropy, and at 1.007 nobody could tell. An optimiser sees gradients;
AdamW divides them by their own size, so that a common factor changes nothing. So two losses count as the same where
their gradients, scaled to the same length, differ by little at every stage of a training, and where the factor between
them stays the same over the stages.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from sweeper.core.errors import LossError
from sweeper.core.records import IGNORE, Task
from sweeper.losses.build import build_loss
from sweeper.losses.families import FAMILIES

STAGES = ((0.0, 0.5, 0.0), (1.5, 1.0, 0.1), (4.0, 1.5, 0.03))
"""Of a training: how far the logits have moved to the labels, their noise, and the share of pixels that go astray."""

KEPT_BYTES = 256 * 2**20
"""Of gradients, that other pairs may ask for again; those of one pair are held in any case."""


SEEN = 2**16
"""Components of a gradient that are kept of every loss: enough to tell apart what is not nearly the same."""


class Loss(NamedTuple):
    """A family with its coordinates."""

    family: str
    params: Mapping[str, float]


class _Glimpse(NamedTuple):
    """What is kept of a gradient: the whole of many losses would not fit into memory."""

    length: float
    some: Tensor
    """Components at the same places of every loss."""


def gradient_distances(
    pairs: Sequence[tuple[Loss, Loss]],
    labels: npt.NDArray[np.uint8],
    task: Task,
    pixels: Sequence[int],
    *,
    enough: float = math.inf,
) -> list[float]:
    """How far the gradients of each pair are apart: 0 = the same function up to a factor.

    Args:
        pairs: losses to be compared.
        labels: (N, H, W) class indices of a batch, 255 = no label.
        task: what the losses are built for.
        pixels: training pixels of each class, in class order.
        enough: a pair that some of the components show to be farther apart than this is not measured as a whole.

    Returns:
        For each pair the largest, over the stages, of |g/‖g‖ − h/‖h‖| and of the change of ‖g‖/‖h‖ between them; inf
        where one of them cannot be built, needs more than labels, or has no gradient where the other has one. Of a
        pair farther apart than `enough` it may be a lower bound above that.
    """
    batches = _batches(labels, task, pixels)
    known: dict[tuple[object, ...], list[Tensor] | None] = {}  # the one that was asked for last comes last
    glimpses: dict[tuple[object, ...], list[_Glimpse] | None] = {}
    room = KEPT_BYTES // sum(logits.numel() * logits.element_size() for logits, _ in batches)

    def gradients(loss: Loss) -> list[Tensor] | None:
        key = _key(loss)
        if key in known:
            known[key] = known.pop(key)
            return known[key]
        while len(known) > max(0, room - 1):
            del known[next(iter(known))]
        known[key] = _gradients(loss, batches, task, pixels)
        return known[key]

    def glimpsed(loss: Loss) -> list[_Glimpse] | None:
        key = _key(loss)
        if key not in glimpses:
            found = gradients(loss)
            glimpses[key] = None if found is None else [_glimpse(gradient) for gradient in found]
        return glimpses[key]

    def distance(first: Loss, second: Loss) -> float:
        least = _distance(glimpsed(first), glimpsed(second))
        if least > enough or math.isinf(least):
            return least
        return _distance(_whole(gradients(first)), _whole(gradients(second)))

    return [distance(first, second) for first, second in pairs]


def _key(loss: Loss) -> tuple[object, ...]:
    return (loss.family, *sorted(loss.params.items()))


def _glimpse(gradient: Tensor) -> _Glimpse:
    every = max(1, gradient.numel() // SEEN)
    return _Glimpse(float(gradient.norm(dtype=torch.float64)), gradient[::every].clone())


def _whole(gradients: list[Tensor] | None) -> list[_Glimpse] | None:
    if gradients is None:
        return None
    return [_Glimpse(float(gradient.norm(dtype=torch.float64)), gradient) for gradient in gradients]


def _batches(labels: npt.NDArray[np.uint8], task: Task, pixels: Sequence[int]) -> list[tuple[Tensor, Tensor]]:
    """Logits and labels of each stage: the classes' log prior, moved towards the labels, with noise."""
    generator = torch.Generator().manual_seed(0)
    target = torch.from_numpy(np.ascontiguousarray(labels)).long()
    shares = torch.tensor([max(1.0, float(p)) for p in pixels], dtype=torch.float64)
    prior = (shares / shares.sum()).log().float()
    classes = len(pixels)
    truth = torch.where(target == IGNORE, 0, target)
    found = []
    for moved, noise, astray in STAGES:
        wrong = torch.rand(target.shape, generator=generator) < astray
        seen = torch.where(wrong, torch.randint(0, classes, target.shape, generator=generator), truth)
        towards = torch.nn.functional.one_hot(seen, classes).permute(0, 3, 1, 2).float()
        logits = prior.view(1, -1, 1, 1) / (1 + moved) + moved * towards
        logits = logits + noise * torch.randn(logits.shape, generator=generator)
        if task == "binary":
            logits = logits[:, 1:] - logits[:, :1]
        found.append((logits, target))
    return found


def _gradients(
    loss: Loss, batches: Sequence[tuple[Tensor, Tensor]], task: Task, pixels: Sequence[int]
) -> list[Tensor] | None:
    if FAMILIES[loss.family].needs_distance:
        return None
    try:
        shares = [float(p) for p in pixels]
        criterion = build_loss(loss.family, task=task, ignore_index=IGNORE, class_frequencies=shares, **loss.params)
    except LossError:
        return None
    found = []
    for logits, target in batches:
        leaf = logits.clone().requires_grad_(True)
        criterion(leaf, target).backward()
        assert leaf.grad is not None
        found.append(leaf.grad.flatten())
    return found


def _distance(first: list[_Glimpse] | None, second: list[_Glimpse] | None) -> float:
    """Of what was seen of both; never more than that of the whole gradients."""
    if first is None or second is None:
        return math.inf
    apart, factors = 0.0, []
    for g, h in zip(first, second, strict=True):
        if not (math.isfinite(g.length) and math.isfinite(h.length)) or (g.length == 0) != (h.length == 0):
            return math.inf
        if g.length:
            apart = max(apart, float((g.some.double() / g.length - h.some.double() / h.length).norm()))
            factors.append(g.length / h.length)
    return max(apart, max(factors, default=1.0) / min(factors, default=1.0) - 1)
