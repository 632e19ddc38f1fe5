"""Losses of the kernel stacked into one are each what they are alone: value, gradient, in any place."""

from __future__ import annotations

import pickle
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from sweeper.core.errors import LossError
from sweeper.losses import FAMILIES, build_loss
from sweeper.losses.build import KernelLoss
from sweeper.losses.stacked import OPTIONS, StackedLoss
from tests.loss_cases import CASES, CLASSES, FREQUENCIES, LossTask, point

OTHER = {"mix": 0.35, "gamma": 1.7, "alpha": 0.8, "pos_weight": 6.5, "class_weight_power": 0.7, "fp_weight": 0.4}
"""Values of a second point, where they are not those of the first."""
TASKS: tuple[LossTask, ...] = ("binary", "multiclass", "multilabel")


def built(family: str, task: LossTask, **coordinates: Any) -> torch.nn.Module:
    return build_loss(family, task=task, class_frequencies=FREQUENCIES if task == "multiclass" else None, **coordinates)


def points() -> Iterator[KernelLoss]:
    """All families of the kernel in each task, at two points."""
    for family, task in CASES:
        if FAMILIES[family].relative:
            continue
        first = point(family, task)
        for coordinates in (first, {name: OTHER.get(name, value) for name, value in first.items()}):
            loss = built(family, task, **coordinates)
            assert isinstance(loss, KernelLoss)
            yield loss


def stacks() -> list[tuple[str, LossTask, list[torch.nn.Module]]]:
    """The points, by the options that stacks share."""
    found: dict[tuple[LossTask, tuple[Any, ...]], list[torch.nn.Module]] = defaultdict(list)
    for loss in points():
        key = tuple(getattr(loss.settings, name) for name in OPTIONS)
        found[loss.task, key].append(loss)
    return [(f"{task}-{n}", task, losses) for n, ((task, _), losses) in enumerate(found.items())]


STACKS = stacks()


