"""`build_loss`: build a loss module from a family's name and coordinates."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module

import torch
from torch import Tensor, nn

from sweeper.core.errors import LossError
from sweeper.core.records import IGNORE, Task
from sweeper.losses.batch import LossBatch
from sweeper.losses.coordinates import Value, check_coordinates, make_kernel_settings, uses_frequencies
from sweeper.losses.families import FAMILIES
from sweeper.losses.kernel import sigmoid_loss, softmax_loss
from sweeper.losses.loss_module import SegmentationLoss
from sweeper.losses.own_losses import OWN, build_own_loss


class KernelLoss(SegmentationLoss):
    """One point of the kernel. `loss(logits, target)` returns a scalar in at least float32."""

    def __init__(
        self,
        family: str,
        task: Task,
        coordinates: dict[str, Value],
        ignore_index: int,
        class_frequencies: Sequence[float] | None,
    ) -> None:
        super().__init__(family, task, coordinates, ignore_index, class_frequencies)
        self.settings = make_kernel_settings(FAMILIES[family], task, coordinates, class_frequencies)
        self._weights: Tensor | None = None

    def compute(self, batch: LossBatch) -> Tensor:
        """Return the loss of a checked batch."""
        logits, target, settings = batch.logits, batch.target, self.settings
        if self.task == "multiclass":
            return softmax_loss(logits, target, settings, self.ignore_index, self._place_class_weights(logits))
        return sigmoid_loss(logits, target, settings, self.ignore_index, settings.class_weights or (1.0, 1.0))  # type: ignore[arg-type]

    def _place_class_weights(self, logits: Tensor) -> Tensor | None:
        """Return the class weights on the logits' device, None = all 1; cached for the last device and dtype."""
        weights, kept = self.settings.class_weights, self._weights
        if weights is None:
            return None
        dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
        if kept is None or kept.device != logits.device or kept.dtype != dtype:
            # From the Python floats: float64 must not inherit float32's rounding.
            self._weights = kept = torch.tensor(weights, dtype=dtype, device=logits.device)
        return kept


class RelativeLoss(SegmentationLoss):
    """Loss outside the kernel: a function of a batch and of the family's coordinates."""

    def __init__(
        self,
        family: str,
        task: Task,
        coordinates: dict[str, Value],
        ignore_index: int,
        class_frequencies: Sequence[float] | None,
    ) -> None:
        super().__init__(family, task, coordinates, ignore_index, class_frequencies)
        module = import_module(f"sweeper.losses.{FAMILIES[family].module}")
        self._cost: Callable[..., Tensor] = getattr(module, family)
        self._given = {name: value for name, value in coordinates.items() if value is not None}

    def compute(self, batch: LossBatch) -> Tensor:
        """Return the loss of a checked batch."""
        return self._cost(batch, **self._given)


def build_loss(
    family: str,
    *,
    task: Task,
    ignore_index: int = IGNORE,
    class_frequencies: Sequence[float] | None = None,
    **coordinates: float | None,
) -> nn.Module:
    """Build a loss, called as `loss(logits, target)`.

    Args:
        family: a name in `sweeper.losses.FAMILIES`.
        task: "binary" (logits (N, 1, H, W), target (N, H, W) in {0, 1, ignore}) or
            "multiclass" (logits (N, C, H, W), target (N, H, W) in [0, C) or ignore).
        ignore_index: label of pixels that do not count.
        class_frequencies: training pixels of each class, as counts or shares, in class order; required for multi-class
            coordinates that declare it, such as `class_weight_power`, `alpha` and `tau`.
        coordinates: values of the family's coordinates (`FAMILIES[family].coordinates[task]`). Omitted ones take the
            family's default from the literature; `alpha=None` turns α off. Each has its meaning and limits there.

    Raises:
        LossError: with the rule and the value found.
    """
    if family in OWN:
        classes = 2 if class_frequencies is None else len(class_frequencies)
        return build_own_loss(OWN[family], coordinates, task=task, ignore_index=ignore_index, classes=classes)
    values = check_coordinates(family, task, coordinates, class_frequencies)
    if task == "binary" and ignore_index in (0, 1):
        raise LossError(f"`ignore_index` must be no class of a binary task, got {ignore_index}; use 255")
    entry = FAMILIES[family]
    used = class_frequencies if uses_frequencies(entry, task, values) else None
    module = KernelLoss if entry.module is None else RelativeLoss
    return module(family, task, values, ignore_index, used)
