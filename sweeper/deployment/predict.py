"""`sweeper predict`: make masks and overlays of new images with a study's recommended network."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from sweeper.core.base import Record
from sweeper.core.document import Document
from sweeper.core.errors import InterruptedSweepError, SweeperError, UsageError
from sweeper.core.label_planes import list_class_maps
from sweeper.core.paths import make_class_slugs
from sweeper.core.records import OperatingPoint, Task, TrainedOn
from sweeper.core.tasks import RULES, format_point
from sweeper.core.text import escape_for_display, format_count, format_study_command
from sweeper.core.training_files import get_weights_dir
from sweeper.data.open_image import silence_pillow
from sweeper.data.text_tables import UnreadableFileError
from sweeper.data.variants import enlarge_mask
from sweeper.deployment.image_files import ImageFile, find_images, read_for
from sweeper.deployment.recommended_network import KeptNetwork, find_kept_network, load_answer
from sweeper.system.machine import count_available_cores, read_requested_threads
from sweeper.system.whole_files import remove_left
from sweeper.training.weights_file import WeightsRecord, read_record
from sweeper.workflow.run_context import StopSignal
from sweeper.workflow.settings import PredictOptions

if TYPE_CHECKING:
    from sweeper.storage.resilient_storage import RetryingStorage
    from sweeper.training.predictor import Predictor


class PredictingTraining(Record):
    """The network's training."""

    purpose: str
    """`final` (`sweeper train`) or `confirm`."""
    family: str
    params: dict[str, float]
    lr: float
    steps: int
    seed: int
    on: TrainedOn
    """Training images."""


class PredictedClass(Record):
    """A class, and its colour in masks and overlays."""

    index: int
    """Value of the class's pixels in masks; they are 1 in those of classes that overlap."""
    name: str
    colour: tuple[int, int, int]
    """Red, green and blue, 0–255."""


class PredictedImage(Record):
    """One image, with the files of its prediction, relative to the output folder."""

    image: str
    mask: str
    """Of classes that overlap `masks/*/NAME.png`: a mask in the folder of each class, 1 where a pixel has it."""
    overlay: str
    probabilities: str | None = None
    """Present with `--probabilities`."""
    height: int
    width: int
    shares: dict[str, float]
    """Share of the pixels by class, 0–1."""


class UnreadableImage(Record):
    """An image that could not be read."""

    image: str
    reason: str


class PredictionsDocument(Document):
    """Document that `sweeper predict` prints and writes to `predictions.json`."""

    SCHEMA: ClassVar[str] = "sweeper.predictions/1"

    study: str | None
    """Null with `--weights`."""
    weights: str
    """File of the network."""
    training: PredictingTraining
    task: Task
    threshold: OperatingPoint | None
    """Two classes: probabilities of at least this are foreground. Classes that overlap: the same for each."""
    tau: float | None
    """More classes: factor of the log class frequencies subtracted from the logits."""
    classes: tuple[PredictedClass, ...]
    images: tuple[PredictedImage, ...]
    unreadable: tuple[UnreadableImage, ...]


def load_from_study(storage: RetryingStorage, name: str, cache: Path) -> KeptNetwork:
    """Return the network that a study recommends, at the recommended operating point.

    A network of `sweeper train` or of the final training has its own operating point.

    Raises:
        StudyError: if the study does not exist.
        SweeperError: if the study recommends nothing, or none of its networks is kept on this machine.
        UsageError: if a kept network is damaged.
    """
    answer = load_answer(storage, name, "predict with")
    network = find_kept_network(answer, get_weights_dir(cache, name))
    if network is None:
        raise SweeperError(
            f"no network of {answer.chosen.loss}, which study {name!r} recommends, is kept in {cache.parent}; "
            f"`{format_study_command('train', name, answer.sweep.storage)}` trains one, in the "
            "sweep's folder; --weights FILE names another network"
        )
    return network


