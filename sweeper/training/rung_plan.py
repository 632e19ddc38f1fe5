"""What recorded steps of a rung need beside the network, drawn up before it: crops and draws, learning rates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Self

import torch
from torch import Tensor

from sweeper.core.recipe import Recipe
from sweeper.core.records import TrialSpec
from sweeper.data.store import PixelStore
from sweeper.training.batches import crops
from sweeper.training.model import WeightAverage
from sweeper.training.resident_store import as_tensor
from sweeper.training.training_steps import schedule


class _Plan:
    """Tensors whose first dimension is the step's place in the rung."""

    def fill(self, other: Self) -> None:
        """Take another plan's values, of no more steps."""
        for name, values in vars(other).items():
            getattr(self, name)[: len(values)].copy_(values)


@dataclass(frozen=True)
class CropPlan(_Plan):
    """Which crops, and how they are augmented, of S steps."""

    places: Tensor
    """(S, N, 5) int64."""
    flip: Tensor
    """(S, N) bool."""
    light: Tensor
    """(S, 2, N) float32: contrast, brightness."""

    @classmethod
    def empty(cls, steps: int, batch: int, device: torch.device) -> CropPlan:
        """Room for so many steps."""
        return cls(
            torch.zeros((steps, batch, 5), dtype=torch.int64, device=device),
            torch.zeros((steps, batch), dtype=torch.bool, device=device),
            torch.zeros((steps, 2, batch), device=device),
        )


@dataclass(frozen=True)
class RatePlan(_Plan):
    """How far S steps go."""

    rates: Tensor
    """(S,) float32: learning rates."""
    weights: Tensor
    """(S,) float32: of the new weights in the average."""

    @classmethod
    def empty(cls, steps: int, device: torch.device) -> RatePlan:
        """Room for so many steps."""
        return cls(torch.zeros(steps, device=device), torch.zeros(steps, device=device))


def longest_rung(recipe: Recipe, steps: int) -> int:
    """Steps of the longest rung of a training of so many."""
    return max(last - first for first, last in pairwise((0, *recipe.rungs(steps))))


def plan_crops(
    spec: TrialSpec,
    recipe: Recipe,
    store: PixelStore,
    images: tuple[int, ...],
    steps: range,
    *,
    central: Sequence[Sequence[int]] | None,
) -> CropPlan:
    """The crops of these steps of a training, on the processor; of augmentation what is light.

    `central`: as for `crops`.
    """
    places, draws = [], []
    for step in steps:
        found, drawn = crops(
            store,
            images,
            size=recipe.size,
            batch_size=recipe.batch_size,
            step=step,
            seed=spec.seed,
            augmentation=recipe.augmentation,
            central=central,
        )
        places.append(as_tensor(found))
        draws.append(drawn)
    store.forget()  # balanced crops read labels
    return CropPlan(
        torch.stack(places),
        torch.stack([drawn.flip for drawn in draws]),
        torch.stack([torch.stack([drawn.contrast, drawn.brightness]) for drawn in draws]),
    )


def plan_rates(spec: TrialSpec, recipe: Recipe, average: WeightAverage, steps: range) -> RatePlan:
    """The rates of these steps of a training, on the processor; `average` as it is before them."""
    factors = [schedule(step, spec.steps, recipe.warmup, recipe.decay) for step in steps]
    done = average.updates
    return RatePlan(
        torch.tensor([spec.lr * factor for factor in factors]),
        torch.tensor([average.weight(done + k) for k in range(len(steps))]),
    )
