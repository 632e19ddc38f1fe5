"""Shrink images by exact area average, and masks by the label that covers most of each new pixel.

All sums are of integers, so that the pixels, and thus the digest of a set, are the same on every machine.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from sweeper.core.records import IGNORE
from sweeper.data.store import ImagePixels, Pixels

Size = tuple[int, int]
_BLOCK = 1 << 22
"""Pixels summed at a time, as numbers of eight bytes."""


def compute_shrunk_size(height: int, width: int, short_side: int) -> Size:
    """Return (height, width) with the shorter side `short_side` and the aspect kept, rounded half up; never larger."""
    shorter, longer = sorted((height, width))
    if shorter <= short_side:
        return height, width
    other = (2 * longer * short_side + shorter) // (2 * shorter)
    return (short_side, other) if height == shorter else (other, short_side)


def shrink_image(image: ImagePixels, size: Size) -> ImagePixels:
    """Return the area-weighted mean of the pixels that each new pixel covers, rounded half up: no aliasing.

    Args:
        image: (H, W, channels) uint8 or uint16.
        size: new height and width, at least 1 and at most H and W.

    Returns:
        (*size, channels) of the same dtype.
    """
    height, width, channels = image.shape
    area = height * width
    small: ImagePixels = np.empty((*size, channels), dtype=image.dtype)
    for channel in range(channels):
        small[:, :, channel] = (2 * _sum_covered(image[:, :, channel], size) + area) // (2 * area)
    return small


def shrink_mask(mask: Pixels, size: Size) -> Pixels:
    """Return the label that covers most of each new pixel.

    In a tie, the class with fewer pixels in this mask wins, so that thin structures survive halving; "no label" (255)
    always loses. (The nearest label would keep a class's share, but break thin structures into specks that the image
    does not show.)

    Args:
        mask: (H, W) uint8 labels.
        size: new height and width, at least 1 and at most H and W.
    """
    counts = np.bincount(mask.ravel(), minlength=256)
    present = sorted(map(int, np.flatnonzero(counts)), key=lambda label: (label == IGNORE, counts[label]))
    small: Pixels = np.full(size, present[0], dtype=np.uint8)
    most = np.full(size, -1, dtype=np.int64)
    for label in present if len(present) > 1 else ():
        covered = _sum_covered(mask == label, size)
        wins = covered > most
        small[wins] = label
        most[wins] = covered[wins]
    return small


def enlarge_mask(small: Pixels, size: Size) -> Pixels:
    """Return for each old pixel the label of the new pixel at its centre: the inverse of `shrink_mask`."""
    rows, columns = ((2 * np.arange(old) + 1) * new // (2 * old) for old, new in zip(size, small.shape, strict=True))
    large: Pixels = small[rows[:, None], columns]
    return large


def _sum_covered(plane: npt.NDArray[np.uint8 | np.uint16 | np.bool_], size: Size) -> npt.NDArray[np.int64]:
    """Return Σ value · covered area for each new pixel, in units in which its area is H · W; (H, W) → size."""
    height, width = plane.shape
    rows, columns = compute_coverage(height, size[0]), compute_coverage(width, size[1])
    step = max(1, _BLOCK // height)
    halves = [rows @ plane[:, start : start + step].astype(np.int64) for start in range(0, width, step)]
    sums: npt.NDArray[np.int64] = (columns @ np.concatenate(halves, axis=1).T).T
    return sums


@lru_cache(maxsize=64)
def compute_coverage(old: int, new: int) -> csr_array:
    """Return how much of each old pixel each new one covers along a side, (new, old) int64; rows sum to old.

    A side is old · new units long: an old pixel takes `new` units, a new one `old`.
    """
    cuts = np.unique(np.concatenate([np.arange(new + 1) * old, np.arange(old + 1) * new]))
    start = cuts[:-1]
    return csr_array((np.diff(cuts), (start // old, start // new)), shape=(new, old))