def load_from_file(path: Path) -> KeptNetwork:
    """Return the network of a file of weights, at its own operating point.

    Raises:
        UsageError: if the file is not sweeper's, or is damaged.
    """
    return KeptNetwork(path, read_record(path))


def predict_images(
    source: KeptNetwork,
    arguments: Sequence[str],
    options: PredictOptions,
    *,
    stop: StopSignal,
    progress: Callable[[int, int], None],
) -> PredictionsDocument:
    """Predict every readable image, and list all others; return the content of `OUT/predictions.json`.

    `arguments` are files, folders and patterns. `stop` is checked between images, and `progress` called with (done,
    total) images.

    Raises:
        UsageError: before anything is written, if there is no image, an output exists, or the operating point is out of
            range.
        SweeperError: if a file cannot be written.
        InterruptedSweepError: if `stop` requests it; written files stay.
    """
    from sweeper.report.prediction_files import PredictionPaths

    record = source.record
    rules = RULES[record.task]
    point = record.point if options.threshold is None else options.threshold
    if not (rules.is_exclusive or 0 < np.min(point) <= np.max(point) < 1):
        raise UsageError(f"--threshold must lie between 0 and 1, got {format_point(point, 'g')}")
    files = find_images(arguments, without=options.out)
    channels, planes = rules.count_channels(len(record.classes)), _name_planes(record)
    paths = [PredictionPaths(options.out, file.name, channels=channels, planes=planes) for file in files]
    targets = [path for of_image in paths for path in (*of_image.masks, of_image.overlay)]
    if options.probabilities:
        targets += [of_image.probabilities for of_image in paths]
    _check_only_predictions(options.out, set(targets))
    _check_new(options, targets)
    for place in {target.parent for target in targets}:
        remove_left(place)
    predictor = _make_predictor(source, point, options)
    stop.defer_signals()
    rows: list[PredictedImage] = []
    unreadable: list[UnreadableImage] = []
    progress(0, len(files))
    try:
        with silence_pillow():
            for number, (file, of_image) in enumerate(zip(files, paths, strict=True), 1):
                try:
                    rows.append(_predict_image(file, of_image, predictor, record, options))
                except UnreadableFileError as error:
                    unreadable.append(UnreadableImage(image=escape_for_display(file.path), reason=str(error)))
                progress(number, len(files))
                if stop.status is not None:
                    break
        document = _make_document(source, point, rows, unreadable)
        if rows:
            _write_notes(options.out, document, planes)
    except OSError as error:
        raise SweeperError(
            f"--out {options.out} must be a folder that can be written: {error}; name another"
        ) from error
    if stop.status is not None and number < len(files):
        raise InterruptedSweepError(
            f"stopped after {number:,} of {format_count(len(files), 'image')}; their masks are in {options.out}, and "
            "predictions.json lists them. The same command with --overwrite predicts all of them",
            stop.status,
        )
    return document


def _check_only_predictions(out: Path, targets: set[Path]) -> None:
    """Refuse to write masks next to other labels, from which they could not be distinguished.

    Raises:
        UsageError: with the first file that is no prediction.
    """
    if (out / "predictions.json").is_file():
        return
    masks = filter(Path.is_file, (out / "masks").rglob("*"))
    others = sorted(path for path in set(masks) - targets if not path.name.startswith("."))
    if others:
        raise UsageError(
            f"--out {out} must not hold masks that are no predictions, found {format_count(len(others), 'file')} of "
            "them "
            f"({escape_for_display(others[0])}), and predictions would be mixed with these labels; name another folder"
        )


def _check_new(options: PredictOptions, targets: Sequence[Path]) -> None:
    """Refuse to overwrite existing files.

    Raises:
        UsageError: with the first existing file.
    """
    notes = [options.out / name for name in ("predictions.json", "classes.txt")]  # OUT may be a labelled data set
    existing = [path for path in (*targets, *notes) if path.exists()]
    if existing and not options.overwrite:
        raise UsageError(
            f"--out {options.out} must not hold what would be written, found {format_count(len(existing), 'file')} of "
            f"it ({escape_for_display(existing[0])}); name another folder, or --overwrite replaces them"
        )


