"""A data set, its splits and its label statistics; and the search space."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Literal

import numpy as np
import numpy.typing as npt
from pydantic import Field

from sweeper.core.base import Record
from sweeper.core.own_code import UserCode

Task = Literal["binary", "multiclass", "multilabel"]
"""Binary and multi-class: each pixel has one class. Multi-label: a pixel may have several classes, or none."""
SplitName = Literal["train", "val", "test"]
OperatingPoint = float | tuple[float, ...]
"""Binary: a threshold in (0, 1). Multi-class: τ. Multi-label: a threshold for each class."""

IGNORE = 255
"""Label of pixels without a class, in stored masks and targets."""


class ImageInfo(Record):
    """One labelled image of a data set; its pixels are in the store at the same index."""

    stem: str
    height: int = Field(gt=0)
    width: int = Field(gt=0)
    pixels: tuple[int, ...]
    """Labelled pixels of each class, in class order; in a multi-label task a pixel may count for several."""
    ignored: int = Field(0, ge=0)
    """Pixels without a label."""
    split: SplitName | None = None
    """Split that `split.csv` assigns; None = to be assigned."""
    group: str | None = None
    """Images of one group are never on two sides of a split; None = a group of its own."""
    open_turn: int = Field(1, ge=1, le=8)
    """The image's EXIF orientation, if sizes do not show whether its label was drawn before or after it; else 1."""

    @property
    def labelled(self) -> int:
        """Pixels with a label: all that are not ignored."""
        return self.height * self.width - self.ignored

    @property
    def is_uniform(self) -> bool:
        """Whether all pixels have the same label, so that other masks may well be identical."""
        return not any(0 < count < self.height * self.width for count in (*self.pixels, self.ignored))


class Patterns(Record):
    """Patterns of the names of images and masks, below the data folder: `img/**/*.jpg`, `labels/{stem}.png`."""

    images: str = Field(min_length=1)
    masks: str = Field(min_length=1)


class Dataset(Record):
    """Data set as read: names, sizes, label counts and given splits of all images, and where the pixels are."""

    name: str
    source: str
    """Data source as the user gave it: a path or `synthetic:NAME?…`."""
    format: str | None = None
    """Name of the format of the annotations; None for synthetic sets."""
    patterns: Patterns | None = None
    """Patterns of file names that the user gave (`--images`, `--masks`); None = the format finds the files."""
    class_map: dict[str, tuple[str, ...]] | None = None
    """The user's classes and the labels or names that became them (`--class-map`); None = all as they are."""
    groups: str = "none"
    """Rule by which images are grouped (`--groups`); none = only by `split.csv` or the annotations."""
    grouped_by: str | None = None
    """Source of the groups: folder, name, split.csv, the annotations, or the user's pattern."""
    read_as: str | None = None
    """Layout that was found, in one line; None for synthetic sets."""
    digest: str
    """`sha256:…` of everything that can change a result: pixels, labels, class names, splits, groups."""
    task: Task
    classes: tuple[str, ...] = Field(min_length=1)
    """Names in index order; without a background in a multi-label task."""
    channels: int = Field(ge=1)
    """1 if every image is grey, 3 if some are RGB, else the number of channels that every image has."""
    synthetic: bool
    store: str
    """Folder of the decoded pixels (`sweeper.data.store`)."""
    images: tuple[ImageInfo, ...] = Field(min_length=1)
    warnings: tuple[str, ...] = ()
    """Warnings about allowed but notable properties, in sentences."""
    resized: int | None = Field(None, ge=1)
    """Shorter side in pixels that larger images were shrunk to (`--resize`); None = all at native resolution."""
    script_ignores: int = IGNORE
    """Label of pixels without a class in the targets of the user's script, where that trains."""
    script_scores: Literal["logits", "counts"] = "logits"
    """What the script scores: logits, or the counts of its own rule of decision."""

    @property
    def planes(self) -> int:
        """Number of classes whose bits are the labels of the store; 0 if labels are class indices."""
        return len(self.classes) * (self.task == "multilabel")

    @property
    def label_names(self) -> tuple[str, ...]:
        """Names by number, the background first, which is no class of a multi-label task."""
        return ("background",) * bool(self.planes) + self.classes

    def count_class_pixels(self, indices: tuple[int, ...] | None = None) -> npt.NDArray[np.int64]:
        """Count the labelled pixels of each class, (C,), over the images `indices` (None = all)."""
        chosen = self.images if indices is None else [self.images[i] for i in indices]
        counts: npt.NDArray[np.int64] = np.array([p.pixels for p in chosen], dtype=np.int64)
        summed: npt.NDArray[np.int64] = counts.reshape(-1, len(self.classes)).sum(axis=0)
        return summed

    def count_labelled_pixels(self, indices: tuple[int, ...] | None = None) -> int:
        """Count the pixels with a label over the images `indices` (None = all)."""
        chosen = self.images if indices is None else [self.images[i] for i in indices]
        return sum(image.labelled for image in chosen)

    def list_groups(self, images: Iterable[int]) -> list[str | None]:
        """Return the group of each of these images, in their order; None = a group of its own."""
        return [self.images[i].group for i in images]


