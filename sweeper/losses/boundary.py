"""Dice and the distance to the true boundary (Kervadec et al. 2019, arXiv:1812.07032).

(1 − m) · Dice + m · mean over labelled pixels and classes of |φ_c| · |p_c − y_c|, with φ_c the signed distance to the
boundary of class c in pixels, clipped (see `sweeper.data.label_maps`). The paper's mean of φ_c · p_c differs from
it by a constant, so that the gradients are the same; ours is 0 for a perfect answer. Two deliberate differences: a
pixel beside the boundary has distance ½ on either side (the authors' code has 0 inside, which makes lines of one or
two pixels free to miss), and a class absent from an image is as far away as the clip allows (there: distance 0, false
positives free). The paper raises m from 0.01 during training and combines it with generalised Dice; here m stays and
the other part is the kernel's Dice.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sweeper.losses.batch import DICE, Batch, as_classes, kernel_cost, mixed


def boundary(batch: Batch, *, distance_mix: float) -> Tensor:
    """`distance_mix` m; the label map has the signed distances, shaped as the logits."""
    return mixed(distance_mix, lambda: _far(batch), lambda: kernel_cost(batch, DICE))


def _far(batch: Batch) -> Tensor:
    found = as_classes(batch)
    assert batch.label_map is not None
    far = torch.where(found.mask > 0, batch.label_map.to(found.p.device, found.p.dtype).abs(), 0.0)
    wrong = found.p * (found.mask - found.own) + found.rest * found.own
    return (far * wrong).sum() / (found.mask.sum().clamp(min=1) * found.p.shape[1])
