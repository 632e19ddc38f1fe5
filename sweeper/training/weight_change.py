"""How far two ways of training come apart, by what they make of the same weights."""

from __future__ import annotations

import math

from torch import Tensor


def change_apart(before: list[Tensor], recorded: list[Tensor], plain: list[Tensor]) -> float:
    """Length of the difference between two changes of the weights, as a share of the second's length.

    Infinite where the recorded one alone is not finite; 0 where the plain one is not: a training that diverges does so
    either way.
    """
    length = math.sqrt(sum(float((a.double() - b.double()).square().sum()) for a, b in zip(before, plain, strict=True)))
    apart = math.sqrt(
        sum(float((a.double() - b.double()).square().sum()) for a, b in zip(recorded, plain, strict=True))
    )
    if not math.isfinite(length):
        return 0.0
    if not math.isfinite(apart):
        return math.inf
    return apart / length if length else 0.0 if not apart else math.inf
