"""Unified focal loss (Yeung et al. 2022, arXiv:2102.04525, the asymmetric form of equations 16 to 18).

λ · CE part + (1 − λ) · overlap part, with one weight δ and one exponent s (the paper's γ) for both parts:

- a rare class's pixel costs −δ log p_t, a common one's −(1 − δ) (1 − p_t)^s log p_t; mean over labelled pixels;
- each class costs 1 − TI_c(1 − δ, δ), a rare one that to the power 1 − s; mean over the classes.

Common: background (binary), the most frequent class (multi-class; class 0 when no class frequencies are given). All
others are rare. As the paper has it, the overlap part counts the background, too. A class absent from the batch costs
its mean probability in place of 1 − TI_c. Over the whole batch, smoothing 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sweeper.core.records import Task
from sweeper.losses.class_sums import Entropy, class_sums
from sweeper.losses.class_weights import commonest
from sweeper.losses.coordinates import KernelSettings
from sweeper.losses.kernel import NEARLY_NOTHING, class_cost
from sweeper.losses.loss_module import SegmentationLoss


class UnifiedFocal(SegmentationLoss):
    """`mix` λ, `delta` δ and `suppression` s; `common` is the index of the most frequent class.

    `symmetric`: rare classes have the focal factor, and common ones the exponent 1 − s, too.
    """

    def __init__(
        self,
        task: Task,
        ignore_index: int,
        *,
        mix: float,
        delta: float,
        suppression: float,
        common: int,
        classes: int | None,
        symmetric: bool,
    ) -> None:
        coordinates = {"mix": mix, "delta": delta, "suppression": suppression}
        name = "symmetric_unified_focal" if symmetric else "unified_focal"
        super().__init__(name, task, dict(coordinates), ignore_index, classes)
        self.symmetric = symmetric
        self.mix, self.delta, self.suppression, self.common = mix, delta, suppression, common
        self._part = KernelSettings(0.0, 0.0, None, 1 - delta, delta, 1.0)

    def compute(self, logits: Tensor, target: Tensor, label_map: Tensor | None) -> Tensor:
        """The loss of a checked batch."""
        exclusive = self.task == "multiclass"
        entropy = self._entropy(logits.shape[1]) if self.mix > 0 else None
        found = class_sums(logits, target, self.task, self.ignore_index, entropy=entropy)
        parts = []
        if self.mix > 0:
            parts.append(self.mix * found.entropy)
        if self.mix < 1:
            _, marked, missed, actual, rest = found
            if not exclusive:  # the background comes first
                marked, missed = torch.cat([missed, marked]), torch.cat([marked, missed])
                actual, rest = torch.cat([rest, actual]), torch.cat([actual, rest])
            common = torch.arange(len(actual), device=logits.device) == self.common
            # An absent class has no other probability than false positives.
            counts = (marked, missed, actual, marked / (actual + rest).clamp(min=NEARLY_NOTHING))
            each = class_cost(*counts, self._part)
            steep = class_cost(*counts, self._part._replace(overlap_exponent=1 - self.suppression))
            found_costs = steep if self.symmetric else torch.where(common, each, steep)
            parts.append((1 - self.mix) * found_costs.mean())
        return parts[0] if len(parts) == 1 else parts[0] + parts[1]

    def _entropy(self, channels: int) -> Entropy:
        """The cross-entropy part."""
        rare, common = self.delta, 1 - self.delta
        of_rare = self.suppression if self.symmetric else 0.0
        if self.task != "multiclass":
            return Entropy((self.suppression, of_rare), (common, rare))
        own = [c == self.common for c in range(channels)]
        gammas = tuple(self.suppression if it else of_rare for it in own)
        return Entropy(gammas, tuple(common if it else rare for it in own))


def build(
    *,
    task: Task,
    ignore_index: int,
    class_frequencies: Sequence[float] | None,
    mix: float,
    delta: float,
    suppression: float,
) -> UnifiedFocal:
    """The module, from checked coordinates."""
    coordinates = {"mix": mix, "delta": delta, "suppression": suppression}
    return build_unified(task, ignore_index, class_frequencies, coordinates, symmetric=False)


def build_unified(
    task: Task,
    ignore_index: int,
    class_frequencies: Sequence[float] | None,
    coordinates: dict[str, float],
    *,
    symmetric: bool,
) -> UnifiedFocal:
    """Either form."""
    frequencies = class_frequencies if task == "multiclass" else None
    common = 0 if frequencies is None else commonest(frequencies)
    classes = None if frequencies is None else len(frequencies)
    return UnifiedFocal(task, ignore_index, **coordinates, common=common, classes=classes, symmetric=symmetric)
