"""The document of `sweeper train`: what was trained, its operating point, and its scores on what was left out."""

from __future__ import annotations

from typing import ClassVar

from sweeper.core.document import Document
from sweeper.core.records import Collapse, MissControl, Scores, Task, TrainedOn


class TrainingDocument(Document):
    """What `sweeper train` prints."""

    SCHEMA: ClassVar[str] = "sweeper.training/1"

    study: str
    family: str
    params: dict[str, float]
    lr: float
    verdict: str
    task: Task
    on: TrainedOn
    images: int
    """How many were trained on."""
    steps: int
    seed: int
    seconds: float
    """Of this session."""
    device: str
    weights: str
    """File of the network."""
    point: float
    """Operating point: a threshold (two classes) or τ."""
    point_from: str
    """Where it comes from, in words."""
    val: Scores | None
    """On the validation images, where these were left out."""
    test: Scores | None
    """On the test images, where these were left out; seen once more, and no new confirmation."""
    test_images: int
    collapse: Collapse
    """On the images that were left out; `none` where there are none."""
    misses: MissControl | None = None
    """What the operating point keeps, with `--miss-at-most`."""
