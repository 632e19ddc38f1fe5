"""Files of paused trainings: tensors and numbers alone, so that nothing in them can be run.

Such a file is torch's own archive, then 8 bytes that say what it is, then the digest of both (`sweeper.training.seal`).
"""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import torch
from pydantic import Field

from sweeper.core.base import Record
from sweeper.core.errors import CheckpointError
from sweeper.core.records import Conditions, Evaluation, TrainedBy, TrialSpec
from sweeper.system.whole_files import written_whole
from sweeper.training.failure_causes import not_its_own
from sweeper.training.seal import BLANK, check_seal, write_seal

_END = b"sweeper1"


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
    # One by one or recorded, the steps are the same but for rounding: a worker may have to go on the other way.
    recipe = conditions.recipe.model_copy(update={"engine": "eager"})
    # What is not used is left out, as before it was there; a folder may be elsewhere.
    own: dict[str, Any] = {
        name: True if getattr(recipe, name) is None else {"folder"} for name in ("model", "own_metric")
    }
    own |= {name: True for name in ("deterministic", "compiled") if not getattr(recipe, name)}
    own |= {"crops": recipe.crops == "uniform"}
    text = f"{conditions.dataset.digest} {recipe.model_dump_json(exclude=own)} {conditions.seed}"
    return hashlib.sha256(text.encode()).hexdigest()


def save_checkpoint(path: Path, checkpoint: Checkpoint, tensors: dict[str, Any]) -> None:
    """Write a checkpoint whole or not at all.

    Raises:
        OSError: if it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        # RuntimeError: what torch's archive writer makes of a full disk.
        with written_whole(path) as part:
            write_sealed(part, {"checkpoint": checkpoint.model_dump_json(), **tensors})
    except RuntimeError as error:
        if not_its_own(error):
            raise
        raise OSError(f"the checkpoint {path} could not be written: {error}") from error


def write_sealed(path: Path, content: dict[str, Any]) -> None:
    """Write torch's archive of the content, and its seal."""
    with path.open("wb") as file:
        torch.save(content, file)
        file.write(_END + BLANK)
        place = file.tell() - len(BLANK)
    write_seal(path, place)


def load_checkpoint(
    path: Path, spec: TrialSpec, conditions: Conditions, device: torch.device
) -> tuple[Checkpoint, dict[str, Any]]:
    """Read the checkpoint of this training.

    Raises:
        CheckpointError: if the file cannot be read, is not what was written, or belongs to another training.
    """
    try:
        tensors: dict[str, Any] = torch.load(io.BytesIO(_unsealed(path)), map_location=device, weights_only=True)
        checkpoint = Checkpoint.model_validate_json(tensors.pop("checkpoint"))
    except Exception as error:  # torch, pickle, zip and pydantic each have their own
        if not_its_own(error):  # the file may be sound, and another process can read it
            raise
        raise CheckpointError(f"the checkpoint {path} cannot be read: {error}") from error
    if checkpoint.spec != spec or checkpoint.conditions != key_of(conditions):
        raise CheckpointError(f"the checkpoint {path} is of another training: {checkpoint.spec}, not {spec}")
    return checkpoint, tensors


def _unsealed(path: Path) -> bytes:
    """The archive in the file.

    Raises:
        ValueError: if it is not the one that was written there.
    """
    whole = path.read_bytes()
    place = len(whole) - len(BLANK)
    archive, end = whole[: place - len(_END)], whole[place - len(_END) : place]
    if end != _END:
        raise ValueError("it has no checksum")
    check_seal(path, place)
    return archive
