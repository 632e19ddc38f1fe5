"""What all loss modules share: how they are called, what they refuse, how they show themselves."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

from sweeper.core.errors import LossError
from sweeper.core.records import Task
from sweeper.losses.batch_checks import check_batch, check_labels
from sweeper.losses.coordinates import Value
from sweeper.losses.families import FAMILIES
from sweeper.losses.per_pixel import readable, transformed

CHECKED_BATCHES = 4
"""Batches whose labels are checked: what is wrong with labels is wrong from the first, and the rest costs nothing."""


class KeptNumbers:
    """Fixed numbers as tensors where a batch is; copied once per device and precision, then kept."""

    def __init__(self, given: Sequence[Sequence[float]]) -> None:
        self._given = tuple(tuple(numbers) for numbers in given)
        self._kept: tuple[Tensor, ...] = ()

    def like(self, logits: Tensor) -> tuple[Tensor, ...]:
        """A tensor (C,) for each of the sequences, on the logits' device, float64 for float64 logits, else float32."""
        dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
        kept = self._kept
        if not kept or kept[0].device != logits.device or kept[0].dtype != dtype:
            # From the exact numbers, so that float64 does not inherit float32's rounding.
            kept = tuple(torch.tensor(numbers, dtype=dtype, device=logits.device) for numbers in self._given)
            if not transformed():  # else they belong to the transformation, and end with it
                self._kept = kept
        return kept


class SegmentationLoss(nn.Module):
    """A loss called as `loss(logits, target)`; subclasses compute it."""

    checks_labels = True
    """Whether the values of the first batches' labels are checked, on a processor; False where they are known to be
    right."""

    def __init__(
        self,
        family: str,
        task: Task,
        coordinates: dict[str, Value],
        ignore_index: int,
        classes: int | None = None,
    ) -> None:
        super().__init__()
        self.family = family
        self.task: Task = task
        self.coordinates = coordinates
        self.ignore_index = ignore_index
        self.classes = classes
        """Channels the logits must have; None = any."""
        self._batches_to_check = CHECKED_BATCHES
        self._foreground_seen = False

    def forward(
        self,
        logits: Tensor,
        target: Tensor,
        *,
        distance: Tensor | None = None,
        sizes: Tensor | None = None,
        instances: Tensor | None = None,
        skeleton: Tensor | None = None,
    ) -> Tensor:
        """Loss of a batch of images.

        Maps of the labels (`distance`, `sizes`, `instances`, `skeleton`) are used by families that declare them
        (`needs_map`), which make them from the target where they are not given.

        Args:
            logits: (N, 1, H, W) for binary, (N, C, H, W) for multi-class; floating, unbounded.
            target: (N, H, W) of class indices; integer or bool; `ignore_index` = no label. Values are checked in the
                first batches alone, and on a processor alone.
            distance: shaped as the logits, floating, signed distances to the class boundaries in pixels.
            sizes: shaped as the target: pixels of the instance that each pixel belongs to.
            instances: shaped as the target, integer: number of that instance in its image, 0 = none.
            skeleton: shaped as the target: nonzero on the widened skeleton of the pixel's class.

        Returns:
            Scalar, float32 (float64 for float64 logits), ≥ 0.

        Raises:
            LossError: if shapes or types do not fit, or a label of the first batches is no class.
        """
        check_batch(logits, target, self.task)
        if self._batches_to_check and self.checks_labels and readable(target):
            self._check_labels(logits.shape[1], target)
        if self.classes is not None and logits.shape[1] != self.classes:
            raise LossError(
                f"logits must have one channel per class of `class_frequencies` or class weights ({self.classes}), "
                f"got {logits.shape[1]}; build the loss with the numbers of the model's classes"
            )
        given = {"distance": distance, "sizes": sizes, "instances": instances, "skeleton": skeleton}
        _check_maps(given, logits, target)
        entry = FAMILIES.get(self.family)
        kind = None if entry is None else entry.needs_map
        label_map = None if kind is None else given[kind]
        if kind is not None and label_map is None:
            label_map = self.made_map(target)
        return self.compute(logits, target, label_map)

    def made_map(self, target: Tensor) -> Tensor | None:
        """What `needs_map` names, made from a target that came without it; None where `compute` does that."""
        return None

    def _check_labels(self, channels: int, target: Tensor) -> None:
        """Refuse labels that are no class, and say so where a mask of 0 and 255 seems to be taken for labels."""
        self._batches_to_check -= 1
        highest, ignored = check_labels(target, channels, self.task, self.ignore_index)
        self._foreground_seen |= highest > 0 or not ignored or self.task == "multiclass"
        if self._batches_to_check == 0 and not self._foreground_seen:
            warnings.warn(
                f"{CHECKED_BATCHES} batches without one pixel of foreground, in which {self.ignore_index} (no label) "
                f"occurs: if {self.ignore_index} is the foreground of these masks, nothing is learned; "
                "give (target > 0).long()",
                stacklevel=4,
            )

    def compute(self, logits: Tensor, target: Tensor, label_map: Tensor | None) -> Tensor:
        """The loss of a checked batch; `label_map` is what `needs_map` names, if the family wants one."""
        raise NotImplementedError

    def extra_repr(self) -> str:
        """The family and its coordinates."""
        shown = [f"{name}={_shown(value)}" for name, value in self.coordinates.items() if value is not None]
        return ", ".join([self.family, f"task={self.task}", *shown, f"ignore_index={self.ignore_index}"])


def without_frequencies(loss: Callable[..., SegmentationLoss]) -> Callable[..., SegmentationLoss]:
    """The function `build` of a loss to which the classes' frequencies make no difference."""

    def build(
        *, task: Task, ignore_index: int, class_frequencies: Sequence[float] | None, **coordinates: float
    ) -> SegmentationLoss:
        return loss(task, ignore_index, **coordinates)

    return build


def _check_maps(given: Mapping[str, Tensor | None], logits: Tensor, target: Tensor) -> None:
    """Refuse maps of the labels whose shape does not fit."""
    for name, found in given.items():
        wanted = logits.shape if name == "distance" else target.shape
        if found is not None and found.shape != wanted:
            whose, what = ("logits'", "signed distances to each class's boundary")
            if name != "distance":
                whose, what = "target's", f"{name} of its labels"
            raise LossError(
                f"{name} must have the {whose} shape {tuple(wanted)}, got {tuple(found.shape)}; give the {what}"
            )


def _shown(value: Value) -> str:
    if isinstance(value, bool):
        return str(value)
    return f"({', '.join(f'{item:.4g}' for item in value)})" if isinstance(value, tuple) else f"{value:.4g}"
