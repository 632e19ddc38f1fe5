"""What the steps of a rung need beside the network, drawn up before it: crops, draws, learning rates."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from sweeper.core.recipe import Recipe
from sweeper.core.records import TrialSpec
from sweeper.data.store import PixelStore
from sweeper.training.batches import crops
from sweeper.training.model import WeightAverage
from sweeper.training.resident_store import as_tensor
from sweeper.training.training_steps import schedule


@dataclass(frozen=True)
class RungPlan:
    """Of S steps, by their place in the rung."""

    places: Tensor
    """(S, N, 5) int64."""
    flip: Tensor
    """(S, N) bool."""
    light: Tensor
    """(S, 2, N) float32: contrast, brightness."""
    rates: Tensor
    """(S,) float32."""
    weights: Tensor
    """(S,) float32: of the new weights in the average."""

    @classmethod
    def empty(cls, steps: int, batch: int, device: torch.device) -> RungPlan:
        """Room for so many steps."""
        return cls(
            torch.zeros((steps, batch, 5), dtype=torch.int64, device=device),
            torch.zeros((steps, batch), dtype=torch.bool, device=device),
            torch.zeros((steps, 2, batch), device=device),
            torch.zeros(steps, device=device),
            torch.zeros(steps, device=device),
        )

    def fill(self, other: RungPlan) -> None:
        """Take another plan's values, of no more steps."""
        for name, values in vars(other).items():
            getattr(self, name)[: len(values)].copy_(values)


def longest_rung(recipe: Recipe, steps: int) -> int:
    """Steps of the longest rung of a training of so many."""
    return max(last - first for first, last in pairwise((0, *recipe.rungs(steps))))


def plan_rung(
    spec: TrialSpec,
    recipe: Recipe,
    store: PixelStore,
    images: tuple[int, ...],
    *,
    average: WeightAverage,
    steps: range,
) -> RungPlan:
    """The plan of these steps of a training, on the processor; `average` as it is before them."""
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
        )
        places.append(as_tensor(found))
        draws.append(drawn)
    factors = [schedule(step, spec.steps, recipe.warmup, recipe.decay) for step in steps]
    done = average.updates
    return RungPlan(
        torch.stack(places),
        torch.stack([drawn.flip for drawn in draws]),
        torch.stack([torch.stack([drawn.contrast, drawn.brightness]) for drawn in draws]),
        torch.tensor([spec.lr * factor for factor in factors]),
        torch.tensor([average.weight(done + k) for k in range(len(steps))]),
    )
