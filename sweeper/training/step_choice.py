"""How the steps of a training are taken: recorded as a CUDA graph where that is asked for and can be, else singly."""

from __future__ import annotations

import torch

from sweeper.core.recipe import Recipe
from sweeper.core.records import Conditions, TrialSpec
from sweeper.data.store import PixelStore
from sweeper.training.graph_steps import GraphSteps, cannot_record
from sweeper.training.idle_steps import IdleSteps
from sweeper.training.initial_networks import Starts
from sweeper.training.recordings import record_graph
from sweeper.training.resident_store import ResidentStore
from sweeper.training.training_steps import TrainingSteps


def make_steps(
    spec: TrialSpec,
    conditions: Conditions,
    store: PixelStore,
    images: tuple[int, ...],
    *,
    device: torch.device,
    starts: Starts,
    resident: ResidentStore | None,
    idle: IdleSteps | None = None,
) -> TrainingSteps:
    """The steps of a training by the recipe's engine.

    Args:
        spec, conditions, store, images, device, starts, resident: see `TrainingSteps`.
        idle: recorded steps of this study's trainings that ended; None = they are made anew.

    Raises:
        UsageError: if the recipe insists on recorded steps, and these cannot be.
    """
    given = (spec, conditions, store, images)
    if one_by_one(conditions.recipe, device):
        return TrainingSteps(*given, device=device, starts=starts, resident=resident)
    if (reason := why_not(device)) is not None:
        raise cannot_record(reason)
    if idle is not None and (earlier := idle.take(device)) is not None:
        earlier.renew(spec, images, starts)
        return earlier
    return GraphSteps(*given, device=device, starts=starts, resident=resident, record=record_graph)


def one_by_one(recipe: Recipe, device: torch.device) -> bool:
    """Whether steps are not to be recorded: that was asked for, this is no GPU, or the numbers shall be the same each
    time. Whether there is memory to record depends on what else is there, and recorded steps round otherwise."""
    return recipe.engine == "eager" or (recipe.engine == "auto" and (device.type != "cuda" or recipe.deterministic))


def why_not(device: torch.device) -> str | None:
    """Why this device records no steps, in words; None where that is to be tried."""
    return None if device.type == "cuda" else "there is no NVIDIA GPU"


def slower(reason: str) -> str:
    """What is said, once, where steps that might be recorded are taken one by one."""
    return f"training steps are not recorded as a CUDA graph, and take longer: {reason}"