class Split(Record):
    """Indices into `Dataset.images`, ascending and disjoint."""

    train: tuple[int, ...] = Field(min_length=1)
    val: tuple[int, ...] = Field(min_length=1)
    test: tuple[int, ...]
    """Empty only in the search of a study with folds."""


class ClassProfile(Record):
    """Frequency and sizes of one class."""

    name: str
    pixel_share: float
    """Share of the labelled pixels, 0–1."""
    image_share: float
    """Prevalence: share of the images in which it occurs, 0–1."""
    components: int
    """Connected components (8-neighbourhood) over all images."""
    component_pixels: tuple[float, float, float] | None
    """10th, 50th and 90th percentile of the components' sizes in pixels; None without components."""
    thinness: float | None
    """Share of its pixels within 2 pixels of its boundary, 0–1; None where it does not occur."""


class ImbalanceProfile(Record):
    """The imbalance fingerprint of a data set's labels."""

    images: int
    labelled_pixels: int
    ignored_share: float
    """Share of all pixels without a label, 0–1."""
    overlap: float | None = None
    """Multi-label: share of the classes' pixels that have several classes, 0–1; None = each pixel has one class."""
    empty_images: int
    """Images with nothing but background (and unlabelled pixels)."""
    classes: tuple[ClassProfile, ...]
    imbalance: float
    """Binary: background / foreground pixels; multi-label: those of the rarest class. Multi-class: most common / rarest
    class that occurs."""
    pos_weight: float | None
    """Binary: the weight that balances the pixel proportions (= imbalance); None for more classes."""
    alpha: float | None
    """Binary: the same balance as focal's α = w / (1 + w); None for more classes."""
    class_weights: tuple[float, ...]
    """w_c ∝ 1/f_c scaled so that Σ f_c w_c = 1; a class without pixels gets the largest weight present. Multi-label:
    background / foreground pixels of each class."""


CoordinateKind = Literal["uniform", "log", "power_of_imbalance", "fixed"]


class Coordinate(Record):
    """One searched (or fixed) number of a loss, or the learning rate.

    `power_of_imbalance` is searched as an exponent p in [low, high]; the loss receives imbalance ** p.
    """

    kind: CoordinateKind
    low: float
    high: float

    @property
    def middle(self) -> float:
        """Middle of the range: the geometric one if it is logarithmic."""
        return self.clip(math.sqrt(self.low * self.high)) if self.kind == "log" else (self.low + self.high) / 2

    def clip(self, value: float) -> float:
        """Return the value, or the end of the range that it is beyond."""
        return min(max(value, self.low), self.high)


class FamilySpace(Record):
    """One loss family with the coordinates that are searched in it."""

    family: str
    coordinates: dict[str, Coordinate]

    @property
    def is_searched(self) -> bool:
        """Whether it has a parameter to search besides the learning rate."""
        return any(one.low < one.high for one in self.coordinates.values())


class FamilyStart(Record):
    """A configuration that is one of a family's first trials."""

    family: str
    params: dict[str, float]
    """On the searched scale, with Optuna's names; without the learning rate."""


class SearchSpace(Record):
    """Search space: the families, their coordinates, and the learning rate, tuned equally for each."""

    name: str
    task: Task
    lr: Coordinate
    families: tuple[FamilySpace, ...] = Field(min_length=1)
    starts: tuple[FamilyStart, ...] = ()
    """Configurations to try after the defaults, from similar data; families begin in the order of their first
    configuration."""
    present: FamilyStart = FamilyStart(family="cross_entropy", params={})
    """The loss that is used now, which the others are compared with, and the parameters that it is used with."""

    @property
    def is_named(self) -> bool:
        """Whether the losses have no parameter to search: a comparison of just these, by their learning rate."""
        return not any(family.is_searched for family in self.families)

    @property
    def by_name(self) -> dict[str, FamilySpace]:
        """The families by name, in their order."""
        return {family.family: family for family in self.families}


class UserLoss(Record):
    """The user's loss, as its code declares it."""

    code: UserCode
    takes: tuple[Literal["task", "classes", "ignore_index"], ...] = ()
    """Arguments that it requests in addition to its hyper-parameters."""
    coordinates: dict[str, Coordinate]
    """Ranges of its hyper-parameters."""
    starts: dict[str, float]
    """Their values in its first trial."""

    @property
    def name(self) -> str:
        """Name of the family: that of the function."""
        return self.code.function
