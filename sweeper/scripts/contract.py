"""The folder of one training by a script: what sweeper writes there, and what the script does, checked when read."""

from __future__ import annotations

import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
from pydantic import Field, FiniteFloat, TypeAdapter, ValidationError

from sweeper.core.base import Record
from sweeper.core.document import Document, format_json
from sweeper.core.errors import ScriptError, UsageError, get_cause
from sweeper.core.paths import open_regular_file, read_bounded
from sweeper.core.records import ImageCounts, Task
from sweeper.core.records.training import BINS, TAUS, THRESHOLDS
from sweeper.scripts.loss_file import make_loss_text

HELPER = Path(__file__).parents[2] / "sweeper_trial.py"
"""Module that the script imports: at the top of a checkout, and of an installation's libraries."""
HELPER_VERSION = 2
MODULES = "python"
"""Folder on the script's path that contains only the helper, as a user's module may be called `loss`."""
TRIAL, LOSS, RESULTS, LOG = "trial.json", "loss.py", "results.jsonl", "log.txt"
ENDED = "ended.json"
"""Record of a training that ended, which is not repeated."""
WRITTEN = (TRIAL, LOSS, RESULTS, LOG, MODULES, "stop", ENDED)
"""What each process of a training begins anew."""
VALIDATED = "validated"
"""Folder of the validation scores of each network, of which the helper takes those of the network that is tested."""
MOST_BYTES = {RESULTS: 2**26, "npz": 2**31}
"""Largest size of results.jsonl, and of the unpacked scores of one split from one rank."""
MOST_PIXELS = 2**40
"""Largest count of pixels in one bin or row of an image."""
Split = Literal["val", "test"]
SPLITS: dict[str, tuple[Split, ...]] = {"search": ("val",)}
"""Splits whose scores a training of some kind must give, if not both."""
What = Literal["logits", "counts", "score", "number"]
"""Kinds of scores, which limit the conclusion: logits allow all, counts one about the script's own rule."""
Count = Annotated[int, Field(ge=0)]


class TrialDocument(Document):
    """Settings of a training: `trial.json` in the folder that the variable SWEEPER_TRIAL names."""

    SCHEMA: ClassVar[str] = "sweeper.trial/1"

    kind: Literal["probe", "search", "confirm"]
    family: str
    """Name of the loss, which is in `loss.py`."""
    params: dict[str, float]
    """Its hyper-parameters."""
    lr_factor: float = 1.0
    """Factor on the script's own learning rate."""
    seed: int
    share: float = 1.0
    """Factor on the script's own length."""
    splits: tuple[Split, ...] = Field(default_factory=lambda fields: SPLITS.get(fields["kind"], ("val", "test")))
    """Splits whose scores are required."""
    fold: int | None = None
    """Number of the fold to leave out for the test; null = the script's own split."""
    resumed: bool = False
    """Whether an earlier process of this training was stopped."""
    calls: int = 4
    """Number of first calls of the loss that are recorded."""
    ends: bool = False
    """Whether the script ends after these calls."""
    class_pixels: tuple[int, ...] | None = None
    """Pixels of each class in the training images, for τ; null = those of the batches so far."""


class EventLine(Record):
    """Fields of all lines of results.jsonl."""

    seconds: FiniteFloat
    """Seconds since `trial()` was called."""


class TrialBegan(EventLine):
    """`trial()` was called."""

    event: Literal["start"]
    version: int
    classes: Annotated[tuple[str, ...], Field(min_length=1, max_length=254)]
    ignore_index: int
    overlap: bool = False
    """Whether a pixel may have several of the classes."""


class LossCall(EventLine):
    """Inputs of one call of the loss."""

    event: Literal["loss"]
    call: int
    target: str
    """Checksum of the labels."""
    logits: tuple[FiniteFloat, FiniteFloat, FiniteFloat] | None
    """Mean, standard deviation and maximum; null where one is not finite."""
    bounded: bool = False
    """Whether all lie within 0 and 1, as after a sigmoid or softmax."""
    volume: bool = False
    """Whether they have an axis D before H."""


class ScriptProgress(EventLine):
    """Progress of a training."""

    calls: Count
    """Number of calls of the loss."""
    pixels: tuple[Count, ...] | None
    """Pixels of each class in these calls, and last those that are ignored; null = not counted."""
    length: FiniteFloat | None
    """The script's own length; null = t.length was not called."""
    labelled: Count | None = None
    """Labelled pixels in these calls; null where classes exclude each other."""
    lone: tuple[Count, ...] = ()
    """Numbers of overlapping classes that are a background, by their name or because they are where no other is."""
    runs: dict[str, Annotated[str, Field(max_length=1000)]] = Field(default_factory=dict)
    """The script's own run in a tracker, by the tracker's name (mlflow, wandb)."""


class EpochDone(ScriptProgress):
    """A number of epochs (or steps) was completed."""

    event: Literal["epoch"]
    done: FiniteFloat


