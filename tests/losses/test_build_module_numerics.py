"""Numerics of every loss on each device: slopes, ignored pixels, extreme logits, half precision."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.support.loss_cases import CASES, IGNORE, compute_gradient, draw_batch, list_points, make_loss

STEP = 1e-6
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]
KINDS = [
    ("cpu", torch.float32),
    ("cpu", torch.bfloat16),
    *(pytest.param("cuda", t, marks=pytest.mark.cuda) for t in (torch.float32, torch.bfloat16, torch.float16)),
]
"""Devices with the precisions of logits that people train in there."""
HALVES = [kind for kind in KINDS if torch.float32 not in getattr(kind, "values", kind)]


@pytest.fixture(autouse=True)
def fill_uninitialised_memory(device: str) -> None:
    """Make uninitialised memory NaN on a processor; tests/conftest.py restores the setting."""
    torch.use_deterministic_algorithms(device == "cpu")


def list_losses(family: str, task: str) -> dict[str, nn.Module]:
    """Return the losses of a family by the names of their points; their labels are not checked."""
    losses = {name: make_loss(family, task, point) for name, point in list_points(family, task).items()}
    for loss in losses.values():
        loss.checks_labels = False
    return losses


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("family", "task"), CASES)
def test_the_gradient_is_the_slope_of_the_value(family, task, device):
    logits, target = draw_batch(task, size=6)
    logits, target = (2 * logits).double().to(device), target.to(device)
    target[:, 2, :4] = IGNORE
    for name, loss in list_losses(family, task).items():
        _, gradient = compute_gradient(loss, logits, target)
        for seed in range(100, 103):
            direction = draw_batch(task, size=6, seed=seed)[0].double().to(device)
            ahead, behind = (loss(logits + step * direction, target) for step in (STEP, -STEP))
            measured = ((ahead - behind) / (2 * STEP)).item()
            assert (gradient * direction).sum().item() == pytest.approx(measured, rel=1e-5, abs=1e-7), name


@pytest.mark.parametrize(("device", "dtype"), KINDS)
@pytest.mark.parametrize(("family", "task"), CASES)
def test_logits_of_ignored_pixels_do_not_change_the_loss(family, task, device, dtype):
    logits, target = draw_batch(task)
    logits, target = (2 * logits).to(device, dtype), target.to(device)
    target[:, 2:5, 1:] = IGNORE
    ignored = (target == IGNORE).unsqueeze(1)
    for name, loss in list_losses(family, task).items():
        value, gradient = compute_gradient(loss, logits, target)
        assert gradient.any() and not gradient.masked_select(ignored).any(), name
        for junk in (1e4, -1e4, float("inf"), float("-inf"), float("nan")):
            other_value, other_gradient = compute_gradient(loss, logits.masked_fill(ignored, junk), target)
            assert torch.equal(other_value, value) and torch.equal(other_gradient, gradient), (name, junk)


@pytest.mark.parametrize(("device", "dtype"), KINDS)
@pytest.mark.parametrize(("family", "task"), CASES)
def test_a_batch_without_labels_has_loss_0(family, task, device, dtype):
    logits, target = draw_batch(task)
    nothing = torch.full_like(target, IGNORE).to(device)
    for name, loss in list_losses(family, task).items():
        for scale in (2, 1e4):
            value, gradient = compute_gradient(loss, (scale * logits).to(device, dtype), nothing)
            assert value == 0 and not gradient.any(), name


@pytest.mark.parametrize(("device", "dtype"), KINDS)
@pytest.mark.parametrize(("family", "task"), CASES)
def test_extreme_logits_have_finite_losses(family, task, device, dtype):
    logits, mixed = draw_batch(task)
    signs, ones = logits.sign(), torch.ones_like(logits)
    extremes = (1e4 * signs, 30 * signs, 0 * ones, 1e4 * ones, -1e4 * ones)
    half_ignored = mixed.clone()
    half_ignored[:, ::2] = IGNORE
    without_a_class = mixed.clamp(max=1)
    for name, loss in list_losses(family, task).items():
        for extreme in extremes if dtype == torch.float32 else extremes[:1]:
            for target in (half_ignored, without_a_class, 0 * mixed, 0 * mixed + 1):
                value, gradient = compute_gradient(loss, extreme.to(device, dtype), target.to(device))
                assert value.isfinite() and gradient.isfinite().all(), name


@pytest.mark.parametrize(("device", "dtype"), HALVES)
@pytest.mark.parametrize(("family", "task"), CASES)
def test_half_precision_is_computed_in_float32(family, task, device, dtype):
    logits, target = draw_batch(task, size=32)
    logits, target = (2 * logits).to(device, dtype), target.to(device)
    target[:, 3:6, 5:] = IGNORE
    for name, loss in list_losses(family, task).items():
        value, gradient = compute_gradient(loss, logits, target)
        expected, slope = compute_gradient(loss, logits.float(), target)
        assert value.dtype == torch.float32
        assert value.item() == pytest.approx(expected.item(), rel=1e-6, abs=1e-9), name
        # The slope leaves in the type of the logits, and may be subnormal there: compared as a whole.
        assert (gradient.double() - slope.double()).norm() < 0.01 * slope.double().norm(), name
