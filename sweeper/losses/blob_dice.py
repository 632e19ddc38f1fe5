"""Dice, and the Dice of each instance (Kofler et al. 2022, blob loss, arXiv:2205.08209).

(1 − b) · Dice + b · mean_c mean_k (1 − (TP_k + 1) / (TP_k + ½ FP_k + ½ FN_k + 1)), k over the instances of class c in
the batch: what belongs to another instance of the class is left out, so that TP_k and FN_k are counted on the
instance's own pixels, and FP_k on all pixels of its image that are not of the class. The paper's weights 2 and 1 are
b = ⅓; its mean is over the instances of each image and then over the images, here every instance of the batch counts
alike. A class without an instance in the batch costs its mean probability. Class 0 of several has no instances.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sweeper.core.errors import LossError
from sweeper.losses.batch import DICE, Batch, as_classes, kernel_cost, mean_probability, mixed
from sweeper.losses.label_maps import segment_sums
from sweeper.losses.per_pixel import readable


def blob_dice(batch: Batch, *, blob_share: float) -> Tensor:
    """`blob_share` b.

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
