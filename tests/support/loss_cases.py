"""Every family × task with one class for each pixel, points of each, and batches for them."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from sweeper.core.records import Task
from sweeper.losses import FAMILIES, build_loss

IGNORE = 255
CASES: list[tuple[str, Task]] = [
    (name, task) for name, family in FAMILIES.items() for task in family.tasks if task != "multilabel"
]
"""Without those of tests/losses/test_build_multilabel.py."""
CLASSES = 3
FREQUENCIES = (0.3, 0.6, 0.1)
"""The most common class is not the first, so that no loss finds it by its index."""
IMBALANCE = 20.0


def pick_point(family: str, task: Task, share: float = 0.1) -> dict[str, float]:
    """Return the coordinates at this share of each searched range: 0 = its low end, 1 = its high end.

    At a tenth no coordinate is at a neutral value, and exponents are below 1, the harder case for slopes.
    """
    point = {}
    for name, free in FAMILIES[family].coordinates[task].items():
        if free.search is None:
            value = free.start if free.default is None else free.default
            assert value is not None
            point[name] = value
            continue
        low, high = free.search.low, free.search.high
        point[name] = low * (high / low) ** share if free.search.kind == "log" else low + share * (high - low)
        if free.search.kind == "power_of_imbalance":
            point[name] = IMBALANCE ** point[name]
    return point


def pick_required(family: str, task: Task) -> dict[str, float]:
    """Return the coordinates without a default, because the data must decide them."""
    free = FAMILIES[family].coordinates[task]
    names = [n for n, c in free.items() if c.default is None and c.search and c.search.kind == "power_of_imbalance"]
    return dict.fromkeys(names, IMBALANCE)


def list_points(family: str, task: Task) -> dict[str, dict[str, float]]:
    """Return the family's defaults and both ends of its searched ranges, by name."""
    ends = {"low ends": pick_point(family, task, 0.0), "high ends": pick_point(family, task, 1.0)}
    return {"defaults": pick_required(family, task)} | ends


def make_loss(family: str, task: Task, point: dict[str, float] | None = None, **changes: Any) -> nn.Module:
    """Return the family at a point, its generic one unless given; `changes` of what `build_loss` receives."""
    point = pick_point(family, task) if point is None else point
    frequencies = FREQUENCIES if task == "multiclass" else None
    return build_loss(family, task=task, **{"class_frequencies": frequencies, **point, **changes})


def count_channels(task: Task) -> int:
    return 1 if task == "binary" else CLASSES


def draw_batch(task: Task, size: int = 8, seed: int = 3) -> tuple[Tensor, Tensor]:
    """Return float32 logits (2, C, size, size) and labels (2, size, size), none of them ignored."""
    rng = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, count_channels(task), size, size, generator=rng)
    labels = CLASSES if task == "multiclass" else 2
    return logits, torch.randint(0, labels, (2, size, size), generator=rng)


def compute_gradient(loss: nn.Module, logits: Tensor, target: Tensor, **more: Any) -> tuple[Tensor, Tensor]:
    """Return value and gradient; of logits of half precision, as a network under autocast gives them, under autocast.

    `more` goes to the loss.
    """
    leaf = logits.detach().clone().requires_grad_()
    half = logits.dtype in (torch.bfloat16, torch.float16)
    with torch.autocast(logits.device.type, dtype=logits.dtype if half else None, enabled=half):
        value = loss(leaf, target, **more)
    value.backward()
    assert leaf.grad is not None
    return value.detach(), leaf.grad
