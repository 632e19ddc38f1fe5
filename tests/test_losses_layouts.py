"""Losses and their gradients do not depend on how the memory of logits, labels and weights is laid out."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from sweeper.core.errors import LossError
from sweeper.losses import FAMILIES
from sweeper.losses.certification.layouts import LAYOUTS
from tests.loss_cases import CASES, IGNORE, make, noise, value_and_gradient


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
    w = torch.rand(y.shape, generator=torch.Generator().manual_seed(1)) if loss.takes_weight else None
    z, turned = z.to(dtype), None if w is None else w.mT.contiguous().mT
    # Sums are taken in another order.
    tolerance = {"rtol": 1e-9, "atol": 1e-12} if dtype == torch.float64 else {"rtol": 1e-2, "atol": 1e-6}
    for name, layout in LAYOUTS.items():
        logits, target = layout(z), layout(y) if y.ndim == 4 else y.mT.contiguous().mT
        expected, slope = value_and_gradient(loss, logits.contiguous(), target.contiguous(), weight=w)
        leaf = logits.detach().requires_grad_()
        value = loss(leaf, target, turned)
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


SPACES = [(4, 4, 4), (64,), (2, 4, 2, 4)]
PLANAR = {"boundary_ce", "soft_cldice", "skeleton_recall", "boundary"}


@pytest.mark.parametrize(("family", "task"), CASES)
def test_volumes_and_points_are_pixels_along_other_axes(family, task):
    """Value, gradient and weights; a loss that looks at neighbours says that it takes images alone."""
    loss = make(family, task)
    z, y = noise(task)
    y[0, ..., :3] = IGNORE
    w = torch.rand(y.shape, generator=torch.Generator().manual_seed(1))
    given = [z, y, w] if loss.takes_weight else [z, y]
    expected, slope = value_and_gradient(loss, z, y, **({"weight": w} if loss.takes_weight else {}))
    for space in SPACES:
        turned = [x.flatten(-2).unflatten(-1, space) for x in given]
        if family in PLANAR:
            with pytest.raises(LossError, match="neighbours"):
                loss(*turned)
            continue
        leaf = turned[0].clone().requires_grad_()
        kind = FAMILIES[family].needs_map  # other pixels touch: those of the image are given
        maps = {} if kind is None else {kind: loss.made_map(y).flatten(-2).unflatten(-1, space)}
        value = loss(leaf, *turned[1:], **maps)
        torch.testing.assert_close(value.detach(), expected)
        torch.testing.assert_close(torch.autograd.grad(value, leaf)[0].view_as(slope), slope)


def test_what_has_no_axis_of_space_or_another_one_than_its_labels_is_refused():
    loss = make("dice", "multiclass")
    with pytest.raises(LossError, match="must have shape"):
        loss(torch.zeros(2, 3), torch.zeros(2, dtype=torch.long))
    with pytest.raises(LossError, match=r"target must have shape \(N, H, W\) = \(2, 4, 4, 4\)"):
        loss(torch.zeros(2, 3, 4, 4, 4), torch.zeros(2, 4, 4, dtype=torch.long))
    with pytest.raises(LossError, match="neighbours"):
        make("cross_entropy", "binary", boundary_weight=1.0)(torch.zeros(1, 1, 4, 4, 4), torch.zeros(1, 4, 4, 4).long())


def test_an_image_of_a_volume_counts_as_a_whole():
    """`per_image` of volumes is per volume, as smoothing is."""
    loss = make("dice", "binary", per_image=True)
    z, y = torch.randn(2, 1, 3, 4, 4, dtype=torch.float64), torch.randint(0, 2, (2, 3, 4, 4))
    torch.testing.assert_close(loss(z, y), (loss(z[:1], y[:1]) + loss(z[1:], y[1:])) / 2)
