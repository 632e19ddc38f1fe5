"""Segmentation metrics from per-image confusion counts. Pure NumPy, for training and evidence.

mIoU is computed from counts summed over the images, then averaged over the classes that occur in the full split;
classes that do not occur are left out, not counted as 0 or 1. (torchmetrics averages per image and
segmentation-models-pytorch counts an absent class as 1; neither can be compared across splits.)

Counts have shape (..., C, 3): true positives, false positives, false negatives of each class, in pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sweeper.core.contours import Mask
from sweeper.core.label_parts import Counter, count_contour_pixels, count_lesions, sum_component_dice
from sweeper.core.records import ImageCounts, MetricScores, OperatingPoint, Task, TestDetail
from sweeper.core.tasks import RULES, TaskRules, guess_task

Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def count_at_all_points(counts: ImageCounts) -> Counts:
    """Count the classes of each image at every operating point, the same for all classes, (n, T, C, 3)."""
    data = counts.data.astype(np.int64)
    return data if counts.kind == "points" else _count_at_edges(data)


def _count_at_edges(histogram: Counts) -> Counts:
    """Count classes (n, B − 1, C, 3) at each inner edge of histograms: per image, true class and bin.

    Of histograms (n, 2, B) the classes are background and foreground; of (n, C, 2, B) these C.
    """
    above = histogram[..., ::-1].cumsum(axis=-1)[..., ::-1]  # pixels in this bin or a higher one
    predicted = above[..., 1:]
    total = above[..., :1]
    fp, tp = predicted[..., 0, :], predicted[..., 1, :]
    fn, tn = total[..., 1, :] - tp, total[..., 0, :] - fp
    foreground = np.stack([tp, fp, fn], axis=-1)
    if histogram.ndim == 4:
        return np.asarray(foreground.swapaxes(1, 2))
    background = np.stack([tn, fn, fp], axis=-1)  # background's own tp, fp, fn
    return np.stack([background, foreground], axis=-2)


def count_at_point(counts: ImageCounts, point: OperatingPoint) -> Counts:
    """Count the classes of each image at one operating point, (n, C, 3).

    Raises:
        ValueError: if `point`, or one of its thresholds, is not one of `counts.points`.
    """
    gaps = np.abs(np.subtract.outer(np.atleast_1d(point), counts.points))
    index = gaps.argmin(axis=-1)
    if gaps.min(axis=-1).max() > 1e-6:
        raise ValueError(f"operating point must be one of the stored {len(counts.points)}, got {point}")
    if counts.kind == "points":
        return counts.data[:, index, np.arange(counts.data.shape[2])].astype(np.int64)
    if counts.task == "multilabel":
        each = zip(np.broadcast_to(index, counts.data.shape[1]), split_counts(counts), strict=True)
        return np.concatenate([_count_at_edges(_sum_at_edge(one.data, n))[:, 0] for n, one in each], axis=1)
    return _count_at_edges(_sum_at_edge(counts.data, index[0]))[:, 0]


def _sum_at_edge(histogram: npt.NDArray[Any], index: int) -> Counts:
    return np.asarray(np.add.reduceat(histogram.astype(np.int64), [0, index + 1], axis=-1))


def split_counts(counts: ImageCounts) -> list[ImageCounts]:
    """Return the counts of each class by itself, if each has its own operating point; else only these counts."""
    if counts.task != "multilabel":
        return [counts]
    return [
        counts.model_copy(
            update={
                "data": counts.data[:, [c]],
                "parts": counts.parts and counts.parts.model_copy(update={"data": counts.parts.data[:, :, [c]]}),
            }
        )
        for c in range(counts.data.shape[1])
    ]


def find_present_classes(class_counts: Counts) -> npt.NDArray[np.bool_]:
    """Return which classes have pixels in these images; class_counts (n, C, 3) → (C,)."""
    summed = class_counts.sum(axis=0)
    result: npt.NDArray[np.bool_] = (summed[:, 0] + summed[:, 2]) > 0
    return result


def divide_or_nan(numerator: Counts | Floats, denominator: Counts | Floats) -> Floats:
    """Divide element by element, NaN where the denominator is 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        quotient: Floats = np.where(denominator > 0, numerator / denominator, np.nan)
        return quotient


def compute_iou(summed: Counts | Floats) -> Floats:
    """Compute the IoU of each class, NaN if it neither occurs nor is predicted; (..., C, 3) → (..., C)."""
    return divide_or_nan(summed[..., 0], summed.sum(axis=-1))


def compute_dice(summed: Counts) -> Floats:
    """Compute the Dice (F1) of each class, NaN where undefined; (..., C, 3) → (..., C)."""
    return divide_or_nan(2 * summed[..., 0], 2 * summed[..., 0] + summed[..., 1] + summed[..., 2])


