"""Files of trained weights: safetensors with a record of the network, and a seal. No torch.

The seal is the digest of all other bytes, because torch and safetensors accept files with flipped bits. Files without a
valid seal are refused.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save_file

from sweeper.core.base import Record
from sweeper.core.errors import UsageError, get_cause
from sweeper.core.own_code import UserCode
from sweeper.core.paths import open_regular_file
from sweeper.core.recipe import Precision
from sweeper.core.records import Collapse, OperatingPoint, Task, TrainedOn, TrialSpec

HEADER = "sweeper"
"""Key of the record in the file's metadata."""
SEAL = "sweeper.seal"
"""Key of the digest in the file's metadata."""
BLANK = b"0" * 64
"""Placeholder of the digest in an unsealed file."""
_CHUNK = 1 << 24
_MOST_HEADER = 100_000_000
"""Bytes of safetensors' largest header."""


class WeightsRecord(Record):
    """Record of a file of weights: its training, and the settings that rebuild its network."""

    spec: TrialSpec
    """Spec of the training."""
    digest: str
    """Digest of the data set."""
    model: UserCode | None = None
    """The user's function that builds the network; None = `arch` with `encoder`."""
    arch: str
    encoder: str
    encoder_depth: int
    decoder_channels: tuple[int, ...] | None
    """None = the library's default of this architecture."""
    channels: int
    """Channels of an image."""
    task: Task
    classes: tuple[str, ...]
    full_scale: int
    """Value in the images' files that means 1.0: 255 or 65535."""
    mean: tuple[float, ...]
    """Per channel, of images whose full scale is 1."""
    std: tuple[float, ...]
    point: OperatingPoint
    """Operating point: chosen on this training's validation images; without any, the
    recommended one."""
    log_prior: tuple[float, ...]
    """Log share of each class among the training pixels, for τ."""
    versions: dict[str, str]
    precision: Precision = "float32"
    """Precision of the forward pass in scoring."""
    resized: int | None = None
    """Shorter side in pixels to which larger images were shrunk first; None = native resolution."""
    on: TrainedOn = "train"
    """Training images."""
    collapse: Collapse = Collapse.NONE
    """Collapse of a final training on its held-out images; `none` if there were none."""


def make_metadata(record: WeightsRecord) -> dict[str, str]:
    """Return the metadata of a file that is sealed after writing."""
    return {HEADER: record.model_dump_json(), SEAL: BLANK.decode()}


def seal_file(path: Path) -> None:
    """Seal a file written with `make_metadata`.

    Raises:
        OSError: if the file cannot be written.
    """
    with path.open("r+b") as file:
        place = _find_seal(file)
        digest = _compute_digest(file, place)
        file.seek(place)
        file.write(digest)


def check_weights_file(path: Path) -> Path:
    """Check that a file of weights is unchanged since sweeper wrote it, and return its path.

    Raises:
        UsageError: if it is no file of weights, has no seal, or has changed.
    """
    try:
        with open_regular_file(path) as file:
            place = _find_seal(file)
            digest = _compute_digest(file, place)
            file.seek(place)
            kept = file.read(len(BLANK))
        if digest != kept:
            raise ValueError(
                f"its checksum is {digest[:12].decode()}…, and {kept[:12].decode('ascii', 'replace')}… was written"
            )
    except (OSError, ValueError) as error:
        raise _explain_unfit_file(path, error) from error
    return path


def read_record(path: Path) -> WeightsRecord:
    """Read the record of a file of weights, after `check_weights_file`.

    Raises:
        UsageError: as `check_weights_file`, or if the record is of another version.
    """
    try:
        with safe_open(check_weights_file(path), framework="numpy") as file:
            return WeightsRecord.model_validate_json(file.metadata()[HEADER])
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise _explain_unfit_file(path, error) from error


def copy_with_record(path: Path, record: WeightsRecord, target: Path) -> None:
    """Write the weights of `path` to `target`, with another record in the header.

    Raises:
        UsageError: as `check_weights_file`.
        OSError, SafetensorError: if a file cannot be read or written.
    """
    save_file(load_file(check_weights_file(path)), target, make_metadata(record))
    seal_file(target)


def list_kept_weights(folder: Path) -> Iterator[tuple[Path, WeightsRecord]]:
    """Yield every file of weights in a study's folder, by name.

    Raises:
        UsageError: as `read_record`; a damaged file might be the wanted one.
    """
    for path in sorted(folder.glob("*.safetensors")):
        yield path, read_record(path)


def _find_seal(file: BinaryIO) -> int:
    """Return the seal's offset in bytes, and rewind the file.

    Raises:
        ValueError: if there is no seal.
    """
    length = min(int.from_bytes(file.read(8), "little"), _MOST_HEADER)
    before, match, _ = file.read(length).partition(f'"{SEAL}":"'.encode())
    if not match:
        raise ValueError("it has no checksum: another program wrote it")
    file.seek(0)
    return 8 + len(before) + len(match)


def _explain_unfit_file(path: Path, error: Exception) -> UsageError:
    why = get_cause(error)
    if isinstance(error, OSError):
        why = f"it cannot be read ({error.strerror or error})"
    return UsageError(
        f"the weights {path} must be a file that sweeper wrote, every byte as it was written: "
        f"{why}. Delete it or move it away; `sweeper train STUDY` trains a network, and "
        "`sweeper export STUDY` copies the one that is kept"
    )


def _compute_digest(file: BinaryIO, place: int) -> bytes:
    """Return the digest of all bytes except the seal's."""
    digest = hashlib.blake2b(digest_size=len(BLANK) // 2)
    while part := file.read(min(_CHUNK, place - file.tell())):
        digest.update(part)
    file.seek(len(BLANK), os.SEEK_CUR)
    while part := file.read(_CHUNK):
        digest.update(part)
    return digest.hexdigest().encode()