class SplitScored(ScriptProgress):
    """Scores of a split were written, for the n-th time."""

    event: Literal["scores"]
    split: Split
    what: What
    finite: bool
    """Whether all logits were finite."""
    bounded: bool = False
    """Whether all logits lie within 0 and 1, as after a sigmoid or softmax."""
    network: str = ""
    """Checksum of the weights that gave the logits; "" = unknown."""


class ScriptProblem(EventLine):
    """The script gave unusable data."""

    event: Literal["problem"]
    text: str


Event = TrialBegan | LossCall | EpochDone | SplitScored | ScriptProblem
_LINE: TypeAdapter[Event] = TypeAdapter(Annotated[Event, Field(discriminator="event")])


class SplitScores(NamedTuple):
    """Scores of one split, by the names of the images."""

    what: What
    names: tuple[str, ...]
    data: npt.NDArray[Any]
    """logits: (n, 2, 512) of two classes, (n, C, 2, 512) of classes that overlap, else (n, 9, C, 3), as in
    `ImageCounts`; counts: (n, C, 3); else (n,)."""
    sums: npt.NDArray[np.float64]
    """Sums of the absolute logits of each image; else 0."""
    overlap: bool = False
    """Whether a pixel may have several classes."""

    @property
    def label_pixels(self) -> npt.NDArray[np.int64] | None:
        """Pixels of each class in the labels of each image, (n, C), which no network changes; None for other scores."""
        if self.what == "counts":
            return np.asarray(self.data[..., 0] + self.data[..., 2], np.int64)
        if self.what != "logits":
            return None
        labels = _count_labels(self.data)
        return labels[..., 1] if self.overlap else labels

    def make_counts(self, images: Sequence[int] | None = None, labelled: npt.ArrayLike = 0) -> ImageCounts:
        """Return logits or counts at every operating point, by ascending number of the images; None = 0, 1, ….

        Counts are by the script's own rule, the same at every point. Where classes overlap, `labelled` (n,) pixels of
        each image say how many are neither labelled nor predicted as a class.
        """
        images = range(len(self.names)) if images is None else images
        data = _repeat_at_points(self.data, labelled, overlap=self.overlap) if self.what == "counts" else self.data
        is_binary = data.shape[-1] == BINS
        return ImageCounts(
            kind="histogram" if is_binary else "points",
            images=tuple(sorted(images)),
            points=THRESHOLDS if is_binary else TAUS,
            data=data[np.argsort(images)],
        )

    def is_equal(self, other: SplitScores) -> bool:
        """Return whether scores of the same images are equal, in any order."""
        order = [other.names.index(name) for name in self.names]
        return np.array_equal(self.data, other.data[order]) and np.array_equal(self.sums, other.sums[order])


def write_trial_folder(
    folder: Path, trial: TrialDocument, task: Task | None = None, class_frequencies: Sequence[float] | None = None
) -> None:
    """Write a training's folder, which is new, or that of a training that was stopped; a task of None is either.

    Raises:
        LossError: if the loss cannot be built.
    """
    text = make_loss_text(trial.family, trial.params, task, class_frequencies)
    (folder / MODULES).mkdir(parents=True, exist_ok=True)
    (folder / MODULES / HELPER.name).write_bytes(HELPER.read_bytes())
    (folder / LOSS).write_text(text, "utf-8")
    (folder / TRIAL).write_text(format_json(trial.document), "utf-8")


def write_helper(words: Sequence[str]) -> Path:
    """Write the helper into the folder of the script that a command starts, else here; return its path.

    Raises:
        UsageError: if another file of that name exists.
    """
    named = [Path(word) for word in words if word.endswith(".py")]
    script = next(filter(Path.is_file, named), Path("x"))
    path, text = script.parent / HELPER.name, HELPER.read_bytes()
    if path.exists() and path.read_bytes()[:60] != text[:60]:
        raise UsageError(f"{path} is there and is not sweeper's; rename it, or copy {HELPER} yourself")
    path.write_bytes(text)
    return path


def read_events(folder: Path) -> tuple[Event, ...]:
    """Return the lines of results.jsonl without an incomplete last one.

    Raises:
        ScriptError: if a line breaks the contract, or the file is too large.
    """
    path, events = folder / RESULTS, list[Event]()
    try:
        content = read_bounded(path, MOST_BYTES[RESULTS])
    except FileNotFoundError:
        return ()
    except (OSError, ValueError) as error:
        problem = f"must be the lines of sweeper_trial, and is not: {get_cause(error)}; write scores once an epoch"
        raise ScriptError(str(path), [problem]) from error
    for number, line in enumerate(content.splitlines(keepends=True), 1):
        if not line.endswith(b"\n"):
            break
        try:
            events.append(_LINE.validate_json(line))
        except ValidationError as error:
            what = error.errors()[0]
            where = ".".join(map(str, what["loc"])) or "the line"
            rule = f"line {number} must be one of the contract, and {where} is not: {what['msg'][:200]}"
            raise ScriptError(str(path), [f"{rule}; let only sweeper_trial write this file"]) from error
    return tuple(events)