def compute_precision(summed: Counts) -> Floats:
    """Compute the precision of each class, 0 if it is not predicted; (..., C, 3) → (..., C)."""
    return np.nan_to_num(divide_or_nan(summed[..., 0], summed[..., 0] + summed[..., 1]))


def compute_recall(summed: Counts) -> Floats:
    """Compute the recall of each class, NaN if it does not occur; (..., C, 3) → (..., C)."""
    return divide_or_nan(summed[..., 0], summed[..., 0] + summed[..., 2])


def _average(share: Callable[[Counts], Floats], first: int = 0) -> Callable[[Any, npt.NDArray[np.bool_]], Floats]:
    return lambda summed, classes: average_classes(share(summed)[..., first:], classes[first:])


def _score_each_image(share: Callable[[Counts], Floats]) -> Callable[[Counts, TaskRules], Floats]:
    """Return a function from counts (..., C, 3) of single images to (..., S, 2): the scores, and 1 if each is scored.

    An image scores the mean of `share` over the classes in its labels (Wang et al. 2023, *Fine-grained mIoU*); pixels
    predicted as an absent class are missed by the others. A binary image scores only its foreground; without foreground
    it scores 1 if none is predicted, else 0. An image without a label is not scored. Each class of a multi-label task
    has a score of its own (S = C), as the foreground of a binary one; a class is right in an image without a label.
    """

    def rows(counts: Counts, rules: TaskRules) -> Floats:
        means = np.nan_to_num(share(counts), nan=1.0)[..., rules.first_channel :]
        scored = np.asarray(counts.any(axis=(-1, -2)))[..., None] | np.full(means.shape, rules.has_planes)
        if rules.is_exclusive:
            occurs = (counts[..., 0] + counts[..., 2]) > 0
            number = occurs.sum(axis=-1, keepdims=True)
            scored, means = number > 0, np.where(occurs, means, 0.0).sum(axis=-1, keepdims=True) / np.maximum(number, 1)
        return np.stack([np.where(scored, means, 0.0), scored.astype(np.float64)], axis=-1)

    return rows


def _mean_over_images(summed: Floats, classes: npt.NDArray[np.bool_]) -> Floats:
    means = np.nan_to_num(divide_or_nan(summed[..., 0], summed[..., 1]))
    return average_classes(means, classes[: means.shape[-1]] | (means.shape[-1] == 1))


class Objective(NamedTuple):
    """A metric that a search can maximise, and a verdict compares."""

    title: str
    """Name for display."""
    tasks: tuple[Task, ...]
    measure: Callable[[Any, npt.NDArray[np.bool_]], Floats]
    """Summed counts (..., C, 3) and the marked classes (C,) → (...), from −1 to 1, the higher the better."""
    rows: Callable[[Counts, TaskRules], Floats] | None = None
    """For a mean over images: from the counts of each image to what `measure` sums; None = the counts."""
    parts: Callable[[Mask, int], Counter] | None = None
    """Function that counts label maps in place of pixels (`sweeper.core.label_parts`); None = pixels."""


_ANY: tuple[Task, ...] = tuple(RULES)
METRICS: dict[str, Objective] = {
    "miou": Objective("mIoU", _ANY, _average(compute_iou)),
    "fg_iou": Objective("foreground IoU", ("binary",), _average(compute_iou, first=1)),
    "dice": Objective("mean Dice", _ANY, _average(compute_dice)),
    "image_iou": Objective("IoU per image", _ANY, _mean_over_images, _score_each_image(compute_iou)),
    "image_dice": Objective("Dice per image", _ANY, _mean_over_images, _score_each_image(compute_dice)),
    "lesion_f1": Objective("lesion F1", _ANY, _average(compute_dice), None, count_lesions),
    "cc_dice": Objective("CC-Dice", _ANY, _mean_over_images, _score_each_image(compute_recall), sum_component_dice),
    "boundary_iou": Objective("boundary IoU", _ANY, _average(compute_iou), None, count_contour_pixels),
}
"""Every metric that can be maximised, by its name in `--metric`; the user's own are added (`sweeper.core.own_metric`).
Unlike the stored `MetricScores`, a new metric is just an entry here."""
BUILT_IN = tuple(METRICS)


def make_image_rows(counts: Counts, metric: str, task: Task) -> Counts | Floats:
    """Return what a metric sums over images, from the counts (..., C, 3) of each."""
    rows = METRICS[metric].rows
    return counts if rows is None else rows(counts, RULES[task])


