"""The document of `sweeper predict`: which network predicted what, and in which files it lies."""

from __future__ import annotations

from typing import ClassVar

from sweeper.core.base import Record
from sweeper.core.calibration import Calibration, ClassCalibration
from sweeper.core.document import Document
from sweeper.core.records import MissControl, Task, TrainedOn


class PredictingTraining(Record):
    """The training that the network is from."""

    purpose: str
    """`final` (`sweeper train`) or `confirm`."""
    family: str
    params: dict[str, float]
    lr: float
    steps: int
    seed: int
    on: TrainedOn
    """Images that it was trained on."""


class PredictedClass(Record):
    """A class, and its colour in masks and overlays."""

    index: int
    """The value of its pixels in masks."""
    name: str
    colour: tuple[int, int, int]
    """Red, green and blue, 0–255."""


class PredictedImage(Record):
    """One image, with the files of its prediction below the folder of all."""

    image: str
    mask: str
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
    """What `sweeper predict` wrote: `predictions.json`, and what it prints."""

    SCHEMA: ClassVar[str] = "sweeper.predictions/1"

    study: str | None
    """Null with `--weights`."""
    weights: str
    """File of the network."""
    training: PredictingTraining
    task: Task
    threshold: float | None
    """Two classes: probabilities from it on are foreground."""
    tau: float | None
    """More classes: how far class frequencies are taken out of the logits."""
    calibration: Calibration | ClassCalibration | None = None
    """Slope and bias of the logits in the files of probabilities, where they are known; of more classes a bias each.
    Masks are answered without it, at `tau`."""
    probability_threshold: float | None = None
    """The same threshold in those files, which hold calibrated probabilities then."""
    misses: MissControl | None = None
    """What that point keeps, where `--miss-at-most` was given here or to `sweeper train`."""
    classes: tuple[PredictedClass, ...]
    images: tuple[PredictedImage, ...]
    unreadable: tuple[UnreadableImage, ...]
