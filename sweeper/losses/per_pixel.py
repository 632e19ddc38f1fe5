"""Pixel-wise operations: precision, focal factor, boundaries, and the mean over labelled or hard pixels."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 — torch's own convention

BOUNDARY_RADIUS = 2
"""In pixels: a pixel is near a boundary if the square of this radius has a labelled pixel of another class."""
ROUNDING = 1e-6
"""Added before rounding down, so that 0.1 of 30 pixels are 3."""
SENT = list[tuple[torch.cuda.Event, Tensor]]()
"""Values that were sent from a GPU to the processor and not yet read."""


def cast_to_float32(logits: Tensor) -> Tensor:
    """Convert float16 and bfloat16 to float32; return float32 and float64 unchanged."""
    return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits


def settle_shapes(logits: Tensor, target: Tensor, channels: int | None) -> tuple[Tensor, Tensor]:
    """Remove the target's channel axis, and with `channels` = 1 replace two logits by their difference.

    Args:
        logits: (N, C, H, W); for volumes with D before H.
        target: (N, H, W), or (N, 1, H, W) as in other loss libraries.
        channels: wanted channels of the logits; 1 = the softmax over two becomes the sigmoid of their difference.
    """
    if target.ndim == logits.ndim and target.shape[1] == 1:
        target = target[:, 0]
    if channels == 1 and logits.shape[1] == 2:
        logits = cast_to_float32(logits)
        logits = logits[:, 1:] - logits[:, :1]
    return logits, target


def settle_labels(target: Tensor, classes: int, ignore_index: int, error: type[Exception] = ValueError) -> Tensor:
    """Return labels as int64, and refuse values that are no class: on a GPU one call later, as nothing waits for it.

    Where nothing can be read, as in a compiled or recorded step, such pixels do not count.

    Raises:
        error: if a value is no class.
    """
    labels = target.long()
    given = target if target.is_floating_point() else labels
    wrong = (labels.clamp(0, classes - 1) != given) & (given != ignore_index)
    for low, high in read_ends(torch.where(wrong, given, 0)):
        value = low or high
        if value:
            way = (
                "labels between classes, as of mixing, smoothing or several annotators, cannot be used; train without"
                if value % 1
                else f"give ignore_index={value:g} if it marks pixels that do not count, else number the classes from "
                "0, as (target > 0).long() does for a mask of 0 and 255"
            )
            rule = f"target must be class labels 0 to {classes - 1}, or {ignore_index} for pixels that do not count"
            raise error(f"{rule}, got {value:g}; {way}")
    return torch.where(wrong, ignore_index, labels)


def read_ends(values: Tensor) -> list[list[float]]:
    """Return minimum and maximum on a processor; on a GPU those of earlier calls that have arrived."""
    if torch.compiler.is_compiling() or not values.numel():
        return []
    ends = torch.stack(torch.aminmax(values))
    if ends.device.type == "cpu":
        return [ends.tolist()]
    arrived = list[list[float]]()
    if values.is_cuda and not torch.cuda.is_current_stream_capturing():
        copy = ends.to("cpu", non_blocking=True)
        SENT.append((torch.cuda.current_stream(values.device).record_event(), copy))
        while SENT and SENT[0][0].query():  # type: ignore[no-untyped-call]
            arrived.append(SENT.pop(0)[1].tolist())
    return arrived


def is_readable_now(values: Tensor) -> bool:
    """Return whether values can be read without waiting for a device or breaking a compiled graph."""
    return values.device.type == "cpu" and not torch.compiler.is_compiling()


def scatter_to_classes(like: Tensor, index: Tensor, values: Tensor) -> Tensor:
    """Return `values` at each pixel's class, else 0, in their dtype; `like` (N, C, H, W), others (N, 1, H, W)."""
    return torch.zeros_like(like, dtype=values.dtype).scatter_(1, index, values)


