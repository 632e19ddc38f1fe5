"""Paths of the files that trainings leave next to the decoded data: checkpoints of paused ones, and weights."""

from __future__ import annotations

import hashlib
from pathlib import Path

from sweeper.core.paths import make_folder_name, make_slug
from sweeper.core.records import TrialSpec


def get_checkpoints_dir(cache: Path, study: str) -> Path:
    """Return the folder of a study's paused trainings, next to the decoded data."""
    return cache.parent / "checkpoints" / make_folder_name(study)


def get_checkpoint_path(folder: Path, spec: TrialSpec) -> Path:
    """Return the checkpoint of a paused training.

    That of a final training has a hash of its spec, as its number is not unique.
    """
    suffix = f"-{_compute_short_hash(spec.model_dump_json())}" if spec.purpose == "train" else ""
    return folder / f"{spec.purpose}-{spec.number:05d}{suffix}.pt"


def get_weights_dir(cache: Path, study: str) -> Path:
    """Return the folder of the weights that a study keeps, next to the decoded data."""
    return get_weights_dir_of(get_checkpoints_dir(cache, study))


def get_weights_dir_of(checkpoints: Path) -> Path:
    """Return the folder of a study's weights from its `get_checkpoints_dir`."""
    return checkpoints.parent.parent / "weights" / checkpoints.name


def get_weights_path(folder: Path, spec: TrialSpec) -> Path:
    """Return the file of a training's weights."""
    return folder / f"{spec.purpose}-{spec.number:05d}.safetensors"


def get_final_weights_path(folder: Path, spec: TrialSpec, on: str, digest: str) -> Path:
    """Return the file of a final training's weights: one for each configuration, budget, seed, images and data set."""
    digest_of_spec = _compute_short_hash(f"{spec.model_dump_json()} {digest}")
    return folder / f"trained-{make_slug(on)}-{spec.steps}-seed{spec.seed}-{digest_of_spec}.safetensors"


def _compute_short_hash(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:8]
