"""What a loss refuses of a batch: shapes and types always, labels in the first batches."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from sweeper.core.errors import LossError
from sweeper.core.records import Task

IMAGES = 4
"""Axes of the logits, (N, C, H, W)."""


def check_batch(logits: object, target: object, task: Task) -> None:
    """Refuse what cannot be right, from shapes and types alone.

    Raises:
        LossError: with the way out.
    """
    if not isinstance(logits, Tensor):
        raise LossError(f"logits must be a tensor, got {_described(logits)}")
    if not isinstance(target, Tensor):
        raise LossError(f"target must be a tensor, got {type(target).__name__}; convert it with torch.as_tensor")
    wanted = "(N, 1, H, W)" if task == "binary" else "(N, C, H, W) with C ≥ 2"
    if logits.ndim != IMAGES or (logits.shape[1] == 1) != (task == "binary"):
        raise LossError(
            f"{task} logits must have shape {wanted}, got {tuple(logits.shape)}; check the model's output, "
            "and give the slices of a volume as images"
        )
    if target.shape == logits.shape and logits.shape[1] > 1:
        raise LossError(
            f"target must have shape (N, H, W) of class indices, got {tuple(target.shape)} like the logits; "
            "give target.argmax(1) if it is one-hot"
        )
    if target.shape != (expected := (logits.shape[0], *logits.shape[2:])):
        raise LossError(
            f"target must have shape (N, H, W) = {tuple(expected)} to go with logits {tuple(logits.shape)}, "
            f"got {tuple(target.shape)}; drop a channel dimension with target.squeeze(1), or resize the logits"
        )
    if not logits.is_floating_point():
        raise LossError(f"logits must be floating point, got {logits.dtype}; give the model's output, not labels")
    if target.is_floating_point() or target.is_complex():
        raise LossError(f"target must be integer class indices, got {target.dtype}; convert it with target.long()")


def _described(output: object) -> str:
    """What a model gave in place of logits, and where they are in it."""
    if isinstance(output, Mapping):
        names = list(output)
        chosen = next((name for name in ("out", "logits") if name in names), names[0] if names else "out")
        return f"a mapping with {', '.join(map(repr, names))}; give output[{chosen!r}]"
    if isinstance(output, (list, tuple)):
        return f"a {type(output).__name__} of {len(output)}; give its last or largest output, or sum a loss of each"
    if hasattr(output, "logits"):
        return f"{type(output).__name__}; give output.logits"
    return f"{type(output).__name__}; give the model's output before any sigmoid or softmax"


def check_labels(target: Tensor, channels: int, task: Task, ignore_index: int) -> tuple[int, bool]:
    """Refuse a label that is no class. Reads values: on a processor alone.

    Args:
        target: integer or bool, shaped as for the loss.
        channels: of the logits.
        task: binary has the labels 0 and 1.
        ignore_index: label of pixels that do not count.

    Returns:
        The largest label (0 where there is none), and whether pixels are ignored.

    Raises:
        LossError: with the label found and the way out.
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
    if target.dtype == torch.int8 and low < 0 and ignore_index > torch.iinfo(torch.int8).max:
        way = (
            f"int8 cannot hold {ignore_index}, which becomes {ignore_index - 256} in it; convert masks to uint8 or long"
        )
    elif classes == 2 and high == 255:
        way = "a mask of 0 and 255 becomes labels with (target > 0).long()"
    elif wrong in (-1, -100, 255):
        way = f"build the loss with ignore_index={wrong} if that is the label of pixels that do not count"
    else:
        way = "check the masks against the model's classes; labels begin at 0"
    allowed = "0, 1" if classes == 2 else f"0 … {classes - 1}"
    raise LossError(f"labels of a {task} target must be {allowed} or {ignore_index} (no label), got {wrong}; {way}")
