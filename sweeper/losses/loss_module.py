"""What all loss modules share: how they are called, what they refuse, how they show themselves."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sweeper.core.errors import LossError
from sweeper.losses.coordinates import Value
from sweeper.losses.families import LossTask
from sweeper.losses.per_pixel import transformed


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

    def forward(
        self, logits: Tensor, target: Tensor, weight: Tensor | None = None, *, distance: Tensor | None = None
    ) -> Tensor:
        """Loss of a batch.

        Args:
            logits: (N, 1, H, W) for binary, else (N, C, H, W); floating, unbounded.
            target: (N, H, W) of class indices, or (N, C, H, W) of 0 and 1 for multi-label; integer or bool;
                `ignore_index` = no label. Values are not checked.
            weight: (N, H, W), or (N, C, H, W) for multi-label; floating, ≥ 0 and finite: factor of each pixel. In the
                cross-entropy part the divisor stays the number of labelled pixels; in an overlap, a pixel of weight 2
                counts as two. Values are not checked.
            distance: (N, C, H, W), floating, signed distances to the class boundaries in pixels; only used by families
                that declare `needs_distance`.

        Returns:
            Scalar, float32 (float64 for float64 logits), ≥ 0.

        Raises:
            LossError: if shapes or types do not fit.
        """
        _check_batch(logits, target, self.task)
        if self.classes is not None and logits.shape[1] != self.classes:
            raise LossError(
                f"logits must have one channel per class of `class_frequencies` or class weights ({self.classes}), "
                f"got {logits.shape[1]}; build the loss with the numbers of the model's classes"
            )
        if weight is not None:
            _check_weight(self, weight, logits)
            # Under ignore whatever stands there must not matter, and 0 × NaN is NaN.
            labelled = target.long() != self.ignore_index
            weight = weight.unsqueeze(1) if weight.ndim < labelled.ndim else weight
            precision = torch.float64 if logits.dtype == torch.float64 else torch.float32
            weight = torch.where(labelled, weight.to(precision), 0.0)
        if distance is not None and distance.shape != logits.shape:
            raise LossError(
                f"distance must have the logits' shape {tuple(logits.shape)}, got {tuple(distance.shape)}; "
                "give the signed distances to each class's boundary"
            )
        return self.compute(logits, target, weight, distance)

    def compute(self, logits: Tensor, target: Tensor, weight: Tensor | None, distance: Tensor | None) -> Tensor:
        """The loss of a checked batch."""
        raise NotImplementedError

    def extra_repr(self) -> str:
        """The family and its coordinates."""
        shown = [f"{name}={_shown(value)}" for name, value in self.coordinates.items() if value is not None]
        return ", ".join([self.family, f"task={self.task}", *shown, f"ignore_index={self.ignore_index}"])


def _shown(value: Value) -> str:
    if isinstance(value, bool):
        return str(value)
    return f"({', '.join(f'{item:.4g}' for item in value)})" if isinstance(value, tuple) else f"{value:.4g}"


def _check_batch(logits: Tensor, target: Tensor, task: LossTask) -> None:
    """Refuse what cannot be right, from shapes and types alone."""
    fewest = 2 if task == "multiclass" else 1
    if logits.ndim != 4 or (logits.shape[1] != 1 if task == "binary" else logits.shape[1] < fewest):
        wanted = "(N, 1, H, W)" if task == "binary" else f"(N, C, H, W) with C ≥ {fewest}"
        raise LossError(f"{task} logits must have shape {wanted}, got {tuple(logits.shape)}; check the model's output")
    if task == "multilabel":
        if target.shape != logits.shape:
            raise LossError(
                f"target must have shape (N, C, H, W) = {tuple(logits.shape)} like the logits, "
                f"got {tuple(target.shape)}; give 0, 1 or ignore for every class"
            )
    elif target.shape != (expected := (logits.shape[0], logits.shape[2], logits.shape[3])):
        raise LossError(
            f"target must have shape (N, H, W) = {tuple(expected)} to go with logits {tuple(logits.shape)}, "
            f"got {tuple(target.shape)}; drop a channel dimension with target.squeeze(1), or resize the logits"
        )
    if not logits.is_floating_point():
        raise LossError(f"logits must be floating point, got {logits.dtype}; give the model's output, not labels")
    if target.is_floating_point() or target.is_complex():
        raise LossError(f"target must be integer class indices, got {target.dtype}; convert it with target.long()")


def _check_weight(loss: SegmentationLoss, weight: Tensor, logits: Tensor) -> None:
    if not loss.takes_weight:
        raise LossError(
            f"{loss.family} takes no weights of pixels, because it ranks them all together; leave `weight` out"
        )
    pixels = (logits.shape[0], *logits.shape[2:])
    shapes = [tuple(logits.shape), pixels] if loss.task == "multilabel" else [pixels]
    if tuple(weight.shape) not in shapes or not weight.is_floating_point():
        raise LossError(
            f"weight must be floating point of shape {' or '.join(map(str, shapes))}, "
            f"got {weight.dtype} of shape {tuple(weight.shape)}; give one number per pixel"
        )
