"""`build_loss`: build a loss module from a family's name and coordinates; the modules check their input."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import torch
from torch import Tensor, nn

from sweeper.core.errors import LossError
from sweeper.core.records import IGNORE, Task
from sweeper.core.tasks import RULES
from sweeper.losses.coordinates import Value, check_coordinates, make_kernel_settings, uses_frequencies
from sweeper.losses.families import FAMILIES
from sweeper.losses.family_records import DISTANCE_WORDS
from sweeper.losses.kernel import sigmoid_loss, softmax_loss
from sweeper.losses.other_losses import LossBatch, compute_distance_maps
from sweeper.losses.own_losses import OWN, build_own_loss
from sweeper.losses.per_pixel import is_readable_now, settle_labels, settle_shapes

IMAGES, VOLUMES = 4, 5
"""Number of axes of the logits, (N, C, H, W) or (N, C, D, H, W)."""
SHAPES: dict[Task, tuple[str, str]] = {
    "binary": ("(N, 1, H, W) or (N, 2, H, W)", "(N, H, W)"),
    "multiclass": ("(N, C, H, W) with C ≥ 2", "(N, H, W)"),
    "multilabel": ("(N, C, H, W)", "(N, C, H, W) with 0 and 1"),
}
"""Shapes of logits and targets."""
CHECKED_BATCHES = 4
"""Number of first batches in which foreground is looked for."""


class SegmentationLoss(nn.Module):
    """A loss called as `loss(logits, target)`; subclasses implement `compute`.

    It has no parameters and an empty state dict. It runs on the logits' device, and need not be moved. It works under
    autocast, `torch.compile`, DDP and in a CUDA graph (after one warm-up call), and can be pickled.
    """

    checks_labels = True
    """Whether label values are checked; False for labels known to be right."""

    def __init__(
        self,
        family: str,
        task: Task,
        coordinates: dict[str, Value],
        ignore_index: int,
        class_frequencies: Sequence[float] | None,
    ) -> None:
        super().__init__()
        self.family = family
        self.task: Task = task
        self.coordinates = coordinates
        self.ignore_index = ignore_index
        self.class_frequencies = None if class_frequencies is None else tuple(class_frequencies)
        self._batches_to_check = CHECKED_BATCHES
        self._foreground_seen = RULES[task].is_exclusive

    def forward(self, logits: Tensor, target: Tensor, *, distance: Tensor | None = None) -> Tensor:
        """Compute the loss of a batch of images or volumes.

        Args:
            logits: (N, 1, H, W) for binary, or (N, 2, H, W) of a network with a softmax; else (N, C, H, W); floating,
                unbounded. Volumes have one more axis before H; families with `images_only` refuse them.
            target: (N, H, W) or (N, 1, H, W) of class indices, of any type; for multi-label (N, C, H, W) of 0 and 1;
                `ignore_index` = no label.
            distance: signed distances to the boundary of each class, (N, 1 or C, H, W), for a family with `needs_map`;
                None = compute them from the target.

        Returns:
            Scalar, float32 (float64 for float64 logits), ≥ 0.

        Raises:
            LossError: if shapes do not fit, or a label is no class: on a GPU one call later, as nothing waits for it,
                and not in a compiled or recorded step, where such pixels do not count.
        """
        logits, target = check_batch(logits, target, self.task)
        if logits.ndim == VOLUMES:
            if FAMILIES[self.family].images_only:
                raise LossError(
                    f"logits of {self.family} must be of images (N, C, H, W), as it looks at neighbouring pixels, got "
                    f"{tuple(logits.shape)}; give the slices of a volume as images"
                )
            logits, target = logits.flatten(-3, -2), target.flatten(-3, -2)  # stack a volume's slices along H
        if self.checks_labels:
            values = logits.shape[1] if RULES[self.task].is_exclusive else 2
            target = settle_labels(target, values, self.ignore_index, LossError)
            self._warn_of_ignored_masks(target)
        classes = len(self.class_frequencies or ())
        if classes not in (0, logits.shape[1] + RULES[self.task].first_channel):
            raise LossError(
                f"logits must have one channel per class of `class_frequencies` ({classes}), "
                f"got {logits.shape[1]}; build the loss with the numbers of the model's classes"
            )
        if FAMILIES[self.family].needs_map is not None:
            if distance is None:
                distance = compute_distance_maps(target, self.task, logits.shape[1], self.ignore_index)
            if distance.shape != logits.shape:
                raise LossError(
                    f"distance must have the shape {tuple(logits.shape)}, got {tuple(distance.shape)}; "
                    f"give {DISTANCE_WORDS}"
                )
        return self.compute(LossBatch(logits, target, self.task, self.ignore_index, self.class_frequencies, distance))

    def _warn_of_ignored_masks(self, labels: Tensor) -> None:
        """Warn if masks of 0 and 255 seem to be used as labels."""
        if not self._batches_to_check or not is_readable_now(labels):
            return
        self._batches_to_check -= 1
        self._foreground_seen |= bool((labels == 1).any()) or not bool((labels == self.ignore_index).any())
        if self._batches_to_check == 0 and not self._foreground_seen:
            warnings.warn(
                f"{CHECKED_BATCHES} batches without one pixel of foreground, in which {self.ignore_index} (no label) "
                f"occurs: if {self.ignore_index} is the foreground of these masks, nothing is learned; "
                "give (target > 0).long()",
                stacklevel=4,
            )

    def compute(self, batch: LossBatch) -> Tensor:
        """Return the loss of a checked batch."""
        raise NotImplementedError

    def extra_repr(self) -> str:
        """Return the family and its coordinates."""
        shown = [f"{name}={value:.4g}" for name, value in self.coordinates.items() if value is not None]
        return ", ".join([self.family, f"task={self.task}", *shown, f"ignore_index={self.ignore_index}"])


def check_batch(logits: Tensor, target: Tensor, task: Task) -> tuple[Tensor, Tensor]:
    """Check shapes, and return logits and target in the loss's shapes.

    Raises:
        LossError: if they do not fit.
    """
    shapes = f"{tuple(logits.shape)} and {tuple(target.shape)}"
    wanted, labels = SHAPES[task]
    if logits.ndim in (IMAGES, VOLUMES):
        if RULES[task].has_planes:
            fits = target.shape == logits.shape
        else:
            logits, target = settle_shapes(logits, target, 1 if task == "binary" else None)
            fits = (logits.shape[1] == 1) == (task == "binary") and target.shape == (len(logits), *logits.shape[2:])
        if fits:
            return logits, target
    way = "" if RULES[task].has_planes else "; a one-hot target becomes class indices with target.argmax(1)"
    raise LossError(
        f"{task} logits must have the shape {wanted}, with an axis D before H for volumes, and target the shape "
        f"{labels}, got {shapes}{way}"
    )


class KernelLoss(SegmentationLoss):
    """One point of the kernel. `loss(logits, target)` returns a scalar in at least float32."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.settings = make_kernel_settings(FAMILIES[self.family], self.task, self.coordinates, self.class_frequencies)
        self._weights: Tensor | None = None

    def compute(self, batch: LossBatch) -> Tensor:
        """Return the loss of a checked batch."""
        logits, weights = batch.logits, self._place_class_weights(batch.logits)
        if batch.is_exclusive:
            return softmax_loss(logits, batch.target, self.settings, self.ignore_index, weights)
        pair = (1.0, 1.0) if weights is None else weights.view(2, -1, 1, 1)
        return sigmoid_loss(logits, batch.target, self.settings, self.ignore_index, pair)

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

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        module = import_module(f"sweeper.losses.{FAMILIES[self.family].module}")
        self._cost: Callable[..., Tensor] = getattr(module, self.family)
        self._given = {name: value for name, value in self.coordinates.items() if value is not None}

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
        task: "binary" (logits (N, 1, H, W), target (N, H, W) in {0, 1, ignore}), "multiclass" (logits (N, C, H, W),
            target (N, H, W) in [0, C) or ignore) or "multilabel" (both (N, C, H, W), target in {0, 1, ignore}).
        ignore_index: label of pixels that do not count.
        class_frequencies: training pixels of each class, as counts or shares, in class order; for multi-label the
            share of the labelled pixels that each class has. Required for coordinates that declare it, such as
            `class_weight_power`, `alpha` and `tau`.
        coordinates: values of the family's coordinates (`FAMILIES[family].coordinates[task]`). Omitted ones take the
            family's default from the literature; `alpha=None` turns α off. Each has its meaning and limits there.

    Raises:
        LossError: with the rule and the value found.
    """
    if family in OWN:
        classes = 2 if class_frequencies is None else len(class_frequencies)
        return build_own_loss(OWN[family], coordinates, task=task, ignore_index=ignore_index, classes=classes)
    values = check_coordinates(family, task, coordinates, class_frequencies)
    if not RULES[task].is_exclusive and ignore_index in (0, 1):
        raise LossError(f"`ignore_index` must be no class of a {RULES[task].words} task, got {ignore_index}; use 255")
    entry = FAMILIES[family]
    used = class_frequencies if uses_frequencies(entry, task, values) else None
    module = KernelLoss if entry.module is None else RelativeLoss
    return module(family, task, values, ignore_index, used)