def clean_logits(logits: Tensor, labelled: Tensor) -> Tensor:
    """Return logits in at least float32, finite under ignore so that multiplying by 0 gives 0.

    Replacing ignored logits by 0 takes half as long as a cross-entropy. On the processor they are replaced only if the
    sum of all logits is not finite; elsewhere always.

    Args:
        logits: (N, C, H, W), floating.
        labelled: (N, 1, H, W) bool.
    """
    z = cast_to_float32(logits)
    if is_readable_now(z) and bool(z.detach().sum().isfinite()):
        return z
    return torch.where(labelled, z, 0.0)


def compute_focal_factor(loss: Tensor, gamma: float | Tensor) -> Tensor:
    """Compute (1 − p)^γ from −log p ≥ 0, any shape; γ ≥ 0, a number or one per element.

    log(1 − p) = log(−expm1(log p)); p is kept below 1, where the gradient is not finite.
    """
    return torch.exp(gamma * torch.log(-torch.expm1(-loss.clamp(min=torch.finfo(loss.dtype).tiny))))


def is_near_boundary(labels: Tensor, labelled: Tensor) -> Tensor:
    """Return whether a labelled pixel of another class is within `BOUNDARY_RADIUS` rows and columns.

    There the largest and smallest label of the neighbourhood differ; max-pooling computes both on any device.

    Args:
        labels: (N, H, W) or (N, 1, H, W), integer; values where `labelled` is False have no influence.
        labelled: bool, the same shape.

    Returns:
        bool, the same shape; False where not labelled.
    """
    size = 2 * BOUNDARY_RADIUS + 1
    flat = labels.reshape(-1, 1, *labels.shape[-2:]).float()
    is_labelled = labelled.reshape(flat.shape)
    out = torch.finfo(flat.dtype).min

    def largest_around(values: Tensor) -> Tensor:  # rows first, then columns: 2 × 5 comparisons, not 25
        values = F.max_pool2d(values, (size, 1), 1, (BOUNDARY_RADIUS, 0))
        return F.max_pool2d(values, (1, size), 1, (0, BOUNDARY_RADIUS))

    largest = largest_around(torch.where(is_labelled, flat, out))
    smallest = -largest_around(torch.where(is_labelled, -flat, out))
    return ((largest != smallest) & is_labelled).reshape(labels.shape)


def average_labelled(loss: Tensor, labelled: Tensor, hard_fraction: float = 1.0) -> Tensor:
    """Average the loss over the labelled pixels, or over the hardest share of them.

    Args:
        loss: ≥ 0, any shape.
        labelled: bool, the same shape.
        hard_fraction: in (0, 1]; 1 = all pixels.

    Returns:
        Scalar, in the dtype of `loss`; 0 if no pixel is labelled.
    """
    loss = loss * labelled.to(loss.dtype)
    if hard_fraction >= 1:
        return loss.sum() / labelled.sum().clamp(min=1)
    hardest, wanted = select_hardest_share(loss, labelled, hard_fraction)
    chosen = torch.arange(len(hardest), device=loss.device) < wanted
    # Fully ignored batches have only the −1 of ignored pixels; NaN must not be masked.
    return torch.where(chosen & (hardest != -1.0), hardest, 0.0).sum() / wanted.to(loss.dtype)


def select_hardest_share(loss: Tensor, labelled: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Return the largest losses in descending order, and their number k = ⌊share · labelled⌋, at least one.

    Ignored pixels (−1) do not count in k and come after labelled ones. The result has room for ⌊share · all pixels⌋, so
    that no shape depends on data. The order of equal losses is undefined.

    Args:
        loss: ≥ 0, any shape.
        labelled: bool, the same shape.
        share: in (0, 1].

    Returns:
        (room,) in the dtype of `loss`; scalar, int64.
    """
    room = min(max(1, int(share * loss.numel() + ROUNDING)), loss.numel())
    wanted = (labelled.sum().double() * share + ROUNDING).floor().clamp(min=1).long()
    return torch.topk(torch.where(labelled, loss, -1.0).flatten(), room).values, wanted
