"""The imbalance fingerprint of a data set's labels: how rare, small and thin its classes are, and the consequences."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from sweeper.core.contours import THIN_PIXELS, find_near_boundary
from sweeper.core.errors import UsageError
from sweeper.core.label_parts import label_components
from sweeper.core.records import IGNORE, ClassProfile, Dataset, ImbalanceProfile
from sweeper.data.store import open_store
from sweeper.losses.coordinates import compute_frequency_weights

Mask = npt.NDArray[np.uint8]


def profile_dataset(dataset: Dataset) -> ImbalanceProfile:
    """Profile all labels of a data set, from its store.

    Raises:
        SweeperError: if the store is missing.
    """
    store = open_store(dataset.store)
    return profile_masks(map(store.get_mask, store.walk_indices()), dataset.classes)


def profile_masks(masks: Iterable[Mask], classes: Sequence[str]) -> ImbalanceProfile:
    """Profile label masks.

    Args:
        masks: (H, W) uint8 each, class indices below `len(classes)`, or 255 = ignore; sizes may differ.
        classes: names, in index order; two make a binary task.

    Raises:
        UsageError: if fewer than two classes occur, so that the imbalance is undefined.
    """
    count = len(classes)
    pixels = np.zeros(count, dtype=np.int64)
    thin = np.zeros(count, dtype=np.int64)
    occurs = np.zeros(count, dtype=np.int64)
    sizes: list[list[npt.NDArray[np.int64]]] = [[] for _ in classes]
    images = empty = ignored = 0
    for mask in masks:
        counts = np.bincount(mask.ravel(), minlength=256)
        images += 1
        ignored += int(counts[IGNORE])
        empty += not counts[1:count].any()
        pixels += counts[:count]
        occurs += counts[:count] > 0
        thin += np.bincount(mask[find_near_boundary(mask)], minlength=256)[:count]
        for label in np.flatnonzero(counts[:count]):
            sizes[int(label)].append(np.bincount(label_components(mask == label)[0].ravel())[1:])
    labelled = int(pixels.sum())
    imbalance = compute_imbalance(pixels)
    binary = count == 2
    return ImbalanceProfile(
        images=images,
        labelled_pixels=labelled,
        ignored_share=ignored / (labelled + ignored),
        empty_images=empty,
        classes=tuple(
            ClassProfile(
                name=name,
                pixel_share=int(pixels[i]) / labelled,
                image_share=int(occurs[i]) / images,
                components=sum(len(part) for part in sizes[i]),
                component_pixels=_compute_percentiles(sizes[i]),
                thinness=int(thin[i]) / int(pixels[i]) if pixels[i] else None,
            )
            for i, name in enumerate(classes)
        ),
        imbalance=imbalance,
        pos_weight=imbalance if binary else None,
        alpha=imbalance / (1 + imbalance) if binary else None,
        class_weights=compute_frequency_weights(pixels.tolist(), 1),
    )


def compute_imbalance(class_pixels: Sequence[int] | npt.NDArray[np.int64]) -> float:
    """Return background / foreground pixels (binary), else most common / rarest of the classes that occur.

    `class_pixels`: (C,) labelled pixels, ≥ 0.

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


def explain_consequences(profile: ImbalanceProfile) -> tuple[str, ...]:
    """Explain the imbalance's consequences in sentences with numbers."""
    occurring = [c for c in profile.classes if c.pixel_share > 0]
    common = max(occurring, key=lambda c: c.pixel_share)
    rare = min(occurring, key=lambda c: c.pixel_share)
    sentences = [
        f"Predicting only {common.name} would score {100 * common.pixel_share:.1f} % pixel accuracy and "
        f"{common.pixel_share / len(occurring):.3f} mIoU"
        + (": pixel accuracy says little here." if common.pixel_share >= 0.6 else ".")
    ]
    ratio = common.pixel_share / rare.pixel_share
    if ratio >= 3:
        sentences.append(
            f"One pixel of {rare.name} stands against {ratio:.1f} of {common.name}: in an unweighted "
            f"cross-entropy {common.name} decides most of the loss."
        )
    else:
        sentences.append("The classes are nearly balanced.")
    foreground = occurring[1:] if profile.classes[0] in occurring else occurring
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
