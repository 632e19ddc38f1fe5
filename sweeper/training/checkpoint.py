"""Files of paused trainings: tensors and numbers alone, so that nothing in them can be run.

Such a file is torch's own archive, which holds a checksum of each tensor; torch writes them and does not read them.
"""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path
from typing import Any

import torch

from sweeper.core.base import Record
from sweeper.core.errors import CheckpointError
from sweeper.core.records import Conditions, Evaluation, TrainedBy, TrialSpec
from sweeper.system.whole_files import replace_atomically
from sweeper.training.failure_causes import is_process_fault


class Checkpoint(Record):
    """Paused training without its tensors."""

    conditions: str
    """`make_checkpoint_key` of the conditions it was trained under."""
    spec: TrialSpec
    step: int
    evaluations: tuple[Evaluation, ...]
    seconds: float
    """Since it began, pauses left out."""
    training_seconds: float
    averaged: int
    """Updates that the weights' average has taken."""
    device: str
    """Device that trained the last steps before it; as `TrialResult.device`."""
    versions: dict[str, str]
    earlier: tuple[TrainedBy, ...] = ()
    """Device and versions that trained the steps before those."""


def make_checkpoint_key(conditions: Conditions) -> str:
    """Return what a training depends on besides its spec: data, recipe, test split."""
    # One by one or recorded, the steps are the same except for rounding: a worker may have to continue the other way.
    recipe = conditions.recipe.model_copy(update={"engine": "eager"})
    # What is not used is left out, as before it was there; a folder may be elsewhere.
    recipe_key: dict[str, Any] = {
        name: True if getattr(recipe, name) is None else {"folder"} for name in ("model", "own_metric")
    }
    recipe_key |= {name: True for name in ("deterministic", "compiled") if not getattr(recipe, name)}
    defaults = type(recipe).model_fields
    later = ("command", "crops", "input_mean", "input_std")
    recipe_key |= {name: True for name in later if getattr(recipe, name) == defaults[name].default}
    text = f"{conditions.dataset.digest} {recipe.model_dump_json(exclude=recipe_key)} {conditions.seed}"
    return hashlib.sha256(text.encode()).hexdigest()


def save_checkpoint(path: Path, checkpoint: Checkpoint, tensors: dict[str, Any]) -> None:
    """Write a checkpoint whole or not at all.

    Raises:
        OSError: if it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        # RuntimeError: what torch's archive writer makes of a full disk.
        with replace_atomically(path) as part:
            torch.save({"checkpoint": checkpoint.model_dump_json(), **tensors}, part)
    except RuntimeError as error:
        raise OSError(f"the checkpoint {path} could not be written: {error}") from error


def load_checkpoint(
    path: Path, spec: TrialSpec, conditions: Conditions, device: torch.device
) -> tuple[Checkpoint, dict[str, Any]]:
    """Read the checkpoint of this training.

    Raises:
        CheckpointError: if the file cannot be read, is not what was written, or belongs to another training.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if (damaged := archive.testzip()) is not None:
                raise ValueError(f"{damaged} in it is not what was written")
        tensors: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
        checkpoint = Checkpoint.model_validate_json(tensors.pop("checkpoint"))
    except Exception as error:  # torch, pickle, zip and pydantic each have their own
        if is_process_fault(error):  # the file may be sound, and another process can read it
            raise
        raise CheckpointError(f"the checkpoint {path} cannot be read: {error}") from error
    if checkpoint.spec != spec or checkpoint.conditions != make_checkpoint_key(conditions):
        raise CheckpointError(f"the checkpoint {path} is of another training: {checkpoint.spec}, not {spec}")
    return checkpoint, tensors