def read_split_scores(folder: Path, split: Split, what: What, classes: int, *, overlap: bool = False) -> SplitScores:
    """Return a split's scores from all ranks.

    Images with the same name are parts of one image, and are summed. A part with the same labels and logits as another
    counts once: ranks may score the same image.

    Raises:
        ScriptError: if a file breaks the contract.
    """
    logits = (2, BINS) if classes == 2 else (len(TAUS), classes, 3)
    image = {"logits": (classes, 2, BINS) if overlap else logits, "counts": (classes, 3)}.get(what, ())
    values_by_name: dict[str, list[tuple[npt.NDArray[Any], float]]] = {}
    for path in [folder / f"{split}.npz", *sorted(folder.glob(f"{split}.[0-9]*.npz"))]:
        for name, row, total in zip(*_read_arrays(path, image), strict=True):
            parts = values_by_name.setdefault(name, [])
            if not any(_is_same(row, total, *other) for other in parts):
                parts.append((row, total))
    twice = [name for name, parts in values_by_name.items() if len(parts) > 1]
    if twice and not image:
        rule = "one rank must give the number for all images, got several"
        if twice[0]:
            rule = f"an image must have one score, got two of {twice[0]!r}"
        raise ScriptError(f"{split} in {folder}", [rule])
    data = np.stack([sum(row for row, _ in parts) for parts in values_by_name.values()])
    return SplitScores(
        what,
        tuple(values_by_name),
        data,
        np.array([sum(total for _, total in parts) for parts in values_by_name.values()]),
        overlap,
    )


def _is_same(row: npt.NDArray[Any], total: float, other: npt.NDArray[Any], total_other: float) -> bool:
    """Return whether two rows are of the same image; rounding may move a few of its pixels to another bin."""
    if not total and not total_other:
        return np.array_equal(row, other)
    is_labelled_alike = np.array_equal(_count_labels(row), _count_labels(other))
    return is_labelled_alike and abs(total - total_other) <= 1e-5 * max(total, total_other)


def _repeat_at_points(counts: npt.NDArray[Any], labelled: npt.ArrayLike, *, overlap: bool) -> npt.NDArray[Any]:
    """Return counts (n, C, 3) as counts of logits that no operating point changes, with the shape of these."""
    if overlap:
        planes = np.zeros((*counts.shape[:2], 2, BINS), counts.dtype)
        planes[..., 1, -1], planes[..., 0, -1], planes[..., 1, 0] = np.moveaxis(counts, -1, 0)
        planes[..., 0, 0] = np.maximum(0, np.reshape(labelled, (-1, 1)) - counts.sum(axis=-1))
        return planes
    if counts.shape[1] != 2:
        return np.repeat(counts[:, None], len(TAUS), axis=1)
    histogram = np.zeros((len(counts), 2, BINS), counts.dtype)  # below or above every threshold
    histogram[:, 0, 0], histogram[:, 0, -1] = counts[:, 0, 0], counts[:, 1, 1]
    histogram[:, 1, 0], histogram[:, 1, -1] = counts[:, 1, 2], counts[:, 1, 0]
    return histogram


def _count_labels(logits: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """Return the pixels of each class in the labels, (…, C), from counts of logits of one image or several."""
    is_binary = logits.shape[-1] == BINS
    return np.asarray(logits.sum(-1) if is_binary else logits[..., 0, :, 0] + logits[..., 0, :, 2], np.int64)


def _read_arrays(path: Path, image: tuple[int, ...]) -> tuple[list[str], npt.NDArray[Any], list[float]]:
    """Return names, data and sums of a file of scores, after checking their shapes and numbers."""
    try:
        with open_regular_file(path) as opened, zipfile.ZipFile(opened) as packed:
            if sum(info.file_size for info in packed.infolist()) > MOST_BYTES["npz"]:
                raise ValueError(f"it has more than {MOST_BYTES['npz']:,} bytes")
            if damaged := packed.testzip():
                raise ValueError(f"{damaged} in it is not what was written")
            opened.seek(0)
            file = np.load(opened, allow_pickle=False)
            names, data = file["names"], file["data"]
            sums = file["sums"] if "sums" in file else np.zeros(len(names))
        is_list = names.dtype.kind == "U" and names.ndim == 1
        is_table = names.size > 0 and (data.shape, sums.shape) == ((*names.shape, *image), names.shape)
        if not is_list or not is_table:
            raise ValueError(
                f"names {names.shape}, data {data.shape} and sums {sums.shape} do not fit {image} an image"
            )
        are_counts = data.dtype == np.int64 and 0 <= data.min() <= data.max() <= MOST_PIXELS
        if image and not are_counts:
            raise ValueError(f"counts must be whole numbers (int64) from 0 to {MOST_PIXELS:,}")
        is_finite = data.dtype.kind in "if" and np.isfinite(data).all()
        if not is_finite or not np.isfinite(sums).all():
            raise ValueError("its numbers must be finite")
    except MemoryError:  # the file may be intact
        raise
    except Exception as error:  # zip, zlib, NumPy and its parser of headers each raise their own
        cause = get_cause(error)
        raise ScriptError(str(path), [f"must be scores as sweeper_trial writes them, and is not: {cause}"]) from error
    return names.tolist(), data, sums.tolist()
