"""Pixel-wise operations: precision, focal factor, boundaries, and the mean over labelled or over hard pixels."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 — torch's own convention

BOUNDARY_RADIUS = 2
"""Pixels: a pixel is near a boundary if a labelled pixel of another class is in the square of this radius."""
ROUNDING = 1e-6
"""0.1 of 30 pixels are 3, whatever the rounding of 0.1 says."""


def cast_to_float32(logits: Tensor) -> Tensor:
    """float16 and bfloat16 as float32; float32 and float64 as they are."""
    return logits.float() if logits.dtype in (torch.float16, torch.bfloat16) else logits


def settle_shapes(logits: Tensor, target: Tensor, channels: int | None) -> tuple[Tensor, Tensor]:
    """Return a batch without the target's axis of one channel; with one channel of logits where two classes have two.

    Args:
        logits: (N, C, H, W); of volumes with D before H.
        target: (N, H, W), or (N, 1, H, W) as libraries of losses have it.
        channels: that logits are to have: 1 = the softmax over two is taken as the sigmoid of their difference.
    """
    if target.ndim == logits.ndim and target.shape[1] == 1:
        target = target[:, 0]
    if channels == 1 and logits.shape[1] == 2:
        logits = cast_to_float32(logits)
        logits = logits[:, 1:] - logits[:, :1]
    return logits, target


def is_readable_now(values: Tensor) -> bool:
    """Return whether values can be read without waiting for a device or breaking a compiled graph."""
    return values.device.type == "cpu" and not torch.compiler.is_compiling()


def scatter_to_classes(like: Tensor, index: Tensor, values: Tensor) -> Tensor:
    """Zeros with `values` at each pixel's class, in their type; `like` (N, C, H, W), index and values (N, 1, H, W)."""
    return torch.zeros_like(like, dtype=values.dtype).scatter_(1, index, values)


def clean_logits(logits: Tensor, labelled: Tensor) -> Tensor:
    """Logits in at least float32, such that what stands under ignore gives 0 when it is multiplied by 0.

    Replacing it by 0 takes as long as half a cross-entropy. On the processor it is only done where something is not
    finite, which one sum shows; elsewhere always.

    Args:
        logits: (N, C, H, W), floating.
        labelled: (N, 1, H, W) bool.
    """
    z = cast_to_float32(logits)
    if is_readable_now(z) and bool(z.detach().sum().isfinite()):
        return z
    return torch.where(labelled, z, 0.0)


def compute_focal_factor(loss: Tensor, gamma: float | Tensor) -> Tensor:
    """(1 − p)^γ from −log p ≥ 0, any shape; γ ≥ 0: one, or one for each.

    log(1 − p) = log(−expm1(log p)); kept off p = 1, where it has no finite slope.
    """
    return torch.exp(gamma * torch.log(-torch.expm1(-loss.clamp(min=torch.finfo(loss.dtype).tiny))))


def is_near_boundary(labels: Tensor, labelled: Tensor) -> Tensor:
    """Return whether a labelled pixel of another class is within `BOUNDARY_RADIUS`, in rows and in columns.

    The largest and the smallest label around differ there, and max-pooling finds both on any device.

    Args:
        labels: (N, H, W) or (N, 1, H, W), integer; whatever stands where `labelled` is False has no influence.
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
    """Sum of the labelled pixels' losses, divided by how many they are; or that of the hardest share of them.

    Args:
        loss: ≥ 0, any shape.
        labelled: bool, the same shape.
        hard_fraction: in (0, 1]; 1 = all pixels.

    Returns:
        Scalar, in the type of `loss`; 0 where nothing is labelled.
    """
    loss = loss * labelled.to(loss.dtype)
    if hard_fraction >= 1:
        return loss.sum() / labelled.sum().clamp(min=1)
    hardest, wanted = select_hardest_share(loss, labelled, hard_fraction)
    chosen = torch.arange(len(hardest), device=loss.device) < wanted
    # Fully ignored batches leave only the −1 of ignored pixels; NaN has to stay.
    return torch.where(chosen & (hardest != -1.0), hardest, 0.0).sum() / wanted.to(loss.dtype)


def select_hardest_share(loss: Tensor, labelled: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Return the largest losses, largest first, and their number k = ⌊share · labelled⌋, at least one.

    Ignored pixels (−1) neither count in k nor stand before labelled ones. There is room for ⌊share · all pixels⌋, so
    that no shape depends on data. With equal losses it is left open which come first.

    Args:
        loss: ≥ 0, any shape.
        labelled: bool, the same shape.
        share: in (0, 1].

    Returns:
        (room,) in the type of `loss`; scalar, int64.
    """
    room = min(max(1, int(share * loss.numel() + ROUNDING)), loss.numel())
    wanted = (labelled.sum().double() * share + ROUNDING).floor().clamp(min=1).long()
    return torch.topk(torch.where(labelled, loss, -1.0).flatten(), room).values, wanted
