"""Second derivatives are right for every family × task."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from tests.support.loss_cases import CASES, IGNORE, make, noise

STEP = 1e-5


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Tiny tensors lose time to threads that wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def batch(task):
    """float64 logits, labels with an ignored pixel, and a direction."""
    z, y = noise(task, 3)
    y[..., 0, 0] = IGNORE
    return z.double(), y, torch.randn(z.shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def first(loss, z, *rest):
    z = z.detach().clone().requires_grad_()
    return torch.autograd.grad(loss(z, *rest), z)[0]


def measured(loss, z, along, *rest):
    """Hessian × direction from first derivatives."""
    ahead, behind = (first(loss, z + step * along, *rest) for step in (STEP, -STEP))
    return (ahead - behind) / (2 * STEP)


def close(found, expected):
    assert expected.abs().max() > 1e-6  # there is something to be missed
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6 * expected.abs().max().item())


def bends(family, task):
    """The hinge form of Lovász is a polygon: its second derivative is 0 but for the edges."""
    return (family, task) != ("lovasz", "binary")


@pytest.mark.parametrize(("family", "task"), CASES)
def test_second_derivatives_are_those_of_the_slope(family, task):
    z, y, along = batch(task)
    loss = make(family, task)
    expected = measured(loss, z, along, y)
    found = torch.autograd.functional.hvp(lambda x: loss(x, y), z, along)[1]
    if bends(family, task):
        close(found, expected)
    else:
        assert found.abs().max() < 1e-12 > expected.abs().max() * 1e-6


@pytest.mark.parametrize(("family", "task"), CASES)
def test_second_derivatives_stay_finite(family, task):
    """Also where the answer is certain, or nothing is labelled."""
    loss = make(family, task)
    z, y, along = batch(task)
    for dtype in (torch.float64, torch.float32):
        for level in (0.0, 30.0, 1e4):
            for labels in (y, torch.full_like(y, IGNORE)):
                given = (level * z.sign()).to(dtype)
                _, found = torch.autograd.functional.hvp(lambda x, t=labels: loss(x, t), given, along.to(dtype))
                assert found.isfinite().all(), (dtype, level)
