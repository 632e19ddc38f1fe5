"""Balanced crops: a third of each batch is centred on a pixel of a class drawn evenly from the classes of its image.

Patches are drawn as in nnU-Net (Isensee et al. 2021): first the image, so that all images are seen equally often; then
one of its classes, never the background; then a pixel of this class. The background is class 0 of two, else the most
common class. The pixel is in the middle of the crop, or as near to it as the image's edges allow. The last crops of a
batch are balanced; in an image with only background, they are drawn uniformly.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from sweeper.core.records import Dataset
from sweeper.data.store import Pixels, PixelStore

Weights = npt.NDArray[np.float64]

SHARE = 0.33
"""Share of a batch, rounded as nnU-Net rounds it: 3 of 8, 5 of 16."""
COUNTED_CROPS = 1000
"""Crops per image for which pixels are counted, so that whole numbers hold thousandths of a pixel."""


def is_any_larger(size: int, dataset: Dataset) -> bool:
    """Return whether any image is larger than the crop; otherwise each crop is its whole image."""
    return any(max(image.height, image.width) > size for image in dataset.images)


def count_balanced(batch_size: int) -> int:
    """Return how many crops of a batch are balanced, at least one; these come last."""
    return max(1, batch_size - round(batch_size * (1 - SHARE)))


def list_central_classes(dataset: Dataset) -> tuple[tuple[int, ...], ...]:
    """Return for each image the classes on which a crop can be centred, ascending; () for an image of background."""
    background = 0 if dataset.task == "binary" else int(dataset.count_class_pixels().argmax())
    return tuple(
        tuple(label for label, pixels in enumerate(image.pixels) if pixels and label != background)
        for image in dataset.images
    )


def find_corner_around(
    mask: Pixels, classes: Sequence[int], draws: npt.NDArray[np.float64], size: int
) -> tuple[int, int]:
    """Return top and left of a crop with a pixel of a class in its middle, within the image.

    Args:
        mask: (H, W) uint8, labels of the image.
        classes: labels that occur in the image, at least one; each is equally likely.
        draws: (2,) in [0, 1): which of the classes, and which of its pixels.
        size: side of the crop in pixels.
    """
    label = classes[int(draws[0] * len(classes))]
    places = np.flatnonzero(mask == label)
    middle = divmod(int(places[int(draws[1] * len(places))]), mask.shape[1])
    top, left = (min(max(0, at - size // 2), max(0, side - size)) for at, side in zip(middle, mask.shape, strict=True))
    return top, left


def estimate_pixels_in_crops(
    dataset: Dataset, store: PixelStore, size: int, batch_size: int
) -> tuple[tuple[int, ...], ...]:
    """Return the expected labelled pixels of each class in `COUNTED_CROPS` crops of each image.

    They are computed from the probability that a crop contains each pixel, without drawing. Augmentation is left out.

    Args:
        dataset: images.
        store: their decoded labels.
        size: side of the crops in pixels.
        batch_size: crops in a batch, of which `count_balanced(batch_size)` are balanced.
    """
    share = count_balanced(batch_size) / batch_size
    estimates = []
    for index, central in zip(store.walk_indices(), list_central_classes(dataset), strict=True):
        mask = store.get_mask(index)
        seen = _compute_pixel_chances(mask, central, size, share if central else 0.0)
        pixels = np.bincount(mask.ravel(), weights=seen.ravel(), minlength=256)[: len(dataset.classes)]
        estimates.append(tuple(int(n) for n in (COUNTED_CROPS * pixels).round()))
    return tuple(estimates)


def _compute_pixel_chances(mask: Pixels, classes: Sequence[int], size: int, share: float) -> Weights:
    """Compute the probability, (H, W), that a crop contains each pixel if a `share` of the crops is balanced."""
    rows, columns = (max(0, side - size) + 1 for side in mask.shape)
    corners: Weights = np.full((rows, columns), (1 - share) / (rows * columns))
    if share:
        likely = np.zeros(256)
        for label in classes:
            likely[label] = 1 / (len(classes) * np.count_nonzero(mask == label))
        middles = likely[mask]
        for axis in (0, 1):
            middles = _compute_corner_chances(middles, axis, size)
        corners += share * middles
    for axis, side in enumerate(mask.shape):
        corners = _compute_cover_chances(corners, axis, side, size)
    return corners


def _compute_corner_chances(middles: Weights, axis: int, size: int) -> Weights:
    """Return the probability that a crop begins at each place along an axis, from those of its middle."""
    side = middles.shape[axis]
    # All middles within half a crop of an edge give a crop at that edge.
    inner = np.arange(size // 2 + 1, size // 2 + 1 + max(0, side - size))
    return np.add.reduceat(middles, np.concatenate([[0], inner]), axis=axis)


def _compute_cover_chances(corners: Weights, axis: int, side: int, size: int) -> Weights:
    """Return the probability that a crop covers each place along an axis, from those of its corner."""
    missing = [(0, side - corners.shape[axis]) if each == axis else (0, 0) for each in (0, 1)]
    begun = np.moveaxis(np.pad(corners, missing).cumsum(axis=axis), axis, 0)
    covered = begun.copy()
    covered[size:] -= begun[:-size] if size < side else 0
    return np.moveaxis(covered, 0, axis)
