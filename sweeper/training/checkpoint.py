"""Files of paused trainings: only tensors and numbers, no code that loading could run.

A file is torch's own archive, with a checksum of each tensor; torch writes the checksums but does not verify them.
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
    """`make_checkpoint_key` of the training's conditions."""
    spec: TrialSpec
    step: int
    evaluations: tuple[Evaluation, ...]
    seconds: float
    """Elapsed seconds since the start, without pauses."""
    training_seconds: float
    averaged: int
    """Number of updates of the weights' average."""
    device: str
    """Device of the last steps before the checkpoint, as in `TrialResult.device`."""
    versions: dict[str, str]
    earlier: tuple[TrainedBy, ...] = ()
    """Device and versions of the steps before those, if different."""


def make_checkpoint_key(conditions: Conditions) -> str:
    """Return a key of what a training depends on besides its spec: data, recipe, test split."""
    # Defaults are left out, so that a new field does not change the keys of older versions; a folder may have moved.
    # Eager and recorded steps differ only in rounding, and a worker may have to continue with the other engine.
    others: Any = {"engine": True, "model": {"folder"}, "own_metric": {"folder"}}
    recipe = conditions.recipe.model_dump_json(exclude_defaults=True, exclude=others)
    text = f"{conditions.dataset.digest} {recipe} {conditions.seed}"
    return hashlib.sha256(text.encode()).hexdigest()


def save_checkpoint(path: Path, checkpoint: Checkpoint, tensors: dict[str, Any]) -> None:
    """Write a checkpoint atomically.

    Raises:
        OSError: if it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        # torch's archive writer raises RuntimeError on a full disk.
        with replace_atomically(path) as part:
            torch.save({"checkpoint": checkpoint.model_dump_json(), **tensors}, part)
    except RuntimeError as error:
        raise OSError(f"the checkpoint {path} could not be written: {error}") from error


def load_checkpoint(
    path: Path, spec: TrialSpec, conditions: Conditions, device: torch.device
) -> tuple[Checkpoint, dict[str, Any]]:
    """Read the checkpoint of this training.

    Raises:
        CheckpointError: if the file cannot be read, is damaged, or belongs to another training.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            if (damaged := archive.testzip()) is not None:
                raise ValueError(f"{damaged} in it is not what was written")
        tensors: dict[str, Any] = torch.load(path, map_location=device, weights_only=True)
        checkpoint = Checkpoint.model_validate_json(tensors.pop("checkpoint"))
    except Exception as error:  # torch, pickle, zip and pydantic each raise their own
        if is_process_fault(error):  # the file may be intact, and readable for another process
            raise
        raise CheckpointError(f"the checkpoint {path} cannot be read: {error}") from error
    if checkpoint.spec != spec or checkpoint.conditions != make_checkpoint_key(conditions):
        raise CheckpointError(f"the checkpoint {path} is of another training: {checkpoint.spec}, not {spec}")
    return checkpoint, tensors
