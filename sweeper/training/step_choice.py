"""How the steps of a training are taken: recorded as a CUDA graph where that is asked for and can be, else singly."""

from __future__ import annotations

import torch

from sweeper.core.recipe import Recipe
from sweeper.core.records import Conditions, TrialSpec
from sweeper.data.store import PixelStore
from sweeper.losses import FAMILIES
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
) -> tuple[TrainingSteps, str | None]:
    """The steps of a training by the recipe's engine, and why they are not recorded.

    Args:
        spec, conditions, store, images, device, starts, resident: see `TrainingSteps`.
        idle: recorded steps of this study's trainings that ended; None = they are made anew.

    Raises:
        UsageError: if the recipe insists on recorded steps, and these cannot be.
    """
    recipe = conditions.recipe
    given = (spec, conditions, store, images)
    if one_by_one(recipe, device):
        return TrainingSteps(*given, device=device, starts=starts, resident=resident), None
    maps = FAMILIES[spec.family].needs_map is not None
    reason = why_not(recipe, device=device, resident=resident is not None, maps=maps)
    if reason is None and resident is not None:
        if idle is not None and (earlier := idle.take(device)) is not None:
            earlier.renew(spec, images, starts)
            return earlier, None
        return GraphSteps(*given, device=device, starts=starts, resident=resident, record=record_graph), None
    if idle is not None:  # what lies idle, on any stream, was recorded: its memory is needed
        idle.clear()
    if recipe.engine == "graph":
        raise cannot_record(str(reason))
    return TrainingSteps(*given, device=device, starts=starts, resident=resident), reason


def one_by_one(recipe: Recipe, device: torch.device) -> bool:
    """Whether steps are not to be recorded: that was asked for, this is no GPU, or the numbers shall be the same each
    time. Whether there is memory to record depends on what else is there, and recorded steps round otherwise."""
    return recipe.engine == "eager" or (recipe.engine == "auto" and (device.type != "cuda" or recipe.deterministic))


def why_not(recipe: Recipe, *, device: torch.device, resident: bool, maps: bool) -> str | None:
    """Why the steps of a training cannot be recorded, in words; None where that is to be tried."""
    if device.type != "cuda":
        return "there is no NVIDIA GPU"
    if not resident:
        return "the images take more than a quarter of the GPU's free memory"
    if recipe.augmentation == "full":
        return "the noise of full augmentation is drawn step by step"
    if maps:
        return "the loss needs maps of the labels, which lie in the processor's memory"
    return None
