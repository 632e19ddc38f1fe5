"""Every family × task of the registry, a generic point of each, and batches to try them on."""

from __future__ import annotations

import torch

from sweeper.core.records import Task
from sweeper.losses import FAMILIES, build_loss

IGNORE = 255
CASES: list[tuple[str, Task]] = [(name, task) for name, family in FAMILIES.items() for task in family.tasks]
CLASSES = 3
FREQUENCIES = (0.6, 0.3, 0.1)
IMBALANCE = 20.0


def _covered() -> set[str]:
    """Families of which an earlier one has the same module."""
    relatives = [family for family in FAMILIES.values() if family.relative]
    first = {family.module: family.name for family in reversed(relatives)}
    return {f.name for f in relatives if first[f.module] != f.name}


COVERED = _covered()
"""Families whose kind another one covers in a training."""


def point(family: str, task: Task, share: float = 0.1) -> dict[str, float]:
    """Return a point of the family that far into each range, so that no coordinate is at a neutral value.

    A tenth: exponents below 1 are the harder case for slopes.
    """
    found = {}
    for name, free in FAMILIES[family].coordinates[task].items():
        if free.search is None:
            value = free.start if free.default is None else free.default
            assert value is not None
            found[name] = value
            continue
        low, high = free.search.low, free.search.high
        found[name] = low * (high / low) ** share if free.search.kind == "log" else low + share * (high - low)
        if free.search.kind == "power_of_imbalance":
            found[name] = IMBALANCE ** found[name]
    return found


def needed(family: str, task: Task) -> dict[str, float]:
    """Coordinates without a default, because the data must decide them."""
    free = FAMILIES[family].coordinates[task]
    left = [n for n, c in free.items() if c.default is None and c.search and c.search.kind == "power_of_imbalance"]
    return dict.fromkeys(left, IMBALANCE)


def make(family: str, task: Task, **given: object) -> torch.nn.Module:
    """Return the family at its generic point, except for what is given."""
    frequencies = FREQUENCIES if task == "multiclass" else None
    return build_loss(family, task=task, class_frequencies=frequencies, **{**point(family, task), **given})


def channels(task: Task) -> int:
    return 1 if task == "binary" else CLASSES


def noise(task: Task, size: int = 8, seed: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    """float32 logits and labels without ignored pixels."""
    rng = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, channels(task), size, size, generator=rng)
    labels = CLASSES if task == "multiclass" else 2
    return logits, torch.randint(0, labels, (2, size, size), generator=rng)


def right_logits(task: Task, target: torch.Tensor, strength: float) -> torch.Tensor:
    """Logits that say what the target says; ignored pixels count as class 0."""
    known = torch.where(target == IGNORE, 0, target)
    right = torch.nn.functional.one_hot(known, 2 if task == "binary" else CLASSES).movedim(-1, 1).float()
    signs = 2 * right - 1
    return strength * (signs[:, 1:] if task == "binary" else signs)


def value_and_gradient(loss, logits, target, **more):
    logits = logits.detach().clone().requires_grad_()
    value = loss(logits, target, **more)
    value.backward()
    return value.detach(), logits.grad
