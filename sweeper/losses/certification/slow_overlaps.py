"""Losses of whole classes beside the kernel, written down once more, slowly, from their papers: see `slow_kernel`.

A class without pixels costs its mean probability, wherever there is a mean over the classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sweeper.losses.certification.slow_kernel import NOWHERE, Question, Values
from sweeper.losses.certification.slow_pixels import pixel_power
from sweeper.losses.families import LossTask


class _Sides(NamedTuple):
    """One class against all else: the probabilities of its own pixels and of all others, and the pixels' weights."""

    own: Tensor
    own_weight: Tensor
    others: Tensor
    others_weight: Tensor


def _over_classes(asked: Sequence[Question], cost: Callable[[_Sides], Tensor], exponent: float = 1) -> Tensor:
    """Mean of the costs to a power, of all of several classes or of the foreground of two."""
    found = []
    for question in asked:
        classes = question.log_p.shape[1]
        for c in range(classes) if classes > 2 else [1]:
            p, w, labels = question.log_p[:, c].exp(), question.weight, question.labels
            own, others = labels == c, (labels != c) & (labels != NOWHERE)
            sides = _Sides(p[own], w[own], p[others], w[others])
            each = cost(sides) if sides.own_weight.sum() > 0 else _mean(sides.others, sides.others_weight)
            found.append(each**exponent)
    return torch.stack(found).mean()


def _mean(values: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean; 0 of nothing."""
    return (weight * values).sum() / weight.sum() if weight.sum() > 0 else (weight * values).sum()


def _minus_log_dice(sides: _Sides) -> Tensor:
    """−log of (2 TP + 2) / (Σ p + Σ y + 2): one pixel of smoothing in the Dice index, as in the kernel's."""
    hit = (sides.own_weight * sides.own).sum()
    marked = hit + (sides.others_weight * sides.others).sum()
    return -((2 * hit + 2) / (marked + sides.own_weight.sum() + 2)).log()


def log_dice(task: LossTask, values: Values, asked: Sequence[Question], counts: Sequence[float] | None) -> Tensor:
    """−log Dice of each class."""
    return _over_classes(asked, _minus_log_dice)


def robust_dice(task: LossTask, values: Values, asked: Sequence[Question], counts: Sequence[float] | None) -> Tensor:
    """Wang et al. 2020, with ε = 2: Σ |p − y|^e / (Σ p² + Σ y² + ε)."""
    e: float = values["error_exponent"]

    def cost(sides: _Sides) -> Tensor:
        p, w = torch.cat([sides.own, sides.others]), torch.cat([sides.own_weight, sides.others_weight])
        y = torch.cat([torch.ones_like(sides.own), torch.zeros_like(sides.others)])
        return (w * (p - y).abs() ** e).sum() / ((w * p**2).sum() + (w * y**2).sum() + 2)

    return _over_classes(asked, cost)


def sens_spec(task: LossTask, values: Values, asked: Sequence[Question], counts: Sequence[float] | None) -> Tensor:
    """Brosch et al. 2015: mean squared errors of both sides, r and 1 − r of them."""
    r: float = values["sensitivity_share"]

    def cost(sides: _Sides) -> Tensor:
        sensitivity = _mean((1 - sides.own) ** 2, sides.own_weight)
        specificity = _mean((0 - sides.others) ** 2, sides.others_weight)
        return r * sensitivity + (1 - r) * specificity

    return _over_classes(asked, cost)


def mcc(task: LossTask, values: Values, asked: Sequence[Question], counts: Sequence[float] | None) -> Tensor:
    """Abhishek & Hamarneh 2021, a pixel added to TP and to TN; of a class that is everywhere, what is missing."""

    def cost(sides: _Sides) -> Tensor:
        if not sides.others_weight.sum() > 0:
            return _mean(1 - sides.own, sides.own_weight)
        tp = 1 + (sides.own_weight * sides.own).sum()
        fn = (sides.own_weight * (1 - sides.own)).sum()
        fp = (sides.others_weight * sides.others).sum()
        tn = 1 + (sides.others_weight * (1 - sides.others)).sum()
        return 1 - (tp * tn - fp * fn) / ((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn)).sqrt()

    return _over_classes(asked, cost)


def exp_log(task: LossTask, values: Values, asked: Sequence[Question], counts: Sequence[float] | None) -> Tensor:
    """Wong et al. 2018 without class weights: the same power of −log p_t and of −log Dice."""
    share: float = values["mix"]
    e: float = values["log_exponent"]
    return share * pixel_power(asked, e) + (1 - share) * _over_classes(asked, _minus_log_dice, e)
