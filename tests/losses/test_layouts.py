"""Losses and their gradients do not depend on how the memory of logits and labels is laid out."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from sweeper.core.errors import LossError
from sweeper.losses.certification.layouts import LAYOUTS
from tests.support.loss_cases import CASES, IGNORE, make, noise, value_and_gradient


@pytest.fixture(autouse=True)
def uninitialised_memory_is_nan() -> Iterator[None]:
    """What was left as it came shows, whatever happened to stand there."""
    torch.use_deterministic_algorithms(True)
    assert torch.utils.deterministic.fill_uninitialized_memory
    yield
    torch.use_deterministic_algorithms(False)


def test_layouts_are_no_contiguous_memory():
    z = torch.randn(2, 3, 4, 4)
    for name, layout in LAYOUTS.items():
        assert not layout(z).is_contiguous(), name
        assert torch.equal(layout(z), z) != name.endswith("expanded"), name


@pytest.mark.parametrize(("family", "task"), CASES)
@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_any_layout_gives_the_value_and_the_gradient_of_contiguous_memory(family, task, dtype):
    loss = make(family, task)
    z, y = noise(task)
    y[0, ..., :3] = IGNORE
    z = z.to(dtype)
    # Sums are taken in another order.
    tolerance = {"rtol": 1e-9, "atol": 1e-12} if dtype == torch.float64 else {"rtol": 1e-2, "atol": 1e-6}
    for name, layout in LAYOUTS.items():
        logits, target = layout(z), y.mT.contiguous().mT
        expected, slope = value_and_gradient(loss, logits.contiguous(), target.contiguous())
        leaf = logits.detach().requires_grad_()
        value = loss(leaf, target)
        (gradient,) = torch.autograd.grad(value, leaf)
        torch.testing.assert_close(value.detach(), expected, **tolerance, msg=lambda m, n=name: f"{n}: value: {m}")
        torch.testing.assert_close(gradient, slope, **tolerance, msg=lambda m, n=name: f"{n}: gradient: {m}")


@pytest.mark.parametrize(("family", "task"), CASES)
def test_the_gradient_passes_through_a_transposition_in_the_network(family, task):
    """As in a network that turns images, or works on tokens in the order (W, H)."""
    loss = make(family, task)
    z, y = noise(task)
    _, expected = value_and_gradient(loss, z, y)
    turned = z.mT.contiguous().requires_grad_()
    loss(turned.mT, y).backward()
    torch.testing.assert_close(turned.grad, expected.mT)


def test_what_is_no_batch_of_images_is_refused():
    loss = make("dice", "multiclass")
    with pytest.raises(LossError, match="must have shape"):
        loss(torch.zeros(2, 3), torch.zeros(2, dtype=torch.long))
    with pytest.raises(LossError, match="slices of a volume as images"):
        loss(torch.zeros(2, 3, 4, 4, 4), torch.zeros(2, 4, 4, 4, dtype=torch.long))
