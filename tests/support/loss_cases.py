"""Every family × task of the registry, a generic point of each, and batches to try them on."""

from __future__ import annotations

import torch

from sweeper.core.records import Task
from sweeper.losses import FAMILIES, build_loss

IGNORE = 255
CASES: list[tuple[str, Task]] = [(name, task) for name, family in FAMILIES.items() for task in family.tasks]
CLASSES = 3
FREQUENCIES = (0.6, 0.3, 0.1)
VALUES = {
    "mix": 0.5,
    "gamma": 0.5,  # below 1 is the harder case for slopes
    "alpha": 0.75,
    "pos_weight": 20.0,
    "class_weight_power": 1.0,
    "fn_weight": 0.7,
    "fp_weight": 0.3,
    "overlap_exponent": 0.5,
    "hard_fraction": 0.3,
    "boundary_weight": 4.0,
    "volume_exponent": 1.5,
    "skeleton_weight": 0.4,
    "delta": 0.7,
    "suppression": 0.6,
    "distance_mix": 0.05,
    "prior_odds": 20.0,
    "tau": 0.8,
    "sure_at": 0.7,
    "kept_at_least": 0.2,
    "error_exponent": 1.4,
    "sensitivity_share": 0.3,
    "log_exponent": 0.5,
    "instance_power": 0.7,
    "blob_share": 0.4,
}


COVERED = {
    *("recall_ce", "log_dice", "noise_robust_dice", "sensitivity_specificity", "exponential_logarithmic"),
    *("instance_ce", "blob_dice", "skeleton_recall"),
}
"""Modules of losses whose kind another one covers in a training: of one pixel's −log p_t, and of sums over classes.
Those of maps of the labels are trained in tests/data/test_label_maps.py."""


def point(family: str, task: Task) -> dict[str, float]:
    """A generic point of the family: no coordinate at a neutral value."""
    return {name: VALUES[name] for name in FAMILIES[family].coordinates[task]}


def needed(family: str, task: Task) -> dict[str, float]:
    """Coordinates without a default, because the data must decide them."""
    free = FAMILIES[family].coordinates[task]
    return {n: VALUES[n] for n in ("pos_weight", "prior_odds") if n in free and free[n].default is None}


def make(family: str, task: Task, **given: object) -> torch.nn.Module:
    """The family at its generic point, but for what is given."""
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
