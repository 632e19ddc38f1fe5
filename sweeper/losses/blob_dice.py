"""Dice, and the Dice of each instance (Kofler et al. 2022, blob loss, arXiv:2205.08209).

(1 − b) · Dice + b · mean_c mean_k (1 − (TP_k + 1) / (TP_k + ½ FP_k + ½ FN_k + 1)), k over the instances of class c in
the batch: what belongs to another instance of the class is left out, so that TP_k and FN_k are counted on the
instance's own pixels, and FP_k on all pixels of its image that are not of the class. The paper's weights 2 and 1 are
b = ⅓; its mean is over the instances of each image and then over the images, here every instance of the batch counts
alike. A class without an instance in the batch costs its mean probability. Class 0 of several has no instances.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from sweeper.core.errors import LossError
from sweeper.core.records import Task
from sweeper.data.label_maps import instance_ids
from sweeper.losses.build import build_part
from sweeper.losses.class_probabilities import Classes, as_classes, mean_probability
from sweeper.losses.label_maps import LabelMapLoss, segment_sums
from sweeper.losses.loss_module import without_frequencies
from sweeper.losses.per_pixel import readable


class _Rows(NamedTuple):
    """The images, in which instances are numbered. P = pixels, K = classes."""

    p: Tensor
    """(N, P): probability of the class of the instance that the pixel belongs to."""
    mask: Tensor
    """(N, P): 1 where there is a label, else 0."""
    ids: Tensor
    """(N, P) int64: 0 = no instance."""
    classes: Tensor
    """(N, P) int64 in [0, K): of the instance."""
    false_positives: Tensor
    """(N, K)."""


class BlobDice(LabelMapLoss):
    """`blob_share` b. Called as `loss(logits, target, instances=ids)`; without, they are the connected components.

    `instances`: shaped as the target, integers: 0 = none, else a number that belongs to one instance (of one class) in
    the image; at most as large as an image has pixels.
    """

    of_labels = staticmethod(instance_ids)

    def __init__(self, task: Task, ignore_index: int, blob_share: float) -> None:
        super().__init__("blob_dice", task, {"blob_share": blob_share}, ignore_index)
        self.share = blob_share
        self.dice = build_part("dice", task=task, ignore_index=ignore_index)

    def compute(self, logits: Tensor, target: Tensor, label_map: Tensor | None) -> Tensor:
        """The loss of a checked batch; the last argument is its instances."""
        assert label_map is not None
        parts: list[Tensor] = []
        if self.share < 1:
            parts.append((1 - self.share) * self.dice(logits, target))
        if self.share > 0:
            parts.append(self.share * self._blobs(logits, target, label_map))
        return parts[0] if len(parts) == 1 else parts[0] + parts[1]

    def _blobs(self, logits: Tensor, target: Tensor, instances: Tensor) -> Tensor:
        classes = as_classes(logits, target, self.task, self.ignore_index)
        rows = self._rows(classes, target, instances.long())
        number, room = rows.false_positives.shape[1], self._room(rows.ids) + 1
        row = torch.arange(len(rows.ids), device=rows.ids.device).unsqueeze(1)
        place = row * room + rows.ids
        shape = (len(rows.ids), room)
        hit = segment_sums(rows.p * rows.mask, place, len(row) * room).view(shape)
        size = segment_sums(rows.mask, place, len(row) * room).view(shape)
        # All pixels of an instance write the same class.
        of_class = torch.zeros_like(size, dtype=torch.int64).scatter(1, rows.ids, rows.classes)
        errors = (rows.false_positives.gather(1, of_class) + size - hit) / 2
        # Number 0 stands for the pixels of no instance.
        counts = ((size > 0) & (torch.arange(room, device=size.device) > 0)).to(size.dtype)
        lost = segment_sums(counts * errors / (hit + errors + 1), of_class, number)
        blobs = segment_sums(counts, of_class, number)
        each = torch.where(blobs > 0, lost / blobs.clamp(min=1), mean_probability(classes))
        return (each[1:] if self.task == "multiclass" else each).mean()

    def _rows(self, classes: Classes, target: Tensor, ids: Tensor) -> _Rows:
        others = classes.p * (classes.mask - classes.own)
        labels = target.long()
        ids = torch.where((labels > 0) & (labels != self.ignore_index), ids, 0)
        own = torch.zeros_like(labels) if self.task == "binary" else torch.where(ids > 0, labels, 0)
        p = classes.p.gather(1, own.unsqueeze(1)).squeeze(1)
        return _Rows(
            p.flatten(1), classes.mask[:, 0].flatten(1), ids.flatten(1), own.flatten(1), others.sum(dim=(2, 3))
        )

    def _room(self, ids: Tensor) -> int:
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


build = without_frequencies(BlobDice)
