"""A data set: its images, and which of them train, validate and test."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from sweeper.core.base import Record

Task = Literal["binary", "multiclass"]
SplitName = Literal["train", "val", "test"]

IGNORE = 255
"""Label of pixels without a class, in stored masks and targets."""


class ImageInfo(Record):
    """One labelled image of a data set; its pixels lie in the store at the same index."""

    stem: str
    height: int = Field(gt=0)
    width: int = Field(gt=0)
    pixels: tuple[int, ...]
    """Labelled pixels of each class, in class order."""
    ignored: int = Field(0, ge=0)
    """Pixels without a label."""
    split: SplitName | None = None
    """Where `split.csv` puts it; None = to be assigned."""
    group: str | None = None
    """Images of one group never lie on two sides of a split; None = a group of its own."""


class Patterns(Record):
    """How the images and masks of a data set are called, below its folder: `img/**/*.jpg`, `labels/{stem}.png`."""

    images: str = Field(min_length=1)
    masks: str = Field(min_length=1)


class Dataset(Record):
    """What was read: names, sizes, label counts and given splits of all images, and where the pixels lie."""

    name: str
    source: str
    """What the user asked for: a path or `synthetic:NAME?…`."""
    format: str | None = None
    """Name of the format of the annotations; None for synthetic sets."""
    patterns: Patterns | None = None
    """What the user said of the files' names (`--images`, `--masks`); None = they are found by the format."""
    class_map: dict[str, tuple[str, ...]] | None = None
    """The user's classes and the labels or names that became them (`--class-map`); None = all as they are."""
    read_as: str | None = None
    """What was found there and assumed of its layout, in one line; None for synthetic sets."""
    digest: str
    """`sha256:…` of everything that can change a result: pixels, labels, class names, splits, groups."""
    task: Task
    classes: tuple[str, ...] = Field(min_length=2)
    channels: int = Field(ge=1)
    """1 when every image is grey, 3 when some are RGB, else the number that every image has."""
    synthetic: bool
    store: str
    """Folder of the decoded pixels (`sweeper.data.store`)."""
    images: tuple[ImageInfo, ...] = Field(min_length=1)
    warnings: tuple[str, ...] = ()
    """What is allowed but should be known, in sentences."""
    notes: tuple[str, ...] = ()
    """Those of them that the reader had: of what lies there, whichever images are left out afterwards."""
    excluded: tuple[str, ...] = ()
    """Stems that the user had left out (`--exclude`), ascending; none of `images` is among them."""
    resized: int | None = Field(None, ge=1)
    """Shorter side in pixels that larger images were shrunk to (`--resize`); None = all at native resolution."""

    def class_pixels(self, indices: tuple[int, ...] | None = None) -> npt.NDArray[np.int64]:
        """Labelled pixels of each class, shape (C,), over the images `indices` (None = all)."""
        chosen = self.images if indices is None else [self.images[i] for i in indices]
        counts: npt.NDArray[np.int64] = np.array([p.pixels for p in chosen], dtype=np.int64)
        summed: npt.NDArray[np.int64] = counts.reshape(-1, len(self.classes)).sum(axis=0)
        return summed

    def groups_of(self, images: Iterable[int]) -> list[str | None]:
        """Group of each of these images, in their order; None = a group of its own."""
        return [self.images[i].group for i in images]


class Split(Record):
    """Indices into `Dataset.images`, ascending and disjoint."""

    train: tuple[int, ...] = Field(min_length=1)
    val: tuple[int, ...] = Field(min_length=1)
    test: tuple[int, ...]
    """Empty in the search of a study with folds alone."""
