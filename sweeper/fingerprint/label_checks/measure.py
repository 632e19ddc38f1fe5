"""The label doctor's measurements of each image: small records, so that any number of images fits in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sweeper.core.records import Dataset
from sweeper.data.open_image import turn_upright
from sweeper.data.parallel import map_in_order
from sweeper.data.store import compute_pixel_hash, open_store
from sweeper.data.variants import compute_coverage
from sweeper.fingerprint.label_checks.edges import Bytes, EdgeFit, QuarterTurn, measure_edge_fit, measure_quarter_turn

THUMBNAIL = 32
"""Side in pixels of the thumbnails for finding near-duplicates."""

Thumbnail = npt.NDArray[np.float16]
"""(32, 32), mean 0 and norm 1; all zero for an image of one colour."""


class ImageFeatures(NamedTuple):
    """One image's measurements."""

    image_digest: str
    mask_digest: str
    fit: EdgeFit | None
    thumbnail: Thumbnail
    flat: bool
    """Whether all pixels have one colour."""
    before: EdgeFit | None = None
    """Fit of the mask as if drawn before the image's EXIF rotation; None if that is ruled out, or as for `fit`."""
    turn: QuarterTurn | None = None
    """Turn by which a mask that does not fit would fit."""


def measure_all(
    dataset: Dataset, workers: int = 2, tick: Callable[[int, int], None] | None = None
) -> list[ImageFeatures]:
    """Measure every image on a few threads (filters, transforms and hashes run in parallel).

    Each thread has one image at a time in memory. `tick` is called with (done, total) after each image.

    Raises:
        SweeperError: if the store is missing.
    """
    store = open_store(dataset.store)
    total = len(store)
    features = []

    def measured(index: int) -> ImageFeatures:
        image, mask = store.get_view(index), store.get_mask(index)
        turn, fit = dataset.images[index].open_turn, measure_edge_fit(image, mask)
        turned = measure_quarter_turn(image, mask, fit) if turn == 1 else None
        before = measure_edge_fit(image, turn_upright(mask, turn)) if turn > 1 else None
        return ImageFeatures(
            image_digest=compute_pixel_hash(image),
            mask_digest=compute_pixel_hash(mask),
            fit=fit,
            turn=turned,
            before=before,
            thumbnail=make_thumbnail(image),
            flat=bool((image == image[:1, :1]).all()),
        )

    for index, one in zip(store.walk_indices(), map_in_order(measured, range(total), workers), strict=True):
        features.append(one)
        if tick is not None:
            tick(index + 1, total)
    return features


def make_thumbnail(image: Bytes) -> Thumbnail:
    """Shrink an image to 32 × 32 grey means, with mean 0 and norm 1; the aspect ratio is not kept."""
    rows, columns = (compute_coverage(side, THUMBNAIL) for side in image.shape[:2])
    small = (columns @ (rows @ image.mean(axis=2, dtype=np.float32)).T).T / (image.shape[0] * image.shape[1])
    small -= small.mean()
    norm = float(np.linalg.norm(small))
    result: Thumbnail = (small / norm if norm > 1e-6 * THUMBNAIL else np.zeros_like(small)).astype(np.float16)
    return result
