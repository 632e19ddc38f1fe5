"""Dice and cross-entropy, and the recall of the labels' skeletons (Kirchhoff et al. 2024, arXiv:2404.03010).

(1 − s) · ½ (Dice + CE) + s · mean_c (1 − (Σ_tube p_c + 1) / (|tube_c| + 1)), the tubes being the widened skeletons of
the labels (`sweeper.data.skeletons`), over the whole batch. Unlike `soft_cldice` it needs no skeleton of the answer, so
that it costs little; the other part keeps the answer from being foreground everywhere. The authors' three parts of the
same weight are s = ⅓; their skeleton is that of all classes together, here each class has its own. Class 0 of several
has none. A class absent from the batch costs its mean probability.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sweeper.losses.batch import DICE_CE, Batch, as_classes, kernel_cost, mass, mean_probability, mixed


def skeleton_recall(batch: Batch, *, skeleton_weight: float) -> Tensor:
    """`skeleton_weight` s.

    The label map is shaped as the target: nonzero on the (widened) skeleton of the pixel's own class.
    """
    return mixed(skeleton_weight, lambda: _missed(batch), lambda: kernel_cost(batch, DICE_CE))


def _missed(batch: Batch) -> Tensor:
    found = as_classes(batch)
    assert batch.label_map is not None
    lines = torch.where(batch.label_map.unsqueeze(1) != 0, found.own, 0.0)
    missed = mass(lines * found.rest) / (mass(lines) + 1)
    each = torch.where(mass(found.own) > 0, missed, mean_probability(found))
    return (each[1:] if batch.task == "multiclass" else each).mean()
