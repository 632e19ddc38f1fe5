"""Trained weights as a file that explains itself: safetensors with a record of the network, and a seal.

Without the seal over the whole file it is not used. No torch.

The seal is the digest of all other bytes: torch and safetensors both take a file in which single bits turned for what
was written.
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
from sweeper.core.calibration import Calibration, ClassCalibration
from sweeper.core.errors import UsageError
from sweeper.core.own_code import UserCode
from sweeper.core.recipe import Precision
from sweeper.core.records import Collapse, HeldOut, MissControl, Task, TrainedOn, TrialSpec

HEADER = "sweeper"
"""Key of the record in the file's metadata."""
SEAL = "sweeper.seal"
"""Key of the digest there."""
BLANK = b"0" * 64
"""Stands in a file where its digest will be."""
_CHUNK = 1 << 24
_MOST_HEADER = 100_000_000
"""Bytes; safetensors takes no larger header."""


class WeightsRecord(Record):
    """Record of a file of weights: what it belongs to, and what rebuilds its network."""

    spec: TrialSpec
    """The training it comes from."""
    digest: str
    """Digest of the data set."""
    model: UserCode | None = None
    """The user's function that makes the network; None = `arch` with `encoder`."""
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
    """Number in the images' files that stands for 1.0: 255 or 65535."""
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
    """Precision of the forward pass when it was scored."""
    resized: int | None = None
    """Shorter side in pixels that larger images were shrunk to before; None = native resolution."""
    on: TrainedOn = "train"
    """Images that it was trained on."""
    calibration: Calibration | ClassCalibration | None = None
    """Slope and bias that calibrate its probabilities, fitted on this training's validation images; where it had none,
    of two classes the recommended loss's in the study. None = not known. `point` is of probabilities without it."""
    collapse: Collapse = Collapse.NONE
    """Collapse of a final training, on the images that were left out; `none` if there were none."""
    held_out: HeldOut | None = None
    """Its answers on the test images, where a final training left them out."""
    misses: MissControl | None = None
    """Guarantee of `point`, if one was requested."""

    @property
    def describe_point_source(self) -> str:
        """Describe where the operating point comes from."""
        return "chosen on validation images" if self.misses is None else self.misses.promise


def make_metadata(record: WeightsRecord) -> dict[str, str]:
    """Return the metadata of a file that is to be sealed once it is written."""
    return {HEADER: record.model_dump_json(), SEAL: BLANK.decode()}


def seal_file(path: Path) -> None:
    """Seal a file that was written with `make_metadata`.

    Raises:
        OSError: if it cannot be written.
    """
    with path.open("r+b") as file:
        place = _find_seal(file)
        digest = _compute_digest(file, place)
        file.seek(place)
        file.write(digest)


def check_weights_file(path: Path) -> Path:
    """Check that every byte of a file of weights is as sweeper wrote it, and return its path.

    Raises:
        UsageError: if it is no such file, has no seal, or is not what was sealed.
    """
    try:
        with path.open("rb") as file:
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
    """Return the record of a file of weights, after `check_weights_file`.

    Raises:
        UsageError: as `check`, or if the record is of another version.
    """
    try:
        with safe_open(check_weights_file(path), framework="numpy") as file:
            return WeightsRecord.model_validate_json(file.metadata()[HEADER])
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise _explain_unfit_file(path, error) from error


def copy_with_record(path: Path, record: WeightsRecord, target: Path) -> None:
    """Write the weights of `path` to `target`, with another record in the header.

    Raises:
        UsageError: as `check`.
        OSError, SafetensorError: if a file cannot be read or written.
    """
    save_file(load_file(check_weights_file(path)), target, make_metadata(record))
    seal_file(target)


def list_kept_weights(folder: Path) -> Iterator[tuple[Path, WeightsRecord]]:
    """Return every file of weights in a study's folder, by name.

    Raises:
        UsageError: as `read_record`: nobody knows whether a damaged file is the one that is looked for.
    """
    for path in sorted(folder.glob("*.safetensors")):
        yield path, read_record(path)


def _find_seal(file: BinaryIO) -> int:
    """Return the seal's offset in bytes; the file is rewound to its beginning.

    Raises:
        ValueError: if there is none.
    """
    length = min(int.from_bytes(file.read(8), "little"), _MOST_HEADER)
    before, match, _ = file.read(length).partition(f'"{SEAL}":"'.encode())
    if not match:
        raise ValueError("it has no checksum: another program wrote it, or an early version of sweeper")
    file.seek(0)
    return 8 + len(before) + len(match)


def _explain_unfit_file(path: Path, error: Exception) -> UsageError:
    why = f"it cannot be read ({error.strerror or error})" if isinstance(error, OSError) else str(error)
    return UsageError(
        f"the weights {path} must be a file that sweeper wrote, every byte as it was written: "
        f"{' '.join(why.split())[:300]}. Delete it or move it away; `sweeper train STUDY` trains a network, and "
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
