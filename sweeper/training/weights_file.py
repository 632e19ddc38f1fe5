"""Trained weights as a file that explains itself: safetensors with a record of the network in its header. No torch."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save_file

from sweeper.core.base import Record
from sweeper.core.own_code import OwnCode
from sweeper.core.recipe import Precision
from sweeper.core.records import Collapse, Task, TrainedOn, TrialSpec

HEADER = "sweeper"
"""Key of the record in the file's metadata."""


class WeightsRecord(Record):
    """What a file of weights belongs to, and what rebuilds its network."""

    spec: TrialSpec
    """The training it comes from."""
    digest: str
    """Of the data set."""
    model: OwnCode | None = None
    """The user's function that makes the network; None = `arch` with `encoder`."""
    arch: str
    encoder: str
    encoder_depth: int
    decoder_channels: tuple[int, ...] | None
    """None = the library's default of this architecture."""
    channels: int
    """Of an image."""
    task: Task
    classes: tuple[str, ...]
    full_scale: int
    """What 1.0 stands for in the images' files: 255 or 65535."""
    mean: tuple[float, ...]
    """Per channel, of images whose full scale is 1."""
    std: tuple[float, ...]
    point: float
    """Operating point, a threshold (binary) or τ: chosen on this training's validation images; the recommended one
    where it had none."""
    log_prior: tuple[float, ...]
    """Log share of each class among the training pixels, for τ."""
    versions: dict[str, str]
    precision: Precision = "float32"
    """Of the forward pass when it was scored."""
    resized: int | None = None
    """Shorter side in pixels that larger images were shrunk to before; None = native resolution."""
    on: TrainedOn = "train"
    """What it was trained on."""
    collapse: Collapse = Collapse.NONE
    """Of a final training, on the images that were left out; `none` where there were none."""


def read_record(path: Path) -> WeightsRecord | None:
    """The record of a file of weights; None where it is none of sweeper's, or damaged."""
    try:
        with safe_open(path, framework="numpy") as file:
            return WeightsRecord.model_validate_json(file.metadata()[HEADER])
    except (SafetensorError, OSError, KeyError, TypeError, ValueError):
        return None


def copy_with_record(path: Path, record: WeightsRecord, target: Path) -> None:
    """Write the weights of `path` to `target`, with another record in the header.

    Raises:
        OSError, SafetensorError: if a file cannot be read or written.
    """
    save_file(load_file(path), target, {HEADER: record.model_dump_json()})


def kept_weights(folder: Path) -> Iterator[tuple[Path, WeightsRecord]]:
    """Every readable file of weights in a study's folder, by name."""
    for path in sorted(folder.glob("*.safetensors")):
        if (record := read_record(path)) is not None:
            yield path, record
