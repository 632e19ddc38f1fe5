"""Second derivatives and torch.func: right for every family × task, by whatever way they are asked for."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import pytest
import torch
from torch.autograd import forward_ad
from torch.func import grad, jvp, vmap

from sweeper.core.errors import LossError
from sweeper.losses import FAMILIES, build_loss
from sweeper.losses.map_losses import made_map
from tests.support.loss_cases import CASES, IGNORE, channels, make, noise

# torch's own forward mode still uses what it deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.script.*:DeprecationWarning")
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


def with_map(family, task, y):
    """The loss, with the map of these labels where it wants one: inside torch.func it cannot be made."""
    loss, kind = make(family, task), FAMILIES[family].needs_map
    if kind is None:
        return loss
    return partial(loss, **{kind: made_map(kind, y, task, channels(task), IGNORE)})


def bends(family, task):
    """The hinge form of Lovász is a polygon: its second derivative is 0 but for the edges."""
    return (family, task) != ("lovasz", "binary")


@pytest.mark.parametrize(("family", "task"), CASES)
def test_second_derivatives_are_those_of_the_slope(family, task):
    z, y, along = batch(task)
    loss = with_map(family, task, y)

    def value(x):
        return loss(x, y)

    expected = measured(loss, z, along, y)
    found = [
        torch.autograd.functional.hvp(value, z, along)[1],
        (torch.autograd.functional.hessian(value, z).reshape(z.numel(), -1) @ along.flatten()).view_as(z),
        jvp(grad(value), (z,), (along,))[1],
    ]
    for each in found:
        if bends(family, task):
            close(each, expected)
        else:
            assert each.abs().max() < 1e-12 > expected.abs().max() * 1e-6


@pytest.mark.parametrize(("family", "task"), CASES)
def test_forward_derivatives_are_the_slope_along_a_direction(family, task):
    z, y, along = batch(task)
    loss = with_map(family, task, y)
    expected = (first(loss, z, y) * along).sum()
    with forward_ad.dual_level():
        value = loss(forward_ad.make_dual(z, along), y)
        torch.testing.assert_close(forward_ad.unpack_dual(value).tangent, expected)
    torch.testing.assert_close(jvp(lambda x: loss(x, y), (z,), (along,))[1], expected)


@pytest.mark.parametrize(("family", "task"), CASES)
def test_vmap_gives_each_image_its_value_and_gradient(family, task):
    """Per-sample gradients; also where only logits or only labels are many. Maps of the labels have to be given."""
    loss = make(family, task)
    z, y, _ = batch(task)
    kind = FAMILIES[family].needs_map
    many = (z, y, *([] if kind is None else [made_map(kind, y, task, channels(task), IGNORE)]))

    def one(image, labels, *maps):
        more = dict(zip([kind], [label_map.unsqueeze(0) for label_map in maps], strict=False))
        return loss(image.unsqueeze(0), labels.unsqueeze(0), **more)

    for chosen in ([0, 1], [0], [1]):
        dims = tuple(0 if min(i, 1) in chosen else None for i in range(len(many)))
        given = [x if d == 0 else x[0] for x, d in zip(many, dims, strict=True)]
        singles = [[x[i] if d == 0 else x for x, d in zip(given, dims, strict=True)] for i in range(len(z))]
        torch.testing.assert_close(vmap(one, dims)(*given), torch.stack([one(*single) for single in singles]))
        slopes = torch.stack([first(one, *single) for single in singles])
        torch.testing.assert_close(vmap(grad(one), dims)(*given), slopes)
    (batched,) = torch.autograd.functional.jacobian(lambda x: loss(x, y), (z,), vectorize=True)
    torch.testing.assert_close(batched, first(loss, z, y))


def test_what_a_transformation_made_is_not_kept():
    """Class weights of a new precision are first needed inside a transformation, and again after it."""
    z, y, _ = batch("multiclass")
    loss = build_loss("weighted_ce", task="multiclass", class_frequencies=(6, 3, 1))
    inside = grad(lambda x: loss(x, y))(z)
    torch.testing.assert_close(first(loss, z, y), inside)
    assert loss(z, y).isfinite()


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


def test_inside_a_transformation_a_map_has_to_be_given():
    z, y, _ = batch("binary")
    with pytest.raises(LossError, match=r"inside torch.func this loss needs `sizes=…`"):
        grad(lambda x: make("instance_ce", "binary")(x, y))(z)