def select_metric_counts(counts: ImageCounts, metric: str) -> ImageCounts:
    """Return the counts that a metric is computed from: these, or those of label maps.

    Raises:
        ValueError: if the latter were not counted.
    """
    if METRICS[metric].parts is None:
        return counts
    if counts.parts is None:
        raise ValueError(f"the metric {metric} needs counts of whole label maps, got those of pixels; train it again")
    return counts.parts


def find_scored_classes(counts: ImageCounts, metric: str) -> npt.NDArray[np.bool_]:
    """Return which classes a metric averages, (C,): those with pixels in the labels, or with parts that it counts."""
    counted = select_metric_counts(counts, metric) if METRICS[metric].rows is None else counts
    return find_present_classes(count_at_all_points(counted.summed)[:, 0])


def number_units(groups: Sequence[str | None] | None) -> npt.NDArray[np.intp] | None:
    """Return the unit (n,) of each image, its group or itself, numbered from 0; None if each is its own."""
    numbers: dict[object, int] = {}
    given = groups or ()
    named = [i if group is None else group for i, group in enumerate(given)]
    units = [numbers.setdefault(name, len(numbers)) for name in named]
    return np.array(units, np.intp) if len(numbers) < len(units) else None


def sum_by_unit(rows: npt.NDArray[Any], units: npt.NDArray[np.intp] | None, metric: str) -> npt.NDArray[Any]:
    """Sum rows (R, n, …) of images by unit, (R, units, …); for a mean over images average each unit's images.

    Without units each image is its own.
    """
    if units is None:
        return rows
    summed = np.zeros((len(rows), int(units.max()) + 1, *rows.shape[2:]), dtype=rows.dtype)
    for row, unit_rows in zip(summed, rows, strict=True):
        np.add.at(row, units, unit_rows)
    if METRICS[metric].rows is not None:
        summed /= np.maximum(summed[..., 1:], 1.0)
    return summed


def sum_image_rows(
    counts: Counts, metric: str, task: Task, groups: Sequence[str | None] | None = None
) -> Counts | Floats:
    """Return the input of `compute_objective` from counts (n, …, C, 3) of images: (…, C, 3), or of scores (…, S, 2).

    `groups` (n,) are those of the images: in a mean over images a group counts as one. None = each image is its own.
    """
    rows = make_image_rows(counts, metric, task)
    units = None if METRICS[metric].rows is None else number_units(groups)
    summed: Counts | Floats = sum_by_unit(rows[None], units, metric)[0].sum(axis=0)
    return summed


def compute_objective(summed: Counts | Floats, classes: npt.NDArray[np.bool_], metric: str = "miou") -> Floats:
    """Compute the metric from sums (..., C, 3) of `make_image_rows`, over the classes marked in `classes` (C,) → (...).

    A marked class that neither occurs in these images (as in a bootstrap sample) nor is predicted counts as 1: it was
    answered correctly, and the class set stays the same in every replicate. Without any marked class the result is 0.
    """
    return METRICS[metric].measure(summed, classes)


def compute_metric_floor(summed: Counts, classes: npt.NDArray[np.bool_], metric: str) -> float:
    """Return a metric's value for a training without an answer: 0; for a user's metric also with no pixel right.

    `summed` (..., C, 3) are any counts of the images that it would have been scored on; the lowest value counts.
    """
    if metric in BUILT_IN:
        return 0.0
    return float(min(0.0, np.min(compute_objective(make_all_wrong_counts(summed), classes, metric))))


def make_all_wrong_counts(summed: Counts) -> Counts:
    """Return counts (..., C, 3) of the same labels with every right pixel answered as the next class."""
    wrong = summed.copy()
    wrong[..., 1] += np.roll(wrong[..., 0], 1, axis=-1)
    wrong[..., 2] += wrong[..., 0]
    wrong[..., 0] = 0
    return wrong


def compute_scores(class_counts: Counts, task: Task | None = None) -> MetricScores:
    """Compute all metrics of images with counts (n, C, 3); `task` None: binary if there are two classes."""
    classes = find_present_classes(class_counts)
    summed = class_counts.sum(axis=0)
    per_class = compute_iou(summed)

    def known(values: Floats) -> tuple[float | None, ...]:
        return tuple(float(v) if ok else None for v, ok in zip(np.nan_to_num(values), classes, strict=True))

    has_background = RULES[task or guess_task(len(per_class))].first_channel > 0
    return MetricScores(
        miou=float(compute_objective(summed, classes)),
        fg_iou=float(np.nan_to_num(per_class[1])) if has_background else None,
        dice=float(compute_objective(summed, classes, "dice")),
        iou=known(per_class),
        precision=known(compute_precision(summed)),
        recall=known(compute_recall(summed)),
    )


