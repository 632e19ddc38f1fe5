"""Files of paused trainings: tensors and numbers alone, so that nothing in them can be run."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import Any

import torch
from pydantic import Field

from sweeper.base import Record
from sweeper.errors import CheckpointError
from sweeper.records import Conditions, Evaluation, TrainedBy, TrialSpec
from sweeper.training.causes import not_its_own


class Checkpoint(Record):
    """What a paused training is, besides its tensors."""

    conditions: str
    """`key_of` the conditions it was trained under."""
    spec: TrialSpec
    step: int
    evaluations: tuple[Evaluation, ...]
    seconds: float
    """Since it began, pauses left out."""
    training_seconds: float
    averaged: int
    """Updates that the weights' average has taken."""
    device: str = ""
    """That trained the last steps before it; as `TrialResult.device`."""
    versions: dict[str, str] = Field(default_factory=dict)
    earlier: tuple[TrainedBy, ...] = ()
    """What trained the steps before those."""


def key_of(conditions: Conditions) -> str:
    """What a training depends on besides its spec: data, recipe, test split."""
    text = f"{conditions.dataset.digest} {conditions.recipe.model_dump_json()} {conditions.seed}"
    return hashlib.sha256(text.encode()).hexdigest()


def save_checkpoint(path: Path, checkpoint: Checkpoint, tensors: dict[str, Any]) -> None:
    """Write a checkpoint whole or not at all.

    Raises:
        OSError: if it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        # RuntimeError: what torch's archive writer makes of a full disk.
        torch.save({"checkpoint": checkpoint.model_dump_json(), **tensors}, part)
        part.replace(path)
    except RuntimeError as error:
        if not_its_own(error):
            raise
        raise OSError(f"the checkpoint {path} could not be written: {error}") from error
    finally:
        part.unlink(missing_ok=True)


def load_checkpoint(
    path: Path, spec: TrialSpec, conditions: Conditions, device: torch.device
) -> tuple[Checkpoint, dict[str, Any]]:
    """Read the checkpoint of this training.

    Raises:
        CheckpointError: if the file cannot be read, or belongs to another training.
    """
    try:
        tensors: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
        checkpoint = Checkpoint.model_validate_json(tensors.pop("checkpoint"))
    except Exception as error:  # torch, pickle, zip and pydantic each have their own
        if not_its_own(error):  # the file may be sound, and another process can read it
            raise
        raise CheckpointError(f"the checkpoint {path} cannot be read: {error}") from error
    if checkpoint.spec != spec or checkpoint.conditions != key_of(conditions):
        raise CheckpointError(f"the checkpoint {path} is of another training: {checkpoint.spec}, not {spec}")
    return checkpoint, tensors
