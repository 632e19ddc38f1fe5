"""A loss of the kernel whose numbers are loaded is what the single loss is: value, gradient, program."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from sweeper.core.errors import LossError
from sweeper.core.records import Task
from sweeper.losses import FAMILIES, build_loss, per_pixel
from sweeper.losses.build import KernelLoss
from sweeper.losses.reloadable import ReloadableLoss, structure
from tests.support.loss_cases import CASES, CLASSES, FREQUENCIES, point


def kernel(family: str, task: Task, **coordinates: Any) -> KernelLoss:
    frequencies = FREQUENCIES if task == "multiclass" else None
    loss = build_loss(family, task=task, class_frequencies=frequencies, **coordinates)
    assert isinstance(loss, KernelLoss)
    return loss


def points() -> Iterator[KernelLoss]:
    """All families of the kernel in each task, at two points."""
    for family, task in CASES:
        if FAMILIES[family].relative:
            continue
        yield kernel(family, task, **point(family, task))
        yield kernel(family, task, **point(family, task, 0.6))


def batch(task: Task) -> tuple[Tensor, Tensor]:
    """Logits and labels with pixels under ignore, where the logits are whatever they are."""
    rng = torch.Generator().manual_seed(0)
    channels = 1 if task == "binary" else CLASSES
    shape = (2, 6, 5)
    logits = 3 * torch.randn(2, channels, 6, 5, generator=rng, dtype=torch.float64)
    target = torch.randint(0, 3 if task == "multiclass" else 2, shape, generator=rng)
    target[torch.rand(shape, generator=rng) < 0.2] = 255
    return logits, target


def gradient(value: Tensor, logits: Tensor) -> Tensor:
    (slope,) = torch.autograd.grad(value, logits)
    return slope


def structures() -> list[tuple[Task, list[KernelLoss]]]:
    """All families of the kernel, at two points, by what is computed."""
    found: dict[Hashable, list[KernelLoss]] = defaultdict(list)
    for loss in points():
        found[structure(loss)].append(loss)
    return [(losses[0].task, losses) for losses in found.values()]


@pytest.mark.parametrize(("task", "losses"), structures(), ids=lambda given: given if isinstance(given, str) else "")
def test_each_that_is_loaded_is_what_it_is_alone(task: Task, losses: list[KernelLoss]) -> None:
    """One after the other, in the memory of the first."""
    logits, target = batch(task)
    logits.requires_grad_()
    own = ReloadableLoss(losses[0], dtype=torch.float64)
    places = [buffer.data_ptr() for buffer in own.buffers()]
    for loss in [*losses[1:], losses[0]]:
        own.load(loss)
        found, alone = own(logits, target), loss(logits, target)
        torch.testing.assert_close(found, alone, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(gradient(found, logits), gradient(alone, logits), rtol=1e-10, atol=1e-14)
        assert [buffer.data_ptr() for buffer in own.buffers()] == places
    assert not own.state_dict()


@pytest.mark.parametrize("task", ["binary", "multiclass"])
def test_one_program_serves_all_numbers(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    """Traced once, gradient and all; another point is loaded, and the trace gives that one's value and gradient."""
    monkeypatch.setattr(per_pixel, "readable", lambda _: False)  # as on a device, where nobody waits for a value
    logits, target = batch(task)
    own = ReloadableLoss(kernel("dice_focal", task, mix=0.3, gamma=1.5), dtype=torch.float64)
    names = [name for name, _ in own.named_buffers()]

    def step(z: Tensor, *numbers: Tensor) -> tuple[Tensor, Tensor]:
        z = z.detach().requires_grad_()
        value = torch.func.functional_call(own, dict(zip(names, numbers, strict=True)), (z, target))
        return value, gradient(value, z)

    program = torch.fx.experimental.proxy_tensor.make_fx(step)(logits, *own.buffers())
    for mix, gamma in ((0.6, 0.7), (0.1, 4.0)):
        other = kernel("dice_focal", task, mix=mix, gamma=gamma)
        own.load(other)
        value, slope = program(logits, *own.buffers())
        torch.testing.assert_close(value, other(logits, target), rtol=1e-12, atol=1e-14)
        alone = logits.clone().requires_grad_()
        torch.testing.assert_close(slope, gradient(other(alone, target), alone), rtol=1e-10, atol=1e-14)


def test_what_has_no_influence_is_not_computed_and_is_another_structure() -> None:
    whole = kernel("dice_focal", "binary", mix=0.3, gamma=1.5)
    assert structure(whole) == structure(kernel("dice_focal", "binary", mix=0.9, gamma=0.2))
    for less in (
        kernel("dice_focal", "binary", mix=0.3, gamma=0.0),
        kernel("focal", "binary", gamma=1.5),
        kernel("dice", "binary"),
        kernel("dice_focal", "multiclass", mix=0.3, gamma=1.5),
    ):
        assert structure(less) != structure(whole)
        with pytest.raises(LossError, match="must have the structure"):
            ReloadableLoss(whole).load(less)
    assert [name for name, _ in ReloadableLoss(kernel("dice", "binary")).named_buffers()] == [
        "fp_weight",
        "fn_weight",
    ]


def test_shapes_are_checked() -> None:
    with pytest.raises(LossError, match="logits"):
        ReloadableLoss(kernel("dice", "binary"))(torch.zeros(2, 3, 4, 4), torch.zeros(2, 4, 4, dtype=torch.long))
