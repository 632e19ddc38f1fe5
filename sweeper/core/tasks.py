"""What distinguishes the tasks: their channels, their output's activation and start, their operating points and words.

Independent classes have a sigmoid and a threshold each: a *multi-label* task has a channel for each of its classes, a
*binary* one only for its foreground. The *exclusive* classes of a multi-class task share a softmax and one τ.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sweeper.core.label_planes import LabelMap, choose_label_type, flatten_planes, get_ignored_label
from sweeper.core.records.data import Dataset, OperatingPoint, Task
from sweeper.core.records.training import END_POINTS

Floats = npt.NDArray[np.float64]


def _compute_log_odds(pixels: npt.NDArray[np.int64], labelled: int) -> Floats:
    own, others = np.maximum(pixels, 1), np.maximum(labelled - pixels, 1)
    return np.asarray(np.log((own / (own + others)) / (others / (own + others))))


def compute_log_shares(pixels: npt.NDArray[np.int64], _labelled: int = 0) -> Floats:
    """Return the logarithm of each class's share of the pixels, (C,); an absent class counts as one pixel."""
    return np.asarray(np.log(np.maximum(pixels, 1) / np.maximum(pixels, 1).sum()))


@dataclass(frozen=True)
class TaskRules:
    """What distinguishes a task from the others."""

    words: str
    """Name for display."""
    activation: str
    """Function of torch that turns logits into probabilities."""
    point_name: str
    """Name of the operating point for display."""
    point_key: str
    """Its name in files and in MLflow."""
    point_words: str
    """Its name where nothing around it says what it is."""
    plain_point: float
    """Operating point without a choice."""
    first_channel: int
    """Class of the network's first channel: 1 in a binary task, whose background has none."""
    first_object: int
    """First class that is not the background: 0 in a multi-label task, which has none."""
    has_planes: bool
    """Whether a pixel may have several classes, so that labels and counts have an axis for them."""
    compute_start: Callable[[npt.NDArray[np.int64], int], Floats]
    """Function from the pixels of each channel's class and all labelled pixels to the first bias of the output."""

    @property
    def is_exclusive(self) -> bool:
        """Whether each pixel has one of the channels' classes."""
        return self.activation == "softmax"

    @property
    def plain_words(self) -> str:
        """The plain operating point with its name: `threshold 0.5`, `τ = 0`."""
        return f"{self.point_name} {'= ' * self.is_exclusive}{self.plain_point:g}"

    @property
    def at_plain(self) -> str:
        """Heading of what is measured there: `at 0.5`, `at τ = 0`."""
        return f"at {'τ = ' * self.is_exclusive}{self.plain_point:g}"

    def count_channels(self, classes: int) -> int:
        """Return the number of the logits' channels."""
        return classes - self.first_channel

    def list_planes(self, classes: int) -> tuple[int, ...]:
        """Return the axis that labels have for their classes: (C,), or none where a pixel has one class."""
        return (classes,) * self.has_planes

    def get_ignored_label(self, classes: int) -> int:
        """Return the value of pixels without a label in stored label maps."""
        return get_ignored_label(choose_label_type(classes * self.has_planes))

    def make_display_map(self, labels: LabelMap, classes: int) -> npt.NDArray[np.uint8]:
        """Return class indices to show for a stored label map, by the names of `list_shown_classes`."""
        return flatten_planes(labels, classes) if self.has_planes else labels.astype(np.uint8, copy=False)

    def list_shown_classes(self, classes: tuple[str, ...]) -> tuple[str, ...]:
        """Return the names of the classes in a map for display, the first that of the background."""
        return (*("no class",) * self.has_planes, *classes)

    def mark_class(self, labels: LabelMap, number: int, classes: int) -> npt.NDArray[np.bool_]:
        """Return which pixels of a stored label map have a class, by its index."""
        if self.has_planes:
            return np.asarray((labels >> number & 1 > 0) & (labels != self.get_ignored_label(classes)))
        return np.asarray(labels == number)

    def count_pixels(self, dataset: Dataset, images: tuple[int, ...] | None) -> tuple[npt.NDArray[np.int64], int]:
        """Count the pixels of each class (C,) and all labelled ones over some images (None = all)."""
        pixels = dataset.count_class_pixels(images)
        return pixels, dataset.count_labelled_pixels(images) if self.has_planes else int(pixels.sum())

    def compute_bias(self, dataset: Dataset, images: tuple[int, ...] | None = None) -> tuple[float, ...]:
        """Return the bias of each channel with which the output gives the classes' shares in some images."""
        pixels, labelled = self.count_pixels(dataset, images)
        return tuple(self.compute_start(pixels[self.first_channel :], labelled).tolist())

    def make_frequencies(self, dataset: Dataset, images: tuple[int, ...] | None = None) -> list[float]:
        """Return the `class_frequencies` of `build_loss`: pixels of each class, or its share in a multi-label task."""
        pixels, labelled = self.count_pixels(dataset, images)
        return [float(n) / (max(1, labelled) if self.has_planes else 1) for n in pixels]


_BINARY_CLASSES = 2
RULES: dict[Task, TaskRules] = {
    "binary": TaskRules(
        words="binary",
        activation="sigmoid",
        point_name="threshold",
        point_key="threshold",
        point_words="threshold",
        plain_point=0.5,
        first_channel=1,
        first_object=1,
        has_planes=False,
        compute_start=_compute_log_odds,
    ),
    "multiclass": TaskRules(
        words="multi-class",
        activation="softmax",
        point_name="τ",
        point_key="tau",
        point_words="logit adjustment τ",
        plain_point=0.0,
        first_channel=0,
        first_object=1,
        has_planes=False,
        compute_start=compute_log_shares,
    ),
    "multilabel": TaskRules(
        words="multi-label",
        activation="sigmoid",
        point_name="thresholds",
        point_key="threshold",
        point_words="thresholds",
        plain_point=0.5,
        first_channel=0,
        first_object=0,
        has_planes=True,
        compute_start=_compute_log_odds,
    ),
}
"""The rules of each task; all code that depends on the task asks them."""


def guess_task(classes: int) -> Task:
    """Return the task of records that do not name it, by the number of classes."""
    return "binary" if classes == _BINARY_CLASSES else "multiclass"


def compute_median_point(points: Iterable[OperatingPoint]) -> OperatingPoint:
    """Return the median of operating points, of several thresholds that of each."""
    return make_point(np.median(np.array([*points], dtype=np.float64), axis=0))


def make_point(values: Floats) -> OperatingPoint:
    """Return an operating point from a number, or from one for each class."""
    return tuple(values.tolist()) if values.ndim else float(values)


def find_nearest(points: Floats, wanted: Floats) -> Floats:
    """Return the nearest of the points (T,) to each wanted value, of any shape."""
    return np.asarray(points[np.abs(np.subtract.outer(wanted, points)).argmin(axis=-1)])


def list_values(point: OperatingPoint) -> list[float]:
    """Return the number that an operating point is, or the threshold of each class."""
    return [float(value) for value in np.atleast_1d(point)]


def is_end_point(point: OperatingPoint) -> bool:
    """Return whether an operating point, or one of its thresholds, is at an end of those that are tried."""
    return not END_POINTS.isdisjoint(list_values(point))


def format_point(point: OperatingPoint, spec: str = ".3g") -> str:
    """Format an operating point; thresholds of several classes are joined by commas."""
    return ", ".join(format(value, spec) for value in list_values(point))
