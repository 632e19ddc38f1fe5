"""Dice and the Dice of soft centre lines (Shit et al. 2021, arXiv:2003.07311).

(1 − s) · Dice + s · mean_c (1 − 2 P_c R_c / (P_c + R_c)): P is the share of the prediction's skeleton that lies in the
label, R the share of the label's skeleton that lies in the prediction, both with smoothing 1 over the whole batch. The
skeleton comes from repeated soft erosion (minimum over a cross) and dilation (maximum over a square), as theirs does.
A class absent from the batch costs its mean probability in place of the second part, as it does in Dice.

Ignored pixels take part in neither minimum nor maximum: they are as good as beyond the image's edge.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 — torch's own convention

from sweeper.losses.batch import DICE, Batch, as_classes, kernel_cost, mass, mean_probability, mixed

ROUNDS = 3
"""Erosions: structures up to about twice as many pixels wide become lines (the authors' default)."""


def soft_cldice(batch: Batch, *, skeleton_weight: float) -> Tensor:
    """`skeleton_weight` s; 0.5 is the authors' default."""
    return mixed(skeleton_weight, lambda: _centre_lines(batch), lambda: kernel_cost(batch, DICE))


def _centre_lines(batch: Batch) -> Tensor:
    found = as_classes(batch)
    labelled = found.mask > 0
    with torch.no_grad():
        actual_line = soft_skeleton(found.own, labelled)
    line = soft_skeleton(found.p, labelled)
    precision = (mass(line * found.own) + 1) / (mass(line) + 1)
    recall = (mass(actual_line * found.p) + 1) / (mass(actual_line) + 1)
    lost = 1 - 2 * precision * recall / (precision + recall)
    return torch.where(mass(found.own) > 0, lost, mean_probability(found)).mean()


def soft_skeleton(values: Tensor, labelled: Tensor) -> Tensor:
    """Soft centre lines of values (N, C, H, W) in [0, 1]; `labelled` is broadcast over C. 0 under ignore."""
    known = labelled.expand_as(values)

    def erode(x: Tensor) -> Tensor:
        x = -torch.where(known, x, 1.0)
        return -torch.maximum(_largest_of_three(x, 2), _largest_of_three(x, 3))

    def dilate(x: Tensor) -> Tensor:
        return _largest_of_three(_largest_of_three(torch.where(known, x, 0.0), 2), 3)

    eroded = erode(values)
    line = torch.relu(values - dilate(eroded))
    for _ in range(ROUNDS):
        values, eroded = eroded, erode(eroded)
        detail = torch.relu(values - dilate(eroded))
        line = line + torch.relu(detail - line * detail)
    return torch.where(known, line, 0.0)


def _largest_of_three(x: Tensor, dim: int) -> Tensor:
    """Largest of each value and its neighbours along `dim` (2 or 3)."""
    if not torch.compiler.is_compiling():
        size, padding = ((3, 1), (1, 0)) if dim == 2 else ((1, 3), (0, 1))
        return F.max_pool2d(x, size, 1, padding)
    # The compiler of torch 2.12 gives max-pooling a wrong slope where a mask is fused into it.
    n = x.shape[dim]
    if n == 1:
        return x
    wide = torch.cat([x.narrow(dim, 1, 1), x, x.narrow(dim, n - 2, 1)], dim)  # mirrored: no new value at the edge
    return torch.maximum(torch.maximum(wide.narrow(dim, 0, n), x), wide.narrow(dim, 2, n))
