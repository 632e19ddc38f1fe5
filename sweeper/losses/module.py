"""`build_loss`: a family's name and coordinates → a module to train with."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sweeper.errors import LossError
from sweeper.losses.coordinates import KernelSettings, checked, kernel_settings
from sweeper.losses.families import FAMILIES
from sweeper.losses.kernel import binary_loss, multiclass_loss
from sweeper.records import IGNORE, Task


class KernelLoss(nn.Module):
    """One point of the kernel. `loss(logits, target)` gives a scalar in at least float32.

    Has no parameters and nothing in its state dict; follows the logits to whatever device they are on, so that it need
    not be moved. Works under autocast, `torch.compile` and in a CUDA graph (after one warm-up call), and pickles.
    """

    def __init__(
        self, family: str, task: Task, coordinates: dict[str, float | None], settings: KernelSettings, ignore_index: int
    ) -> None:
        super().__init__()
        self.family = family
        self.task: Task = task
        self.coordinates = coordinates
        self.settings = settings
        self.ignore_index = ignore_index
        self._weights: Tensor | None = None
        if task == "multiclass" and settings.class_weights is not None:
            self._weights = torch.tensor(settings.class_weights, dtype=torch.float32)

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        """Loss of a batch.

        Args:
            logits: (N, 1, H, W) for binary, (N, C, H, W) for multi-class; floating, unbounded.
            target: (N, H, W), integer or bool: class indices, or `ignore_index`. Values are not checked.

        Raises:
            LossError: if shapes or types do not fit.
        """
        _check_call(logits, target, self.task, self.settings)
        if self.task == "binary":
            return binary_loss(logits, target, self.settings, self.ignore_index)
        return multiclass_loss(logits, target, self.settings, self.ignore_index, self._class_weights(logits))

    def _class_weights(self, logits: Tensor) -> Tensor | None:
        """Class weights where the logits are; copied once per device and precision, then kept."""
        dtype = torch.float64 if logits.dtype == torch.float64 else torch.float32
        kept = self._weights
        if kept is not None and (kept.device != logits.device or kept.dtype != dtype):
            # From the exact numbers, so that float64 does not inherit float32's rounding.
            kept = self._weights = torch.tensor(self.settings.class_weights, dtype=dtype, device=logits.device)
        return kept

    def extra_repr(self) -> str:
        """The family and its coordinates."""
        shown = [f"{name}={value:.4g}" for name, value in self.coordinates.items() if value is not None]
        return ", ".join([self.family, f"task={self.task}", *shown, f"ignore_index={self.ignore_index}"])


def _check_call(logits: Tensor, target: Tensor, task: Task, settings: KernelSettings) -> None:
    """Refuse what cannot be right, from shapes and types alone."""
    if logits.ndim != 4 or (logits.shape[1] != 1 if task == "binary" else logits.shape[1] < 2):
        wanted = "(N, 1, H, W)" if task == "binary" else "(N, C, H, W) with C ≥ 2"
        raise LossError(f"{task} logits must have shape {wanted}, got {tuple(logits.shape)}; check the model's output")
    expected = (logits.shape[0], logits.shape[2], logits.shape[3])
    if target.shape != expected:
        raise LossError(
            f"target must have shape (N, H, W) = {tuple(expected)} to go with logits {tuple(logits.shape)}, "
            f"got {tuple(target.shape)}; drop a channel dimension with target.squeeze(1), or resize the logits"
        )
    if not logits.is_floating_point():
        raise LossError(f"logits must be floating point, got {logits.dtype}; give the model's output, not labels")
    if target.is_floating_point() or target.is_complex():
        raise LossError(f"target must be integer class indices, got {target.dtype}; convert it with target.long()")
    weights = settings.class_weights
    if task == "multiclass" and weights is not None and len(weights) != logits.shape[1]:
        raise LossError(
            f"logits must have one channel per class of `class_frequencies` ({len(weights)}), "
            f"got {logits.shape[1]}; build the loss with the frequencies of the model's classes"
        )


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
        class_frequencies: training pixels of each class, as counts or shares, in class order; multi-class only (binary
            does not need them), required where `class_weight_power` or `alpha` is used.
        coordinates: `mix`, `gamma`, `alpha`, `pos_weight`, `class_weight_power`, `fp_weight`, `fn_weight`,
            `overlap_exponent`, as far as the family has them. One that is left out takes the family's default from the
            literature; `alpha=None` turns α off.

    Raises:
        LossError: naming everything that is wrong: family, task, coordinate, value or frequencies.
    """
    values = checked(family, task, coordinates, class_frequencies)
    if (
        isinstance(ignore_index, bool)
        or not isinstance(ignore_index, int)
        or (task == "binary" and ignore_index in (0, 1))
    ):
        raise LossError(
            f"`ignore_index` must be an integer that is no class of a binary task, got {ignore_index!r}; use 255"
        )
    entry = FAMILIES[family]
    if entry.build is not None:
        given = {name: value for name, value in values.items() if value is not None}
        module = entry.build(task=task, ignore_index=ignore_index, class_frequencies=class_frequencies, **given)
        assert isinstance(module, nn.Module)
        return module
    settings = kernel_settings(entry, task, values, class_frequencies)
    return KernelLoss(family, task, values, settings, ignore_index)
