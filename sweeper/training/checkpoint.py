"""Files of paused trainings: tensors and numbers alone, so that nothing in them can be run.

Such a file is torch's own archive, then 8 bytes that say what it is, then the digest of the archive: torch itself takes
an archive in which single bits turned for what was written.
"""

from __future__ import annotations

import hashlib
import io
import os
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch
from pydantic import Field

from sweeper.core.base import Record
from sweeper.core.errors import CheckpointError
from sweeper.core.records import Conditions, Evaluation, TrainedBy, TrialSpec
from sweeper.training.failure_causes import not_its_own

_SEAL = b"sweeper1"
_DIGEST_BYTES = 32


class _Sealed(io.RawIOBase):
    """Passes on what is written, and knows its digest."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self._digest = file, hashlib.blake2b(digest_size=_DIGEST_BYTES)

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        self._digest.update(data)
        return self._file.write(data)

    def seal(self) -> None:
        self._file.write(_SEAL + self._digest.digest())


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
    recipe = conditions.recipe
    # What is not used is left out, as before it was there; a folder may be elsewhere.
    own: dict[str, Any] = {
        name: True if getattr(recipe, name) is None else {"folder"} for name in ("model", "own_metric")
    }
    own |= {name: True for name in ("deterministic", "compiled") if not getattr(recipe, name)}
    text = f"{conditions.dataset.digest} {recipe.model_dump_json(exclude=own)} {conditions.seed}"
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
        write_sealed(part, {"checkpoint": checkpoint.model_dump_json(), **tensors})
        part.replace(path)
    except RuntimeError as error:
        if not_its_own(error):
            raise
        raise OSError(f"the checkpoint {path} could not be written: {error}") from error
    finally:
        part.unlink(missing_ok=True)


def write_sealed(path: Path, content: dict[str, Any]) -> None:
    """Write torch's archive of the content, and its digest."""
    with path.open("wb") as file:
        sealed = _Sealed(file)
        torch.save(content, cast(BinaryIO, sealed))
        sealed.seal()


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
    archive, seal, digest = (
        whole[: -len(_SEAL) - _DIGEST_BYTES],
        whole[-len(_SEAL) - _DIGEST_BYTES : -_DIGEST_BYTES],
        whole[-_DIGEST_BYTES:],
    )
    if seal != _SEAL:
        raise ValueError("it has no checksum")
    if hashlib.blake2b(archive, digest_size=_DIGEST_BYTES).digest() != digest:
        raise ValueError("it is not what its checksum says")
    return archive
