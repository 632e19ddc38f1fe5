"""What the doctor measures on each image, alone: small records, so that any number of images fits in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sweeper.core.records import Dataset
from sweeper.data.parallel import in_order
from sweeper.data.shrink import coverage
from sweeper.data.store import open_store, pixel_hash
from sweeper.data.tiff import turned
from sweeper.fingerprint.label_checks.edges import Bytes, Fit, edge_fit

THUMBNAIL = 32
"""Side of the shrunk image that looks are compared on."""

Thumbnail = npt.NDArray[np.float16]
"""(32, 32), mean 0 and norm 1; all zero for an image of one colour."""


class ImageFeatures(NamedTuple):
    """One image's measurements."""

    image_digest: str
    mask_digest: str
    fit: Fit | None
    thumbnail: Thumbnail
    flat: bool
    """Whether all its pixels have one colour."""
    before: Fit | None = None
    """Of the mask as if it were drawn before the turn of the image's EXIF orientation, where that is open."""


def measure_all(
    dataset: Dataset, workers: int = 2, tick: Callable[[int, int], None] | None = None
) -> list[ImageFeatures]:
    """Measure every image on a few threads (filters, transforms and hashes run beside each other).

    Args:
        dataset: its store is read.
        workers: threads; each holds one image at a time.
        tick: called with (done, total) after each image.

    Raises:
        SweeperError: if the store is gone.
    """
    store = open_store(dataset.store)
    total = len(store)
    features = []

    def measured(index: int) -> ImageFeatures:
        image, mask = store.view(index), store.mask(index)
        turn = dataset.images[index].open_turn
        return ImageFeatures(
            image_digest=pixel_hash(image),
            mask_digest=pixel_hash(mask),
            fit=edge_fit(image, mask),
            before=edge_fit(image, turned(mask, turn)) if turn > 1 else None,
            thumbnail=thumbnail(image),
            flat=bool((image == image[:1, :1]).all()),
        )

    for index, one in zip(store.walk(), in_order(measured, range(total), workers), strict=True):
        features.append(one)
        if tick is not None:
            tick(index + 1, total)
    return features


def thumbnail(image: Bytes) -> Thumbnail:
    """The image shrunk to 32 × 32 means of grey, of mean 0 and norm 1; its shape is not kept."""
    rows, columns = (coverage(side, THUMBNAIL) for side in image.shape[:2])
    small = (columns @ (rows @ image.mean(axis=2, dtype=np.float32)).T).T / (image.shape[0] * image.shape[1])
    small -= small.mean()
    norm = float(np.linalg.norm(small))
    result: Thumbnail = (small / norm if norm > 1e-6 * THUMBNAIL else np.zeros_like(small)).astype(np.float16)
    return result
