"""What all loss modules share: how they are called, what they refuse, how they show themselves."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from sweeper.core.errors import LossError
from sweeper.losses.batch_checks import check_batch, check_labels, check_weight
from sweeper.losses.coordinates import Value
from sweeper.losses.families import FAMILIES, LossTask
from sweeper.losses.per_pixel import readable, transformed

IMAGES = 4
"""Axes of the logits of images, (N, C, H, W)."""
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
    """A loss called as `loss(logits, target, weight=None)`; subclasses compute it."""

    takes_weight = True
    """Whether it can weigh pixels at call time."""
    _batches_to_check = 0
    _foreground_seen = True  # of a loss that an earlier version pickled, which checked no labels
    checks_labels = True
    """Whether the values of the first batches' labels are checked, on a processor; False where they are known to be
    right."""

    def __init__(
        self,
        family: str,
        task: LossTask,
        coordinates: dict[str, Value],
        ignore_index: int,
        classes: int | None = None,
    ) -> None:
        super().__init__()
        self.family = family
        self.task: LossTask = task
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
        weight: Tensor | None = None,
        *,
        distance: Tensor | None = None,
        sizes: Tensor | None = None,
        instances: Tensor | None = None,
        skeleton: Tensor | None = None,
    ) -> Tensor:
        """Loss of a batch of images, (H, W), or of anything else with axes of space: volumes, (D, H, W), points, (P).

        Losses that look at neighbours (`planar`) take images alone. Maps of the labels (`distance`, `sizes`,
        `instances`, `skeleton`) are used by families that declare them (`needs_map`), which make them from the target
        where they are not given.

        Args:
            logits: (N, 1, *space) for binary, else (N, C, *space); floating, unbounded.
            target: (N, *space) of class indices, or (N, C, *space) of 0 and 1 for multi-label; integer or bool;
                `ignore_index` = no label. Values are checked in the first batches alone, and on a processor alone.
            weight: (N, *space), or (N, C, *space) for multi-label; floating, ≥ 0 and finite: factor of each pixel. In
                the cross-entropy part the divisor stays the number of labelled pixels; in an overlap, a pixel of weight
                2 counts as two. Values are not checked.
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
        if weight is not None:
            if not self.takes_weight:
                raise LossError(
                    f"{self.family} takes no weights of pixels, because it ranks them all together; leave `weight` out"
                )
            check_weight(weight, logits, self.task)
            # Under ignore whatever stands there must not matter, and 0 × NaN is NaN.
            labelled = target.long() != self.ignore_index
            weight = weight.unsqueeze(1) if weight.ndim < labelled.ndim else weight
            precision = torch.float64 if logits.dtype == torch.float64 else torch.float32
            weight = torch.where(labelled, weight.to(precision), 0.0)
        given = {"distance": distance, "sizes": sizes, "instances": instances, "skeleton": skeleton}
        _check_maps(given, logits, target)
        if logits.ndim != IMAGES and self.planar:
            raise LossError(
                f"logits of {self.family} must have shape (N, C, H, W), because it looks at neighbours within an "
                f"image, got {tuple(logits.shape)}; give the slices of a volume as images, (N · D, C, H, W), or "
                "choose a loss without neighbourhoods"
            )
        entry = FAMILIES.get(self.family)
        kind = None if entry is None else entry.needs_map
        label_map = None if kind is None else given[kind]
        if kind is not None and label_map is None:
            label_map = self.made_map(target)
        if logits.ndim != IMAGES:
            axis = 2 if self.task == "multilabel" else 1
            logits, target = as_image(logits, 2), as_image(target, axis)
            weight = None if weight is None else as_image(weight, axis)
            label_map = None if label_map is None else as_image(label_map, axis)
        return self.compute(logits, target, weight, label_map)

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

    @property
    def planar(self) -> bool:
        """Whether it takes images alone, because it matters which pixels are neighbours."""
        entry = FAMILIES.get(self.family)
        spatial = entry is not None and entry.spatial and not entry.volumes
        return spatial or bool(self.coordinates.get("boundary_weight"))

    def compute(self, logits: Tensor, target: Tensor, weight: Tensor | None, distance: Tensor | None) -> Tensor:
        """The loss of a checked batch of images; of anything else all pixels come as one column, (N, C, P, 1).

        `distance`: the map of the labels that the family wants (`needs_map`), if it wants one.
        """
        raise NotImplementedError

    def extra_repr(self) -> str:
        """The family and its coordinates."""
        shown = [f"{name}={_shown(value)}" for name, value in self.coordinates.items() if value is not None]
        return ", ".join([self.family, f"task={self.task}", *shown, f"ignore_index={self.ignore_index}"])


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


def as_image(values: Tensor, axis: int) -> Tensor:
    """All axes from `axis` on as one column of pixels: no copy where they lie in one run, as channels_last_3d do."""
    return values.flatten(axis).unsqueeze(-1)


def _shown(value: Value) -> str:
    if isinstance(value, bool):
        return str(value)
    return f"({', '.join(f'{item:.4g}' for item in value)})" if isinstance(value, tuple) else f"{value:.4g}"