def compute_image_mious(class_counts: Counts, task: Task) -> Floats:
    """Compute the mIoU of each image by itself, (n, C, 3) → (n,), over the classes that occur in its own labels.

    As everywhere, an absent class is left out; predicting it lowers the IoU of the classes whose pixels it takes. 0 for
    an image without a label. In a multi-label task, where it takes no pixels, predicting it counts as 0; an image
    without any class is right if none is predicted.
    """
    overlap = RULES[task].has_planes
    counted = class_counts.any(axis=-1) if overlap else (class_counts[..., 0] + class_counts[..., 2]) > 0
    total, number = np.where(counted, np.nan_to_num(compute_iou(class_counts)), 0.0).sum(axis=-1), counted.sum(axis=-1)
    return np.where(number > 0, total / np.maximum(1, number), float(overlap))


def compute_constant_miou(*parts: ImageCounts) -> float:
    """Compute the mIoU of the best constant answer on the images of these counts.

    It is the most common class everywhere; in a multi-label task all classes.
    """
    if parts[0].task == "multilabel":
        histogram = sum(part.data.sum(axis=(0, -1), dtype=np.int64) for part in parts)
        shares = histogram[:, 1] / np.maximum(1, histogram.sum(axis=-1))
        return float(shares.sum() / max(1, int((shares > 0).sum())))
    summed = sum(count_at_all_points(part.summed)[0, 0] for part in parts)
    pixels = summed[:, 0] + summed[:, 2]
    return float(pixels.max() / max(1, pixels.sum()) / max(1, int((pixels > 0).sum())))


def average_classes(values: Floats, classes: npt.NDArray[np.bool_]) -> Floats:
    """Average (..., C) over the classes marked in (C,) → (...); undefined ones count as 1, as in `compute_objective`.

    0 without any marked class.
    """
    if not classes.any():
        return np.zeros(values.shape[:-1])
    mean: Floats = np.nan_to_num(values[..., classes], nan=1.0).mean(axis=-1)
    return mean


def select_images(counts: ImageCounts, images: tuple[int, ...]) -> ImageCounts:
    """Return the counts of some of the images, in their order."""
    rows = [counts.images.index(i) for i in images]
    parts = None if counts.parts is None else select_images(counts.parts, images)
    return counts.model_copy(update={"images": images, "data": counts.data[rows], "parts": parts})


def compute_cldice(summed: Counts) -> Floats:
    """Compute the centre-line Dice of each class from (..., C, 4) counts as in `TestDetail.centreline` → (..., C).

    Harmonic mean of the shares of the answer's centre line inside the label and of the label's inside the answer (Shit
    et al. 2021, eq. 1–2); 0 where either is 0 or one of the lines is missing, NaN where both are.
    """
    precision = np.nan_to_num(divide_or_nan(summed[..., 0], summed[..., 1]))
    recall = np.nan_to_num(divide_or_nan(summed[..., 2], summed[..., 3]))
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = np.where(precision + recall > 0, 2 * precision * recall / (precision + recall), 0.0)
    result: Floats = np.where(summed[..., 1] + summed[..., 3] > 0, mean, np.nan)
    return result


def find_classes_with_contour(boundary: Counts, task: Task) -> npt.NDArray[np.bool_]:
    """Return which classes have a contour in the labels; (n, C, 3) → (C,). Binary: only the foreground's."""
    has_contour = find_present_classes(boundary)
    has_contour[: RULES[task].first_channel] = False
    return has_contour


def find_classes_with_centreline(centreline: Counts) -> npt.NDArray[np.bool_]:
    """Return which classes have a centre line in the labels; (n, C, 4) → (C,)."""
    has_centreline: npt.NDArray[np.bool_] = centreline[..., 3].sum(axis=0) > 0
    return has_centreline


def compute_detail_scores(detail: TestDetail, task: Task | None = None) -> dict[str, float]:
    """Compute boundary IoU and clDice (means over the classes with contours, or measured centre lines).

    Keys `boundary_iou`, `cldice`; an undefined one is left out. Values in 0–1.
    """
    boundary, centreline = detail.boundary.astype(np.int64), detail.centreline.astype(np.int64)
    contours = find_classes_with_contour(boundary, task or guess_task(boundary.shape[1]))
    lines = find_classes_with_centreline(centreline)
    scores = {}
    if contours.any():
        scores["boundary_iou"] = float(average_classes(compute_iou(boundary.sum(axis=0)), contours))
    if lines.any():
        scores["cldice"] = float(average_classes(compute_cldice(centreline.sum(axis=0)), lines))
    return scores
