"""`build_loss`: a family's name and coordinates → a module to train with."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module

import torch
from torch import Tensor, nn

from sweeper.core.errors import LossError
from sweeper.core.records import IGNORE, Task
from sweeper.losses.coordinates import KernelSettings, Value, checked, kernel_settings
from sweeper.losses.families import FAMILIES
from sweeper.losses.kernel import sigmoid_loss, softmax_loss
from sweeper.losses.loss_module import KeptNumbers, SegmentationLoss
from sweeper.losses.own_losses import OWN, build_own_loss


class KernelLoss(SegmentationLoss):
    """One point of the kernel. `loss(logits, target)` gives a scalar in at least float32.

    Has no parameters and nothing in its state dict; follows the logits to whatever device they are on, so that it need
    not be moved. Works under autocast, `torch.compile`, DDP and in a CUDA graph (after one warm-up call), and pickles.
    Derivatives of any order, and `torch.func`'s transformations.
    """

    def __init__(
        self,
        family: str,
        task: Task,
        coordinates: dict[str, Value],
        settings: KernelSettings,
        ignore_index: int,
    ) -> None:
        weights = settings.class_weights
        # One number for all classes fits any number of them.
        classes = len(weights) if task != "binary" and weights is not None and len(weights) > 1 else None
        super().__init__(family, task, coordinates, ignore_index, classes)
        self.settings = settings
        self._weights = KeptNumbers([] if weights is None else [weights])
        self._weights.like(torch.empty(0))

    def compute(self, logits: Tensor, target: Tensor, label_map: Tensor | None) -> Tensor:
        """The loss of a checked batch."""
        settings = self.settings
        if self.task == "multiclass":
            weights = self._weights.like(logits)
            return softmax_loss(logits, target, settings, self.ignore_index, weights[0] if weights else None)
        low, high = settings.class_weights or (1.0, 1.0)
        return sigmoid_loss(logits, target, settings, self.ignore_index, (low, high))


def build_loss(
    family: str,
    *,
    task: Task,
    ignore_index: int = IGNORE,
    class_frequencies: Sequence[float] | None = None,
    **coordinates: float | bool | Sequence[float] | None,
) -> nn.Module:
    """Build a loss, called as `loss(logits, target)`.

    Args:
        family: a name in `sweeper.losses.FAMILIES`.
        task: "binary" (logits (N, 1, H, W), target (N, H, W) in {0, 1, ignore}) or
            "multiclass" (logits (N, C, H, W), target (N, H, W) in [0, C) or ignore).
        ignore_index: label of pixels that do not count.
        class_frequencies: training pixels of each class, as counts or shares, in class order; required for multi-class
            `class_weight_power`, `alpha` and `tau`, and as counts for `effective_number`; the forms of
            `unified_focal` use them if they are given.
        coordinates: those of the family (`FAMILIES[family].coordinates[task]`; one that is left out takes the family's
            default from the literature; `alpha=None` turns α off) and its options (`FAMILIES[family].options(task)`):
            `label_smoothing`, `hard_fraction`, `boundary_weight`, `class_weights`, `effective_number`, `smoothing`,
            `per_image`, `include_background`, `squared`, `weigh_overlap`, and of an overlap alone `class_weight_power`;
            meanings and limits in `sweeper.losses.accepted_values`.

    Raises:
        LossError: naming everything that is wrong: family, task, coordinate, value or frequencies.
    """
    if family in OWN:
        classes = 2 if class_frequencies is None else len(class_frequencies)
        return build_own_loss(OWN[family], coordinates, task=task, ignore_index=ignore_index, classes=classes)
    values = checked(family, task, coordinates, class_frequencies)
    if (
        isinstance(ignore_index, bool)
        or not isinstance(ignore_index, int)
        or (task == "binary" and ignore_index in (0, 1))
    ):
        raise LossError(
            f"`ignore_index` must be an integer that is no class of a {task} task, got {ignore_index!r}; use 255"
        )
    entry = FAMILIES[family]
    build = entry.build
    if build is None and entry.module is not None:
        build = import_module(f"sweeper.losses.{entry.module}").build
    if build is not None:
        given = {name: value for name, value in values.items() if value is not None}
        module = build(task=task, ignore_index=ignore_index, class_frequencies=class_frequencies, **given)
        assert isinstance(module, nn.Module)
        return module
    settings = kernel_settings(entry, task, values, class_frequencies)
    return KernelLoss(family, task, values, settings, ignore_index)


def build_part(family: str, *, task: Task, ignore_index: int) -> SegmentationLoss:
    """A loss without coordinates inside another one, which has looked at the labels already."""
    part = build_loss(family, task=task, ignore_index=ignore_index)
    assert isinstance(part, SegmentationLoss)
    part.checks_labels = False
    return part
