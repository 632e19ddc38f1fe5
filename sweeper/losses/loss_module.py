"""Base class of the loss modules: call, input checks, representation."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sweeper.core.errors import LossError
from sweeper.core.records import Task
from sweeper.losses.batch import LossBatch
from sweeper.losses.coordinates import Value
from sweeper.losses.families import FAMILIES
from sweeper.losses.family_records import DISTANCE_WORDS
from sweeper.losses.map_losses import compute_distance_maps
from sweeper.losses.per_pixel import is_readable_now, settle_shapes

IMAGES, VOLUMES = 4, 5
"""Number of axes of the logits, (N, C, H, W) or (N, C, D, H, W)."""
CHECKED_BATCHES = 4
"""Number of first batches whose labels are checked: wrong labels show there, and later batches take no extra time."""


class SegmentationLoss(nn.Module):
    """A loss called as `loss(logits, target)`; subclasses implement `compute`.

    It has no parameters and an empty state dict. It runs on the logits' device, and need not be moved. It works under
    autocast, `torch.compile`, DDP and in a CUDA graph (after one warm-up call), and can be pickled.
    """

    checks_labels = True
    """Whether the first batches' label values are checked, on a processor; False for labels known to be right."""

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
        self._foreground_seen = False

    def forward(self, logits: Tensor, target: Tensor, *, distance: Tensor | None = None) -> Tensor:
        """Compute the loss of a batch of images or volumes.

        Args:
            logits: (N, 1, H, W) for binary, or (N, 2, H, W) of a network with a softmax; (N, C, H, W) for multi-class;
                floating, unbounded. Volumes have one more axis before H; families with `images_only` refuse them.
            target: (N, H, W) or (N, 1, H, W) of class indices; integer or bool; `ignore_index` = no label. Values are
                checked only in the first batches, and only on a processor.
            distance: signed distances to the boundary of each class, (N, 1 or C, H, W), for a family with `needs_map`;
                None = compute them from the target.

        Returns:
            Scalar, float32 (float64 for float64 logits), ≥ 0.

        Raises:
            LossError: if shapes or types do not fit, or a label of the first batches is no class.
        """
        logits, target = check_batch(logits, target, self.task)
        if logits.ndim == VOLUMES:
            if FAMILIES[self.family].images_only:
                raise LossError(
                    f"logits of {self.family} must be of images (N, C, H, W), as it looks at neighbouring pixels, got "
                    f"{tuple(logits.shape)}; give the slices of a volume as images"
                )
            logits, target = logits.flatten(2, 3), target.flatten(1, 2)  # stack the slices of each volume along H
        if self._batches_to_check and self.checks_labels and is_readable_now(target):
            self._check_labels(logits.shape[1], target)
        classes = len(self.class_frequencies or ())
        if self.task == "multiclass" and classes not in (0, logits.shape[1]):
            raise LossError(
                f"logits must have one channel per class of `class_frequencies` ({classes}), "
                f"got {logits.shape[1]}; build the loss with the numbers of the model's classes"
            )
        if FAMILIES[self.family].needs_map is None:
            distance = None
        elif distance is None:
            distance = compute_distance_maps(target, self.task, logits.shape[1], self.ignore_index)
        elif distance.shape != logits.shape:
            raise LossError(
                f"distance must have the shape {tuple(logits.shape)}, got {tuple(distance.shape)}; "
                f"give {DISTANCE_WORDS}"
            )
        return self.compute(LossBatch(logits, target, self.task, self.ignore_index, self.class_frequencies, distance))

    def _check_labels(self, channels: int, target: Tensor) -> None:
        """Refuse labels that are no class; warn if masks of 0 and 255 seem to be used as labels."""
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

    def compute(self, batch: LossBatch) -> Tensor:
        """Return the loss of a checked batch."""
        raise NotImplementedError

    def extra_repr(self) -> str:
        """Return the family and its coordinates."""
        shown = [f"{name}={value:.4g}" for name, value in self.coordinates.items() if value is not None]
        return ", ".join([self.family, f"task={self.task}", *shown, f"ignore_index={self.ignore_index}"])


def check_batch(logits: object, target: object, task: Task) -> tuple[Tensor, Tensor]:
    """Check shapes and dtypes, and return logits and target in the loss's shapes.

    Raises:
        LossError: if they do not fit.
    """
    if not isinstance(logits, Tensor):
        raise LossError(
            f"logits must be a tensor, got {type(logits).__name__}; give the model's output before any sigmoid or "
            'softmax, of torchvision output["out"], of transformers output.logits'
        )
    if not isinstance(target, Tensor):
        raise LossError(f"target must be a tensor, got {type(target).__name__}; convert it with torch.as_tensor")
    if not logits.is_floating_point():
        raise LossError(f"logits must be floating point, got {logits.dtype}; give the model's output, not labels")
    shape = tuple(logits.shape)
    wanted = "(N, 1, H, W) or (N, 2, H, W)" if task == "binary" else "(N, C, H, W) with C ≥ 2"
    if logits.ndim in (IMAGES, VOLUMES):
        if target.shape == logits.shape and logits.shape[1] > 1:
            raise LossError(
                f"target must have shape (N, H, W) of class indices, got {tuple(target.shape)} like the logits; "
                "give target.argmax(1) if it is one-hot"
            )
        logits, target = settle_shapes(logits, target, 1 if task == "binary" else None)
    if logits.ndim not in (IMAGES, VOLUMES) or (logits.shape[1] == 1) != (task == "binary"):
        raise LossError(
            f"{task} logits must have shape {wanted}, got {shape}; check the model's output "
            "(volumes have an axis D before H)"
        )
    if target.shape != (expected := (logits.shape[0], *logits.shape[2:])):
        raise LossError(
            f"target must have shape (N, H, W) = {tuple(expected)} to go with logits {shape}, "
            f"got {tuple(target.shape)}; resize the logits, or leave out an axis of the target"
        )
    if target.is_floating_point() or target.is_complex():
        raise LossError(f"target must be integer class indices, got {target.dtype}; convert it with target.long()")
    return logits, target


def check_labels(target: Tensor, channels: int, task: Task, ignore_index: int) -> tuple[int, bool]:
    """Refuse a label that is no class. It reads values: call it only for tensors on a processor.

    Args:
        target: integer or bool, shaped as for the loss.
        channels: channels of the logits.
        task: binary has the labels 0 and 1.
        ignore_index: label of pixels that do not count.

    Returns:
        The largest label (0 if there is none), and whether pixels are ignored.

    Raises:
        LossError: with the wrong label and how to correct it.
    """
    labels = target.long()
    ignored = labels == ignore_index
    if labels.numel() == 0:
        return 0, False
    low, high = (int(end) for end in torch.aminmax(torch.where(ignored, 0, labels)))
    classes = channels if task == "multiclass" else 2
    if low >= 0 and high < classes:
        return high, bool(ignored.any())
    wrong = low if low < 0 else high
    if classes == 2 and high == 255:
        way = "a mask of 0 and 255 becomes labels with (target > 0).long()"
    elif wrong in (-1, -100, 255):
        way = f"build the loss with ignore_index={wrong} if that is the label of pixels that do not count"
    else:
        way = "check the masks against the model's classes; labels begin at 0"
    allowed = "0, 1" if classes == 2 else f"0 … {classes - 1}"
    raise LossError(f"labels of a {task} target must be {allowed} or {ignore_index} (no label), got {wrong}; {way}")
