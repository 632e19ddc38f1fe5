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

from sweeper.core.records import Task
from sweeper.data.skeletons import tubes
from sweeper.losses.build import build_part
from sweeper.losses.class_probabilities import as_classes, mass, mean_probability
from sweeper.losses.label_maps import LabelMapLoss, segment_sums
from sweeper.losses.loss_module import without_frequencies
from sweeper.losses.per_pixel import at_least_float32, readable, transformed
from sweeper.losses.surprise import surprise


class SkeletonRecall(LabelMapLoss):
    """`skeleton_weight` s. Called as `loss(logits, target, skeleton=tubes)`; without, they are made from the target.

    `skeleton`: shaped as the target: nonzero on the (widened) skeleton of the pixel's own class.
    """

    of_labels = staticmethod(tubes)

    def __init__(self, task: Task, ignore_index: int, skeleton_weight: float) -> None:
        super().__init__("skeleton_recall", task, {"skeleton_weight": skeleton_weight}, ignore_index)
        self.share = skeleton_weight
        self.rest = build_part("dice_ce", task=task, ignore_index=ignore_index)

    def compute(self, logits: Tensor, target: Tensor, label_map: Tensor | None) -> Tensor:
        """The loss of a checked batch; the last argument is its tubes."""
        assert label_map is not None
        parts: list[Tensor] = []
        if self.share < 1:
            parts.append((1 - self.share) * self.rest.compute(logits, target, None))
        if self.share > 0:
            parts.append(self.share * self._missed(logits, target, label_map))
        return parts[0] if len(parts) == 1 else parts[0] + parts[1]

    def _missed(self, logits: Tensor, target: Tensor, skeleton: Tensor) -> Tensor:
        if readable(logits) and not transformed(logits, target, skeleton):
            found = self._missed_of_lines(logits, target, skeleton)
            if found is not None:
                return found
        classes = as_classes(logits, target, self.task, self.ignore_index)
        lines = torch.where(skeleton.unsqueeze(1) != 0, classes.own, 0.0)
        length = mass(lines)
        missed = (length - mass(lines * classes.p)) / (length + 1)
        each = torch.where(mass(classes.own) > 0, missed, mean_probability(classes))
        return (each[1:] if self.task == "multiclass" else each).mean()

    def _missed_of_lines(self, logits: Tensor, target: Tensor, skeleton: Tensor) -> Tensor | None:
        """The same from the pixels of the lines alone, which are few; None where a class has none of them."""
        at = (skeleton.flatten() != 0).nonzero().squeeze(1)
        labels, channels = target.flatten()[at].long(), logits.shape[1]
        if self.task == "multiclass":
            at, index = at[labels != self.ignore_index], labels[labels != self.ignore_index]
            lost, _ = surprise(logits, target, self.task, self.ignore_index)
            p = torch.exp(-lost.flatten().index_select(0, at))
        else:
            at = at[labels == 1]
            index = torch.zeros_like(at)
            p = torch.sigmoid(at_least_float32(logits.flatten().index_select(0, at)))
        length, hit = segment_sums(torch.ones_like(p), index, channels), segment_sums(p, index, channels)
        each = (length - hit) / (length + 1)
        if self.task == "multiclass":
            length, each = length[1:], each[1:]
        return each.mean() if bool((length > 0).all()) else None


build = without_frequencies(SkeletonRecall)
