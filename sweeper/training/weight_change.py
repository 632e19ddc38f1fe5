"""How far two ways of training come apart, by what they make of the same weights."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from torch import Tensor, nn


def evaluated(model: nn.Module, average: nn.Module) -> dict[str, list[Tensor]]:
    """All that a step changes and an evaluation, now or later, depends on: tensors of the two networks, by their kind.

    Args:
        model: that is trained.
        average: of its weights.
    """
    return {
        "weights": [parameter.detach() for parameter in model.parameters()],
        "their average": [parameter.detach() for parameter in average.parameters()],
        "BatchNorm statistics": [b for own in (model, average) for b in own.buffers() if b.is_floating_point()],
    }


def changes_apart(
    before: Mapping[str, Sequence[Tensor]],
    recorded: Mapping[str, Sequence[Tensor]],
    plain: Mapping[str, Sequence[Tensor]],
) -> dict[str, float]:
    """`change_apart` of each kind: what is small in one is not hidden by what is large in another."""
    return {name: change_apart(before[name], recorded[name], plain[name]) for name in plain}


def change_apart(before: Sequence[Tensor], recorded: Sequence[Tensor], plain: Sequence[Tensor]) -> float:
    """Length of the difference between two changes of tensors, as a share of the second's length.

    Infinite where the recorded one alone is not finite; 0 where the plain one is not: a training that diverges does so
    either way.
    """
    length, apart = _distance(before, plain), _distance(recorded, plain)
    if not math.isfinite(length):
        return 0.0
    if not math.isfinite(apart):
        return math.inf
    return apart / length if length else 0.0 if not apart else math.inf


def _distance(some: Sequence[Tensor], others: Sequence[Tensor]) -> float:
    return math.sqrt(sum(float((a.double() - b.double()).square().sum()) for a, b in zip(some, others, strict=True)))
