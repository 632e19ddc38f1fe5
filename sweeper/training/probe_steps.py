"""Training steps that are tried before the first training: by what they cost, and whether they can be taken at all."""

from __future__ import annotations

from contextlib import suppress

import torch

from sweeper.core.records import TrialSpec
from sweeper.data.folds import get_split
from sweeper.training.graph_steps import choose_steps_class
from sweeper.training.job import WorkerContext
from sweeper.training.training_steps import TrainingSteps


def make_probe_steps(context: WorkerContext, steps: int, seed: int | None = None) -> TrainingSteps:
    """Return the steps of a training with the study's network, batch, crop and engine, and cross-entropy.

    Args:
        context: of the worker.
        steps: that the training may take.
        seed: of the training; None = the study's.
    """
    conditions = context.conditions
    seed = conditions.seed if seed is None else seed
    spec = TrialSpec(purpose="search", number=0, family="cross_entropy", params={}, lr=1e-3, seed=seed, steps=steps)
    device = torch.device(context.device)
    return choose_steps_class(conditions.recipe.engine, device)(
        spec,
        conditions,
        context.store,
        get_split(conditions, spec.seed, spec.fold).train,
        device=device,
        resident=context.resident,
    )


def warm_up_device(context: WorkerContext) -> None:
    """Take two steps that nobody wants: what a GPU's libraries do first, for ten seconds, is no training's time.

    What goes wrong here goes wrong in the trainings, which say so.
    """
    with suppress(Exception):
        make_probe_steps(context, steps=4).take_steps(0, 2)