def batch(task: LossTask, *more: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits and labels with pixels under ignore, where the logits are whatever they are."""
    rng = torch.Generator().manual_seed(seed)
    channels = 1 if task == "binary" else CLASSES
    shape = (2, CLASSES, 6, 5) if task == "multilabel" else (2, 6, 5)
    logits = 3 * torch.randn(*more, 2, channels, 6, 5, generator=rng, dtype=torch.float64)
    target = torch.randint(0, 3 if task == "multiclass" else 2, shape, generator=rng)
    target[torch.rand(shape, generator=rng) < 0.2] = 255
    return logits, target


def gradient(value: Tensor, logits: Tensor) -> Tensor:
    (slope,) = torch.autograd.grad(value.sum(), logits)
    return slope


def test_all_families_of_the_kernel_are_in_a_stack() -> None:
    """Most of each task in one."""
    families = {name for name, family in FAMILIES.items() if not family.relative}
    stacked = {task: [losses for _, of, losses in STACKS if of == task] for task in TASKS}
    assert {loss.family for of in stacked.values() for losses in of for loss in losses} == families
    assert all(max(map(len, of)) >= 20 for of in stacked.values())


@pytest.mark.parametrize(("task", "losses"), [case[1:] for case in STACKS], ids=[case[0] for case in STACKS])
def test_each_is_what_it_is_alone(task: LossTask, losses: list[torch.nn.Module]) -> None:
    logits, target = batch(task, len(losses))
    logits.requires_grad_()
    weight = torch.rand(target.shape, dtype=torch.float64)
    stacked = StackedLoss(losses, classes=CLASSES, dtype=torch.float64)
    for given in ({}, {"weight": weight}):
        together = stacked(logits, target, **given)
        alone = torch.stack([loss(z, target, **given) for loss, z in zip(losses, logits, strict=True)])
        torch.testing.assert_close(together, alone, rtol=1e-12, atol=1e-14)
        torch.testing.assert_close(gradient(together, logits), gradient(alone, logits), rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("task", TASKS)
def test_a_target_of_each(task: LossTask) -> None:
    losses = [built("dice_ce", task), built("tversky", task)]
    pairs = [batch(task, seed=seed) for seed in (1, 2)]
    stacked = StackedLoss(losses, classes=CLASSES, dtype=torch.float64)
    together = stacked(*(torch.stack(found) for found in zip(*pairs, strict=True)))
    alone = torch.stack([loss(*pair) for loss, pair in zip(losses, pairs, strict=True)])
    torch.testing.assert_close(together, alone)


@pytest.mark.parametrize("task", TASKS)
def test_whatever_stands_under_ignore_is_nothing(task: LossTask) -> None:
    losses = [built("focal", task), built("dice", task)]
    logits, target = batch(task, 2)
    stacked = StackedLoss(losses, classes=CLASSES, dtype=torch.float64)
    expected = stacked(logits, target)
    hidden = (target == 255) if task == "multilabel" else (target == 255).unsqueeze(1)
    for value in (float("nan"), float("inf"), 1e4):
        changed = torch.where(hidden, value, logits).requires_grad_()
        found = stacked(changed, target)
        torch.testing.assert_close(found, expected)
        slope = gradient(found, changed)
        assert slope.isfinite().all() and not slope[hidden.expand_as(slope)].any()


@pytest.mark.parametrize("task", TASKS)
def test_extreme_logits_and_neutral_values_stay_finite(task: LossTask) -> None:
    """Every part is computed even where its weight is 0."""
    losses = [built("cross_entropy", task), built("dice", task), built("focal", task, gamma=0.0)]
    logits, target = batch(task, 3)
    extreme = (1e4 * logits.sign()).requires_grad_()
    stacked = StackedLoss(losses, classes=CLASSES, dtype=torch.float64)
    value = stacked(extreme, target)
    assert value.isfinite().all() and gradient(value, extreme).isfinite().all()


@pytest.mark.parametrize("task", TASKS)
def test_another_loss_is_loaded_into_the_same_memory(task: LossTask) -> None:
    first, second, third = built("cross_entropy", task), built("dice_focal", task), built("focal_tversky", task)
    logits, target = batch(task, 2)
    stacked = StackedLoss([first, second], classes=CLASSES, dtype=torch.float64)
    places = [buffer.data_ptr() for buffer in stacked.buffers()]
    before = stacked(logits, target)
    stacked.load(0, third)
    after = stacked(logits, target)
    assert [buffer.data_ptr() for buffer in stacked.buffers()] == places
    assert after[1] == before[1]
    torch.testing.assert_close(after[0], third(logits[0], target))
    assert not stacked.state_dict()


def test_volumes_low_precision_and_pickles() -> None:
    losses = [built("dice_ce", "multiclass"), built("tversky", "multiclass")]
    stacked = pickle.loads(pickle.dumps(StackedLoss(losses, classes=CLASSES)))
    rng = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 2, CLASSES, 3, 4, 5, generator=rng)
    target = torch.randint(0, CLASSES, (2, 3, 4, 5), generator=rng)
    alone = torch.stack([loss(z, target) for loss, z in zip(losses, logits, strict=True)])
    torch.testing.assert_close(stacked(logits, target), alone)
    found = stacked(logits.bfloat16(), target)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, alone, rtol=2e-2, atol=0)


def test_one_program_for_all_values() -> None:
    """What is compiled or recorded once is right for the loss that is loaded next."""
    losses = [built("cross_entropy", "binary"), built("focal_tversky", "binary")]
    logits, target = batch("binary", 1)
    stacked = StackedLoss(losses[:1], dtype=torch.float64)
    stacked.checks_labels = False  # a program cannot stop for them
    program = torch.fx.experimental.proxy_tensor.make_fx(
        lambda z, y, *numbers: torch.func.functional_call(
            stacked, dict(zip((name for name, _ in stacked.named_buffers()), numbers, strict=True)), (z, y)
        )
    )(logits, target, *stacked.buffers())
    stacked.load(0, losses[1])
    torch.testing.assert_close(program(logits, target, *stacked.buffers())[0], losses[1](logits[0], target))


@pytest.mark.parametrize(
    ("losses", "told"),
    [
        ([], "at least one"),
        ([("lovasz", {})], "points of the kernel, got lovasz"),
        ([("dice", {}), ("dice", {"squared": True})], "`squared` must be the same"),
        ([("dice", {}), ("dice", {"ignore_index": 9})], "`ignore_index` must be the same"),
        ([("dice_ce", {}), ("dice", {"weigh_overlap": True, "class_weights": (1.0, 2.0)})], "`weigh_overlap`|options"),
    ],
)
def test_what_cannot_be_stacked_is_refused(losses: list[tuple[str, dict[str, Any]]], told: str) -> None:
    with pytest.raises(LossError, match=told):
        StackedLoss([build_loss(family, task="binary", **given) for family, given in losses])


def test_shapes_are_refused_with_what_was_found() -> None:
    stacked = StackedLoss([built("dice", "binary")])
    with pytest.raises(LossError, match=r"K = 1 losses and C = 1, got \(2, 1, 4, 4\)"):
        stacked(torch.zeros(2, 1, 4, 4), torch.zeros(2, 4, 4, dtype=torch.int64))
    with pytest.raises(LossError, match=r"target must have shape \(N, H, W\) = \(2, 4, 4\)"):
        stacked(torch.zeros(1, 2, 1, 4, 4), torch.zeros(2, 4, 5, dtype=torch.int64))
    with pytest.raises(LossError, match="target must be integer class indices"):
        stacked(torch.zeros(1, 2, 1, 4, 4), torch.zeros(2, 4, 4))
    with pytest.raises(LossError, match="weight must have the target's shape"):
        stacked(torch.zeros(1, 2, 1, 4, 4), torch.zeros(2, 4, 4, dtype=torch.int64), torch.ones(4, 4))
    with pytest.raises(LossError, match="`classes` must be one number for all losses of a multilabel task, got none"):
        StackedLoss([built("dice", "multilabel")])


def test_what_a_loss_alone_refuses_is_refused_of_many() -> None:
    """A mask of 0 and 7 is no label, and a volume has neighbours that a column of pixels has not."""
    masks = torch.full((2, 4, 4), 7)
    for loss in (built("dice", "binary"), StackedLoss([built("dice", "binary")])):
        logits = torch.zeros(2, 1, 4, 4) if isinstance(loss, KernelLoss) else torch.zeros(1, 2, 1, 4, 4)
        with pytest.raises(LossError, match="labels of a binary target must be 0, 1 or 255"):
            loss(logits, masks)
    near = StackedLoss([built("boundary_ce", "binary", boundary_weight=4.0)])
    with pytest.raises(LossError, match="looks at neighbours"):
        near(torch.zeros(1, 2, 1, 3, 4, 4), torch.zeros(2, 3, 4, 4, dtype=torch.int64))