def _name_planes(record: WeightsRecord) -> list[str]:
    """Return the folder of each class's masks; none if a pixel has one class."""
    planes = RULES[record.task].list_planes(len(record.classes))
    return list(make_class_slugs(record.classes)) if planes else []


def _make_predictor(source: KeptNetwork, point: OperatingPoint, options: PredictOptions) -> Predictor:
    from sweeper.training.hardware import probe_device, settle_process
    from sweeper.training.predictor import Predictor

    hardware = probe_device(options.device)
    settle_process(read_requested_threads() or count_available_cores())
    record = source.record
    precision = record.precision if hardware.precision == "bfloat16" else "float32"
    return Predictor(source.path, record, hardware.device, precision, point)


def _predict_image(
    file: ImageFile, paths: Any, predictor: Predictor, record: WeightsRecord, options: PredictOptions
) -> PredictedImage:
    """Read and predict one image, write its files, and return its row of the document.

    Raises:
        UnreadableFileError: if the image cannot be read.
    """
    from sweeper.report.prediction_files import write_mask, write_overlay, write_probabilities

    image, size = read_for(file.path, channels=record.channels, full_scale=record.full_scale, short_side=record.resized)
    answer = predictor.predict_labels(image, probabilities=options.probabilities)
    classes = len(record.classes)
    rules = RULES[record.task]
    shown = len(rules.list_shown_classes(record.classes))
    mask = answer.mask if answer.mask.shape == size else enlarge_mask(answer.mask, size)
    for path, each in zip(paths.masks, list_class_maps(mask, classes * rules.has_planes), strict=True):
        write_mask(path, each.astype(np.uint8, copy=False), shown)
    write_overlay(paths.overlay, image, rules.make_display_map(answer.mask, classes), shown)
    if answer.probabilities is not None:
        probabilities = answer.probabilities
        if probabilities.shape[1:] != size:
            probabilities = np.stack([enlarge_mask(plane, size) for plane in probabilities])
        write_probabilities(paths.probabilities, probabilities)
    shares = {name: float(rules.mark_class(mask, i, classes).mean()) for i, name in enumerate(record.classes)}

    def below(path: Path) -> str:
        return path.relative_to(options.out).as_posix()

    return PredictedImage(
        image=str(file.path),
        mask=below(paths.mask),
        overlay=below(paths.overlay),
        probabilities=below(paths.probabilities) if options.probabilities else None,
        height=size[0],
        width=size[1],
        shares=shares,
    )


def _make_document(
    source: KeptNetwork, point: OperatingPoint, rows: list[PredictedImage], unreadable: list[UnreadableImage]
) -> PredictionsDocument:
    """Make the document."""
    from sweeper.report.figures.style import make_palette

    record, rules = source.record, RULES[source.record.task]
    colours = make_palette(len(rules.list_shown_classes(record.classes))).tolist()[-len(record.classes) :]
    return PredictionsDocument(
        study=source.study,
        weights=str(source.path),
        training=PredictingTraining(
            **record.spec.model_dump(include=set(PredictingTraining.model_fields)), on=record.on
        ),
        task=record.task,
        **{"threshold": None, "tau": None, rules.point_key: point},
        classes=tuple(
            PredictedClass(index=i, name=name, colour=(colour[0], colour[1], colour[2]))
            for i, (name, colour) in enumerate(zip(record.classes, colours, strict=True))
        ),
        images=tuple(rows),
        unreadable=tuple(unreadable),
    )


def _write_notes(out: Path, document: PredictionsDocument, planes: Sequence[str]) -> None:
    """Write the document, and `classes.txt` as in a data set: the folders of `planes`, else the classes' names."""
    text = json.dumps(document.document, indent=2, ensure_ascii=True, allow_nan=False) + "\n"
    (out / "predictions.json").write_text(text, "utf-8")
    names = "\n".join(planes or [row.name for row in document.classes])
    (out / "classes.txt").write_text(names + "\n", "utf-8")
