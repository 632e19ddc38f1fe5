"""Check the losses on this machine: float32 against float64, for `sweeper doctor`."""

from __future__ import annotations

import torch
from torch import Tensor

from sweeper.core.records import IGNORE
from sweeper.losses.build import build_loss

FAMILIES_CHECKED = ("cross_entropy", "focal", "dice_ce")
MAX_DIFFERENCE = 1e-3
"""Largest acceptable relative difference; a processor has about 1e-6, a GPU with TF32 about 1e-4."""


def measure_float64_differences(device: str) -> dict[str, float]:
    """Compare value and gradient in float32 on a device of torch with float64 on the processor.

    Returns:
        Family → the larger of the two relative differences; NaN if anything is not finite.
    """
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(2, 1, 32, 32, generator=generator, dtype=torch.float64)
    target = torch.randint(0, 2, (2, 32, 32), generator=generator)
    target[:, :4] = IGNORE
    differences = {}
    for family in FAMILIES_CHECKED:
        exact = _compute_value_and_gradient(family, logits, target)
        single = _compute_value_and_gradient(family, logits.to(device, torch.float32), target.to(device))
        pairs = zip(single, exact, strict=True)
        gaps = torch.stack([(one.cpu().double() - other).norm() / other.norm() for one, other in pairs])
        differences[family] = float(gaps.max())
    return differences


def _compute_value_and_gradient(family: str, logits: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
    leaf = logits.clone().requires_grad_()
    value = build_loss(family, task="binary")(leaf, target)
    return value.detach(), torch.autograd.grad(value, leaf)[0]
