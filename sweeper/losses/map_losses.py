"""Losses that depend on neighbouring pixels: distances to boundaries, centre lines.

Each function has the name of its family and maps a batch and the family's coordinates to a scalar. In centre-line Dice
a class absent from the batch costs its mean probability.

In sweeper's trainings the batch contains the distances, which are stored with the labels (`sweeper.data.label_maps`).
Elsewhere `compute_distance_maps` computes them from the target at every call, on the processor: this is slow (about
10 ms per class of a 256² image), and waits for the device.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 — torch's own convention

from sweeper.core.records import Task
from sweeper.data.label_maps import compute_signed_distances
from sweeper.losses.batch import DICE, LossBatch, compute_kernel, compute_mean_probability, mix_losses, split_classes
from sweeper.losses.kernel import sum_over_pixels

ROUNDS = 3
"""Number of erosions; structures up to about twice as many pixels wide become lines. MONAI's default; the authors'
code always uses 10 and disregards its argument `iter_` (default 3)."""


def compute_distance_maps(target: Tensor, task: Task, classes: int, ignore_index: int) -> Tensor:
    """Compute signed distances to the boundary of each class: target (N, H, W) → (N, C, H, W) float32, same device."""
    device, target = target.device, target.detach().cpu().long()
    of_class = [target == c for c in range(classes)] if task == "multiclass" else [target == 1]
    labelled = target != ignore_index
    maps = [
        torch.stack([torch.from_numpy(compute_signed_distances(one.numpy(), is_labelled.numpy())) for one in image])
        for image, is_labelled in zip(torch.stack(of_class, dim=1) & labelled.unsqueeze(1), labelled, strict=True)
    ]
    distances = torch.stack(maps) if maps else torch.zeros(0, len(of_class), *target.shape[1:])
    return distances.to(device)


def boundary(batch: LossBatch, *, distance_mix: float) -> Tensor:
    """Compute Dice plus the distance to the true boundary (Kervadec et al. 2019, arXiv:1812.07032).

    (1 − m) · Dice + m · mean over labelled pixels and classes of |φ_c| · |p_c − y_c|, with φ_c the signed distance to
    the boundary of class c in pixels, clipped (see `sweeper.data.label_maps`). The paper's mean of φ_c · p_c differs by
    a constant and has the same gradients; this form is 0 for a perfect prediction. Deliberate differences:

    - Pixels next to the boundary have distance ½ on both sides. The authors' code has 0 inside, so that missing a line
      of one or two pixels costs nothing.
    - A class absent from an image has the clipping distance. The authors' code has 0, so that false positives cost
      nothing.
    - m is constant, and the other part is the kernel's Dice. The paper raises m from 0.01 during training, next to
      generalised Dice.
    """
    return mix_losses(distance_mix, lambda: _compute_distance_loss(batch), lambda: compute_kernel(batch, DICE))


def _compute_distance_loss(batch: LossBatch) -> Tensor:
    classes = split_classes(batch)
    assert batch.label_map is not None
    far = torch.where(classes.mask > 0, batch.label_map.to(classes.p.device, classes.p.dtype).abs(), 0.0)
    wrong = classes.p * (classes.mask - classes.own) + classes.rest * classes.own
    return (far * wrong).sum() / (classes.mask.sum().clamp(min=1) * classes.p.shape[1])


def soft_cldice(batch: LossBatch, *, skeleton_weight: float) -> Tensor:
    """Compute Dice plus the Dice of soft centre lines (Shit et al. 2021, arXiv:2003.07311).

    (1 − s) · Dice + s · mean_c (1 − 2 P_c R_c / (P_c + R_c)): P is the share of the prediction's skeleton that is in
    the label, R the share of the label's skeleton that is in the prediction, both with smoothing 1 over the whole
    batch; s = 0.5 is the authors' default. As in the paper, the skeleton comes from repeated soft erosion (minimum over
    a cross) and dilation (maximum over a square). Minimum and maximum disregard ignored pixels, like pixels beyond the
    image's edge.
    """
    return mix_losses(skeleton_weight, lambda: _compute_cldice_loss(batch), lambda: compute_kernel(batch, DICE))


def _compute_cldice_loss(batch: LossBatch) -> Tensor:
    classes = split_classes(batch)
    labelled = classes.mask > 0
    with torch.no_grad():
        actual_line = soft_skeleton(classes.own, labelled)
    line = soft_skeleton(classes.p, labelled)
    precision = (sum_over_pixels(line * classes.own) + 1) / (sum_over_pixels(line) + 1)
    recall = (sum_over_pixels(actual_line * classes.p) + 1) / (sum_over_pixels(actual_line) + 1)
    lost = 1 - 2 * precision * recall / (precision + recall)
    return torch.where(sum_over_pixels(classes.own) > 0, lost, compute_mean_probability(classes)).mean()


def soft_skeleton(values: Tensor, labelled: Tensor) -> Tensor:
    """Compute soft centre lines of values (N, C, H, W) in [0, 1]; `labelled` is broadcast over C. 0 under ignore."""
    mask = labelled.expand_as(values)

    def erode(x: Tensor) -> Tensor:
        x = -torch.where(mask, x, 1.0)
        return -torch.maximum(_max_of_three(x, 2), _max_of_three(x, 3))

    def dilate(x: Tensor) -> Tensor:
        return _max_of_three(_max_of_three(torch.where(mask, x, 0.0), 2), 3)

    eroded = erode(values)
    line = torch.relu(values - dilate(eroded))
    for _ in range(ROUNDS):
        values, eroded = eroded, erode(eroded)
        detail = torch.relu(values - dilate(eroded))
        line = line + torch.relu(detail - line * detail)
    return torch.where(mask, line, 0.0)


def _max_of_three(x: Tensor, dim: int) -> Tensor:
    """Return the maximum of each value and its neighbours along `dim` (2 or 3)."""
    if not torch.compiler.is_compiling():
        size, padding = ((3, 1), (1, 0)) if dim == 2 else ((1, 3), (0, 1))
        return F.max_pool2d(x, size, 1, padding)
    # The compiler of torch 2.12 computes a wrong gradient of max-pooling fused with a mask.
    n = x.shape[dim]
    if n == 1:
        return x
    wide = torch.cat([x.narrow(dim, 1, 1), x, x.narrow(dim, n - 2, 1)], dim)  # mirrored: no new value at the edge
    return torch.maximum(torch.maximum(wide.narrow(dim, 0, n), x), wide.narrow(dim, 2, n))
