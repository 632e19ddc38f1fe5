"""The imbalance fingerprint of a data set's labels: how rare, small and thin its classes are, and the consequences."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sweeper.core.contours import THIN_PIXELS, find_near_boundary
from sweeper.core.errors import UsageError
from sweeper.core.label_parts import label_components
from sweeper.core.label_planes import LabelMap, get_ignored_label, list_layers
from sweeper.core.records import IGNORE, ClassProfile, Dataset, ImbalanceProfile
from sweeper.data.store import count_labels, open_store
from sweeper.losses.coordinates import compute_frequency_weights


def profile_dataset(dataset: Dataset) -> ImbalanceProfile:
    """Profile all labels of a data set, from its store.

    Raises:
        SweeperError: if the store is missing.
    """
    store = open_store(dataset.store)
    masks = map(store.get_mask, store.walk_indices())
    return profile_masks(masks, dataset.classes, has_planes=dataset.planes > 0)


def profile_masks(masks: Iterable[LabelMap], classes: Sequence[str], *, has_planes: bool = False) -> ImbalanceProfile:
    """Profile label masks.

    Args:
        masks: (H, W) each, class indices below `len(classes)` or bits of classes, and the ignored label; sizes may
            differ.
        classes: names, in index order; two make a binary task.
        has_planes: whether the masks hold bits of classes.

    Raises:
        UsageError: if fewer than two classes occur, so that the imbalance is undefined.
    """
    planes, first = len(classes) * has_planes, int(has_planes)
    pixels, thin, occurs = np.zeros((3, 256), dtype=np.int64)
    sizes = defaultdict[int, list[npt.NDArray[np.int64]]](list)
    images = empty = ignored = area = covered = shared = 0
    for labels in masks:
        here = np.zeros(256, dtype=np.int64)
        for layer in list_layers(labels, planes):
            counts = count_labels(layer)
            here += counts
            thin += count_labels(layer[find_near_boundary(layer)])
            for label in np.flatnonzero(counts[first:IGNORE]) + first:
                sizes[int(label)].append(np.bincount(label_components(layer == label)[0].ravel())[1:])
        images += 1
        area += labels.size
        ignored += int(counts[IGNORE])
        empty += not here[1:IGNORE].any()
        pixels += here
        occurs += here > 0
        several = labels[labels != get_ignored_label(labels.dtype)]
        covered += int(np.count_nonzero(several))
        shared += int(np.count_nonzero(several & (several - 1)))
    labelled = area - ignored
    pixels, thin, occurs = (values[first : first + len(classes)] for values in (pixels, thin, occurs))
    imbalance = compute_imbalance(_list_compared(pixels, labelled, has_planes=has_planes))
    weights, overlap = compute_frequency_weights(pixels.tolist(), 1), None
    if has_planes:
        weights, overlap = tuple((labelled - int(n)) / max(1, int(n)) for n in pixels), shared / max(1, covered)
    pos_weight = imbalance if len(classes) + has_planes == 2 else None
    alpha = None if pos_weight is None else pos_weight / (1 + pos_weight)
    return ImbalanceProfile(
        images=images,
        labelled_pixels=labelled,
        ignored_share=ignored / area,
        overlap=overlap,
        empty_images=empty,
        classes=tuple(
            ClassProfile(
                name=name,
                pixel_share=int(pixels[i]) / labelled,
                image_share=int(occurs[i]) / images,
                components=sum(len(part) for part in sizes[i + first]),
                component_pixels=_compute_percentiles(sizes[i + first]),
                thinness=int(thin[i]) / int(pixels[i]) if pixels[i] else None,
            )
            for i, name in enumerate(classes)
        ),
        imbalance=imbalance,
        pos_weight=pos_weight,
        alpha=alpha,
        class_weights=weights,
    )


def measure_imbalance(dataset: Dataset, images: tuple[int, ...]) -> float:
    """Return the imbalance of these images: background / rarest class if classes overlap, or `compute_imbalance`."""
    pixels, labelled = dataset.count_class_pixels(images), dataset.count_labelled_pixels(images)
    return compute_imbalance(_list_compared(pixels, labelled, has_planes=dataset.planes > 0))


def _list_compared(pixels: npt.NDArray[np.int64], labelled: int, *, has_planes: bool) -> npt.NDArray[np.int64]:
    """Return the pixels of the classes, or, if these overlap, the pixels without the rarest of them, and with it."""
    rarest = int(min(pixels[pixels > 0], default=0))
    return np.array([labelled - rarest, rarest]) if has_planes else pixels


def compute_imbalance(class_pixels: Sequence[float] | npt.NDArray[np.int64]) -> float:
    """Return background / foreground pixels (binary), else most common / rarest of the classes that occur.

    `class_pixels`: (C,) labelled pixels or shares, ≥ 0.

    Raises:
        UsageError: if fewer than two classes occur.
    """
    pixels = np.asarray(class_pixels, dtype=np.float64)
    occurring = pixels[pixels > 0]
    if len(occurring) < 2:
        raise UsageError(
            f"imbalance needs pixels of at least two classes, found {[int(n) for n in pixels]}; "
            "give the training split images that show another class"
        )
    return float(pixels[0] / pixels[1] if len(pixels) == 2 else occurring.max() / occurring.min())


class RarestClass(NamedTuple):
    """The rarest class that occurs."""

    rarest: str
    """Its name."""
    share: float
    """Of the labelled pixels, 0–1."""
    ratio: float
    """Pixels of the most common class, or of its own background if classes overlap, for one of its own."""


def find_rarest_class(pixels: Mapping[str, float], labelled: float | None = None) -> RarestClass:
    """Find the rarest of the classes that occur, by pixels or shares; one at least must.

    `labelled` are all labelled pixels where classes overlap.
    """
    occurring = {name: number for name, number in pixels.items() if number > 0}
    rarest, number = min(occurring.items(), key=lambda one: one[1])
    others = (sum(occurring.values()), max(occurring.values()))
    whole, most = others if labelled is None else (labelled, labelled - number)
    return RarestClass(rarest, number / whole, most / number)


def explain_consequences(profile: ImbalanceProfile) -> tuple[str, ...]:
    """Explain the imbalance's consequences in sentences with numbers."""
    occurring = [c for c in profile.classes if c.pixel_share > 0]
    common = max(occurring, key=lambda c: c.pixel_share)
    name, share, score = common.name, common.pixel_share, common.pixel_share / len(occurring)
    if profile.overlap is not None:  # each class has a background of its own
        name, share, score = "background", 1 - fmean(c.pixel_share for c in occurring), 0.0
    sentences = [f"Predicting only {name} would score {100 * share:.1f} % pixel accuracy and {score:.3f} mIoU."]
    foreground = [c for c in profile.classes[int(profile.overlap is None) :] if c.pixel_share > 0]
    thinnest = max(foreground, key=lambda c: c.thinness or 0.0)
    if (thinnest.thinness or 0.0) >= 0.8:
        sentences.append(
            f"{100 * (thinnest.thinness or 0.0):.0f} % of the pixels of {thinnest.name} lie within {THIN_PIXELS} "
            "pixels of its boundary: labels one pixel off cost much of its IoU, whatever the loss."
        )
    return tuple(sentences)


def _compute_percentiles(sizes: Sequence[npt.NDArray[np.int64]]) -> tuple[float, float, float] | None:
    """Return the 10th, 50th and 90th percentile of all sizes together."""
    if not sizes:
        return None
    low, median, high = np.percentile(np.concatenate(sizes), [10, 50, 90])
    return float(low), float(median), float(high)
