"""Label-distribution-aware margins (Cao et al. 2019, LDAM, arXiv:1906.07413): cross-entropy of z_t − Δ_t.

Δ_c = m (n_c / n_min)^−¼ for a class of n_c training pixels: the rarest has the margin m, commoner ones less. Of two
classes the score is that of the foreground: z − Δ_1 where it is labelled, z + Δ_0 where it is not; without class
frequencies (and for every label of several, which has none) Δ_0 = 0, so that the foreground alone has a margin. A class
without training pixels has the rarest one's. The paper's scores are cosines times 30, and its m is ½ of a cosine; here
m is in units of the logits.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sweeper.losses.build import build_part
from sweeper.losses.class_weights import class_margins
from sweeper.losses.coordinates import Value
from sweeper.losses.families import LossTask
from sweeper.losses.loss_module import KeptNumbers, SegmentationLoss
from sweeper.losses.per_pixel import at_least_float32


class MarginCrossEntropy(SegmentationLoss):
    """`there`: the margin of each class, (C,); `absent`: of the absence of each (binary, multi-label)."""

    def __init__(
        self, task: LossTask, ignore_index: int, margin: Value, there: tuple[float, ...], absent: tuple[float, ...]
    ) -> None:
        classes = len(there) if len(there) > 1 else None
        super().__init__("ldam", task, {"margin": margin}, ignore_index, classes)
        self._margins = KeptNumbers((there, absent))
        self.entropy = build_part("cross_entropy", task=task, ignore_index=ignore_index)

    def compute(self, logits: Tensor, target: Tensor, weight: Tensor | None, distance: Tensor | None) -> Tensor:
        """The loss of a checked batch."""
        z = at_least_float32(logits)
        there, absent = self._margins.like(z)
        labels = target.long() if self.task == "multilabel" else target.long().unsqueeze(1)
        if self.task == "multiclass":
            index = torch.where(labels == self.ignore_index, 0, labels)
            own = there[index] if len(there) > 1 else there.expand_as(index)
            z = z.scatter_add(1, index, -own)
        else:
            z = z + torch.where(labels == 1, -there.view(-1, 1, 1), absent.view(-1, 1, 1))
        value: Tensor = self.entropy(z, target, weight)
        return value


def build(
    *,
    task: LossTask,
    ignore_index: int,
    class_frequencies: Sequence[float] | None,
    margin: float | tuple[float, ...],
) -> MarginCrossEntropy:
    """The module, from checked coordinates."""
    given = margin if isinstance(margin, tuple) else (margin,)
    if task == "multilabel" or class_frequencies is None:
        return MarginCrossEntropy(task, ignore_index, margin, given, (0.0,))
    each = class_margins(class_frequencies, given[0])
    if task == "binary":
        return MarginCrossEntropy(task, ignore_index, margin, each[1:], each[:1])
    return MarginCrossEntropy(task, ignore_index, margin, each, (0.0,))
