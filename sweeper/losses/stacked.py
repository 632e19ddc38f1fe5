"""Several points of the kernel as one loss: hyper-parameters are tensors with one entry for each.

For networks that train side by side, and for a recorded step whose loss changes: every part of the kernel is computed,
so that the program does not depend on the values, and `load` changes them in place.

    stacked = StackedLoss([build_loss("dice_ce", task="binary", mix=0.3), build_loss("tversky", task="binary")])
    losses = stacked(logits, target)  # logits (2, N, 1, H, W), target (N, H, W) → (2,)
    losses.sum().backward()
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sweeper.core.errors import LossError
from sweeper.losses.batch_checks import check_batch, check_labels
from sweeper.losses.build import KernelLoss
from sweeper.losses.kernel import TensorSettings, sigmoid_loss, softmax_loss
from sweeper.losses.loss_module import CHECKED_BATCHES, IMAGES, as_image
from sweeper.losses.per_pixel import readable

HYPER_PARAMETERS = ("mix", "gamma", "fp_weight", "fn_weight", "overlap_exponent", "smoothing")
"""Of the kernel, one for each loss; class weights are the other ones."""
OPTIONS = (
    *("label_smoothing", "hard_fraction", "boundary_weight", "per_image", "include_background", "squared"),
    "weigh_overlap",
)
"""The same for all: what is computed depends on them."""


class StackedLoss(nn.Module):
    """K losses of the kernel, each of logits of its own. Move it to the logits' device.

    Works in a CUDA graph, under autocast and `torch.compile`. Its hyper-parameters are buffers that no state dict has.
    """

    checks_labels = True
    """As of a single loss: the first batches', on a processor."""
    mix: Tensor
    class_weights: Tensor
    """(K, C); binary (K, 2): of the background and of the foreground; multi-label (K, C) of present classes."""
    absent_weights: Tensor
    """(K, C), multi-label: of absent classes."""

    def __init__(
        self, losses: Sequence[nn.Module], *, classes: int | None = None, dtype: torch.dtype = torch.float32
    ) -> None:
        """The losses in their places.

        Args:
            losses: K ≥ 1 points of the kernel by `build_loss`, of one task, `ignore_index` and set of options.
            classes: C, where no loss has weights that tell it: multi-class and multi-label.
            dtype: of the hyper-parameters; float32, or float64 for float64 logits.

        Raises:
            LossError: naming what cannot be stacked.
        """
        super().__init__()
        if not losses:
            raise LossError("losses must be at least one, got none; give what `build_loss` returns")
        points = [_point(loss) for loss in losses]
        self._first = first = points[0]
        known = {number for number in (classes, *(point.classes for point in points)) if number is not None}
        if first.task != "binary" and len(known) != 1:
            found = ", ".join(map(str, sorted(known))) or "none"
            raise LossError(f"`classes` must be one number for all losses of a {first.task} task, got {found}; give it")
        self.task, self.ignore_index = first.task, first.ignore_index
        self._batches_to_check = CHECKED_BATCHES
        self.classes = 1 if first.task == "binary" else known.pop()
        weights = 2 if first.task == "binary" else self.classes
        for name in HYPER_PARAMETERS:
            self.register_buffer(name, torch.zeros(len(points), dtype=dtype), persistent=False)
        for name in ("class_weights", "absent_weights"):
            self.register_buffer(name, torch.ones(len(points), weights, dtype=dtype), persistent=False)
        for place, loss in enumerate(losses):
            self.load(place, loss)

    def load(self, place: int, loss: nn.Module) -> None:
        """Put another loss into a place, in the memory that is there.

        Args:
            place: in [0, K).
            loss: as at the beginning.

        Raises:
            LossError: if it is no point of the kernel, or differs in more than hyper-parameters.
        """
        point, first = _point(loss), self._first
        wanted = {"task": first.task, "ignore_index": first.ignore_index, **_options(first)}
        got = {"task": point.task, "ignore_index": point.ignore_index, **_options(point)}
        if wanted != got:
            name = next(name for name in wanted if wanted[name] != got[name])
            raise LossError(
                f"`{name}` must be the same in all stacked losses, got {got[name]!r} beside {wanted[name]!r}; "
                "stack those apart"
            )
        if point.classes not in (None, self.classes):
            raise LossError(
                f"stacked losses must have weights of as many classes, got {point.classes} beside {self.classes}; "
                "build them for one set of classes"
            )
        settings = point.settings
        with torch.no_grad():
            for name in HYPER_PARAMETERS:
                getattr(self, name)[place].fill_(getattr(settings, name))
            for name in ("class_weights", "absent_weights"):
                row = getattr(self, name)[place]
                row.copy_(torch.tensor(getattr(settings, name) or (1.0,), dtype=row.dtype))

    def forward(self, logits: Tensor, target: Tensor, weight: Tensor | None = None) -> Tensor:
        """The losses.

        Args:
            logits: (K, N, C, *space), floating, unbounded; C = 1 for binary.
            target: (N, *space), multi-label (N, C, *space): one for all; or with K in front. Integer or bool.
            weight: of each pixel, shaped as the target for all of them, ≥ 0; None = 1. Under ignore whatever it is.

        Returns:
            (K,), float32 (float64 for float64 logits), ≥ 0.

        Raises:
            LossError: if shapes or types do not fit, or a label of the first batches is no class.
        """
        count, axes = len(self.mix), logits.ndim - 1 if self.task == "multilabel" else logits.ndim - 2
        if logits.ndim < IMAGES or logits.shape[0] != count or logits.shape[2] != self.classes:
            raise LossError(
                f"logits must have shape (K, N, C, *space) with K = {count} losses and C = {self.classes}, "
                f"got {tuple(logits.shape)}; stack the networks' logits in front"
            )
        if logits.ndim != IMAGES + 1 and self._first.settings.boundary_weight > 0:
            raise LossError(
                "logits must have shape (K, N, C, H, W), because `boundary_weight` looks at neighbours within an "
                f"image, got {tuple(logits.shape)}; give the slices of a volume as images"
            )
        each = 0 if target.ndim > axes and len(target) == count else None
        check_batch(logits[0], target if each is None else target[0], self.task)
        if self.checks_labels and self._batches_to_check and readable(target):
            self._batches_to_check -= 1
            check_labels(target, self.classes, self.task, self.ignore_index)
        if weight is not None and weight.shape != target.shape:
            raise LossError(f"weight must have the target's shape {tuple(target.shape)}, got {tuple(weight.shape)}")
        precision = torch.float64 if logits.dtype == torch.float64 else torch.float32
        if weight is not None:
            weight = torch.where(target.long() != self.ignore_index, weight.to(precision), 0.0)
        numbers = {name: getattr(self, name).to(precision) for name in HYPER_PARAMETERS}
        classes = (self.class_weights.to(precision), self.absent_weights.to(precision))
        many = torch.func.vmap(self._one, in_dims=(0, each, None if weight is None else each, 0, 0))
        losses: Tensor = many(logits, target, weight, classes, numbers)
        return losses

    def _one(
        self,
        logits: Tensor,
        target: Tensor,
        weight: Tensor | None,
        classes: tuple[Tensor, Tensor],
        numbers: dict[str, Tensor],
    ) -> Tensor:
        """One of the losses; `classes`: weights where they are, and where they are not; by `HYPER_PARAMETERS`."""
        fields: dict[str, Any] = {**numbers, **_options(self._first)}
        settings, (present, absent) = TensorSettings(**fields), classes
        axis = 2 if self.task == "multilabel" else 1
        if logits.ndim != IMAGES:
            logits, target = as_image(logits, 2), as_image(target, axis)
            weight = None if weight is None else as_image(weight, axis)
        if self.task == "multiclass":
            return softmax_loss(logits, target, settings, self.ignore_index, present, weight=weight)
        if self.task == "binary":
            target, weight = target.unsqueeze(1), None if weight is None else weight.unsqueeze(1)
            return sigmoid_loss(logits, target, settings, self.ignore_index, tuple(present), weight=weight)
        both = (absent.view(-1, 1, 1), present.view(-1, 1, 1))
        return sigmoid_loss(logits, target, settings, self.ignore_index, both, weight=weight)

    def extra_repr(self) -> str:
        """How many, and of what."""
        return f"{len(self.mix)} losses, task={self.task}, ignore_index={self.ignore_index}"


def _point(loss: nn.Module) -> KernelLoss:
    if isinstance(loss, KernelLoss):
        return loss
    name = getattr(loss, "family", type(loss).__name__)
    raise LossError(
        f"stacked losses must be points of the kernel, got {name}; `sweeper losses` calls the others relative"
    )


def _options(point: KernelLoss) -> dict[str, Any]:
    return {name: getattr(point.settings, name) for name in OPTIONS}
