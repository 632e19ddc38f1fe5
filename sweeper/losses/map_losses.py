"""Losses that look at neighbours: distances to boundaries, instances, centre lines.

Each has the name of its family: a batch and the family's coordinates → a scalar. A class absent from the batch costs
its mean probability in place of the part beside Dice.

sweeper keeps what they want of the labels beside the labels (`sweeper.data.label_maps`), and gives it with the batch.
Without that such a map is made from the target on the processor at every call (`made_map`): right in any loop, but slow
(some 10 ms for each class of a 256² image), and it waits for the device.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 — torch's own convention

from sweeper.core.errors import LossError
from sweeper.core.records import Task
from sweeper.data.label_maps import OF_LABELS, signed_distances
from sweeper.losses.batch import (
    DICE,
    DICE_CE,
    Batch,
    as_classes,
    kernel_cost,
    mass,
    mean_probability,
    mixed,
)
from sweeper.losses.family_records import MapKind
from sweeper.losses.per_pixel import readable

ROUNDS = 3
"""Erosions: structures up to about twice as many pixels wide become lines. MONAI's default; the authors'
code takes 10, whatever its `iter_` says (its default is 3)."""


def made_map(kind: MapKind, target: Tensor, task: Task, channels: int, ignore_index: int) -> Tensor:
    """The map of a batch that came without it: (N, C, H, W) float32 distances, else shaped as the target."""
    labels = target.detach().cpu().long()
    if kind == "distance":
        return distance_maps(labels, task, channels, ignore_index).to(target.device)
    found = [
        torch.from_numpy(OF_LABELS[kind](one.numpy(), known.numpy()))
        for one, known in zip(labels, labels != ignore_index, strict=True)
    ]
    return torch.stack(found).to(target.device) if found else torch.zeros_like(target)


def distance_maps(target: Tensor, task: Task, classes: int, ignore_index: int) -> Tensor:
    """Signed distances to the boundary of each class: target (N, H, W) on the processor → (N, C, H, W) float32."""
    of_class = [target == c for c in range(classes)] if task == "multiclass" else [target == 1]
    labelled = target != ignore_index
    maps = [
        torch.stack([torch.from_numpy(signed_distances(one.numpy(), known.numpy())) for one in image])
        for image, known in zip(torch.stack(of_class, dim=1) & labelled.unsqueeze(1), labelled, strict=True)
    ]
    return torch.stack(maps) if maps else torch.zeros(0, len(of_class), *target.shape[1:])


def boundary(batch: Batch, *, distance_mix: float) -> Tensor:
    """Dice and the distance to the true boundary (Kervadec et al. 2019, arXiv:1812.07032).

    (1 − m) · Dice + m · mean over labelled pixels and classes of |φ_c| · |p_c − y_c|, with φ_c the signed distance to
    the boundary of class c in pixels, clipped (see `sweeper.data.label_maps`). The paper's mean of φ_c · p_c differs
    from it by a constant, so that the gradients are the same; ours is 0 for a perfect answer. Two deliberate
    differences: a pixel beside the boundary has distance ½ on either side (the authors' code has 0 inside, which makes
    lines of one or two pixels free to miss), and a class absent from an image is as far away as the clip allows (there:
    distance 0, false positives free). The paper raises m from 0.01 during training and combines it with generalised
    Dice; here m stays and the other part is the kernel's Dice.
    """
    return mixed(distance_mix, lambda: _far(batch), lambda: kernel_cost(batch, DICE))


def _far(batch: Batch) -> Tensor:
    found = as_classes(batch)
    assert batch.label_map is not None
    far = torch.where(found.mask > 0, batch.label_map.to(found.p.device, found.p.dtype).abs(), 0.0)
    wrong = found.p * (found.mask - found.own) + found.rest * found.own
    return (far * wrong).sum() / (found.mask.sum().clamp(min=1) * found.p.shape[1])


def skeleton_recall(batch: Batch, *, skeleton_weight: float) -> Tensor:
    """Dice and cross-entropy, and the recall of the labels' skeletons (Kirchhoff et al. 2024, arXiv:2404.03010).

    (1 − s) · ½ (Dice + CE) + s · mean_c (1 − (Σ_tube p_c + 1) / (|tube_c| + 1)), the tubes being the widened skeletons
    of the labels (`sweeper.data.label_maps`), over the whole batch. Unlike `soft_cldice` it needs no skeleton of the
    answer, so that it costs little; the other part keeps the answer from being foreground everywhere. The authors'
    three parts of the same weight are s = ⅓; their skeleton is that of all classes together, here each class has its
    own. Class 0 of several has none.
    """
    return mixed(skeleton_weight, lambda: _missed_lines(batch), lambda: kernel_cost(batch, DICE_CE))


def _missed_lines(batch: Batch) -> Tensor:
    found = as_classes(batch)
    assert batch.label_map is not None
    lines = torch.where(batch.label_map.unsqueeze(1) != 0, found.own, 0.0)
    missed = mass(lines * found.rest) / (mass(lines) + 1)
    each = torch.where(mass(found.own) > 0, missed, mean_probability(found))
    return (each[1:] if batch.task == "multiclass" else each).mean()


def soft_cldice(batch: Batch, *, skeleton_weight: float) -> Tensor:
    """Dice and the Dice of soft centre lines (Shit et al. 2021, arXiv:2003.07311).

    (1 − s) · Dice + s · mean_c (1 − 2 P_c R_c / (P_c + R_c)): P is the share of the prediction's skeleton that lies in
    the label, R the share of the label's skeleton that lies in the prediction, both with smoothing 1 over the whole
    batch; s = 0.5 is the authors' default. The skeleton comes from repeated soft erosion (minimum over a cross) and
    dilation (maximum over a square), as theirs does. Ignored pixels take part in neither minimum nor maximum: they are
    as good as beyond the image's edge.
    """
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


def blob_dice(batch: Batch, *, blob_share: float) -> Tensor:
    """Dice, and the Dice of each instance (Kofler et al. 2022, blob loss, arXiv:2205.08209).

    (1 − b) · Dice + b · mean_c mean_k (1 − (TP_k + 1) / (TP_k + ½ FP_k + ½ FN_k + 1)), k over the instances of class c
    in the batch: what belongs to another instance of the class is left out, so that TP_k and FN_k are counted on the
    instance's own pixels, and FP_k on all pixels of its image that are not of the class. The paper's weights 2 and 1
    are b = ⅓; its mean is over the instances of each image and then over the images, here every instance of the batch
    counts alike. Class 0 of several has no instances.

    The label map is shaped as the target, integers: 0 = none, else a number that belongs to one instance (of one
    class) in the image; at most as large as an image has pixels.
    """
    return mixed(blob_share, lambda: _blobs(batch), lambda: kernel_cost(batch, DICE))


def _blobs(batch: Batch) -> Tensor:
    """Images are rows here: N = images, P = pixels, K = classes, R = numbers that instances can have."""
    classes = as_classes(batch)
    labels = batch.target.long()
    binary = batch.task == "binary"
    assert batch.label_map is not None
    inside = (labels > 0) & (labels != batch.ignore_index)
    ids = torch.where(inside, batch.label_map.long(), 0).flatten(1)  # (N, P)
    of_pixel = torch.zeros_like(labels) if binary else torch.where(inside, labels, 0)  # (N, H, W)
    p = classes.p.gather(1, of_pixel.unsqueeze(1)).flatten(1)  # (N, P), of the class of the pixel's instance
    known = classes.mask.flatten(1)  # (N, P)
    false_positives = (classes.p * (classes.mask - classes.own)).sum(dim=(2, 3))  # (N, K)
    images, number, room = len(ids), classes.p.shape[1], _largest(ids) + 1
    place = torch.arange(images, device=ids.device).unsqueeze(1) * room + ids
    hit = segment_sums(p * known, place, images * room).view(images, room)
    size = segment_sums(known, place, images * room).view(images, room)
    # All pixels of an instance write the same class.
    of_instance = torch.zeros_like(size, dtype=torch.int64).scatter(1, ids, of_pixel.flatten(1))
    errors = (false_positives.gather(1, of_instance) + size - hit) / 2
    # Number 0 stands for the pixels of no instance.
    counts = ((size > 0) & (torch.arange(room, device=size.device) > 0)).to(size.dtype)
    lost = segment_sums(counts * errors / (hit + errors + 1), of_instance, number)
    blobs = segment_sums(counts, of_instance, number)
    each = torch.where(blobs > 0, lost / blobs.clamp(min=1), mean_probability(classes))
    return (each if binary else each[1:]).mean()


def _largest(ids: Tensor) -> int:
    """The largest number there can be; on a processor the largest there is."""
    pixels = ids.shape[1]
    if not readable(ids) or ids.numel() == 0:
        return pixels
    low, high = (int(end) for end in torch.aminmax(ids))
    if low < 0 or high > pixels:
        raise LossError(
            f"instances must be numbers from 0 (none) to the pixels of an image ({pixels}), "
            f"got {low if low < 0 else high}; number the instances of each image from 1 on"
        )
    return high


def segment_sums(values: Tensor, index: Tensor, number: int) -> Tensor:
    """Sums of values by index, each the same on every run.

    A processor adds one value after the other: in float32 a million of them lose digits, and it counts no further
    than to 2²⁴.

    Args:
        values: any shape.
        index: int64 in [0, number), the same shape.
        number: of sums.

    Returns:
        (number,), in the type of `values`.
    """
    none = values.new_zeros(number)
    if values.device.type == "cuda":  # its other way of adding does so in no order
        return none.index_put((index.flatten(),), values.flatten(), accumulate=True)
    if values.device.type == "cpu":
        return none.double().index_add(0, index.flatten(), values.flatten().double()).to(values.dtype)
    return none.index_add(0, index.flatten(), values.flatten())
