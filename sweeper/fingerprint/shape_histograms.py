"""How large and how deep the things of each class are: histograms for the profile page."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy import ndimage

from sweeper.core.base import Record
from sweeper.core.contours import Mask, near_boundary
from sweeper.core.records import IGNORE, Dataset
from sweeper.data.parallel import in_order
from sweeper.data.store import open_store
from sweeper.fingerprint.label_checks.measure import FORGET

SIZE_BINS = 24
"""Bins of component sizes: bin b holds 2^b to 2^(b+1) − 1 pixels, the last one all above."""
DEPTHS = (2, 4, 8, 16)
"""Upper ends in pixels of the bins of depth; a fifth bin holds what lies deeper."""
_EIGHT = np.ones((3, 3), dtype=np.int8)


class ClassShapes(Record):
    """Histograms of one class over a whole data set."""

    sizes: tuple[int, ...]
    """(SIZE_BINS,) connected components (8-neighbourhood) by their pixels."""
    depths: tuple[int, ...]
    """(len(DEPTHS) + 1,) pixels by their distance to another class: at most 2, 4, 8, 16 pixels, and more."""
    components: int
    """How many components there are."""


def measure_shapes(
    dataset: Dataset, workers: int = 2, tick: Callable[[int, int], None] | None = None
) -> tuple[ClassShapes, ...]:
    """Histograms of each class, from the store; one image per thread is held at a time.

    Raises:
        SweeperError: if the store is gone.
    """
    store, classes = open_store(dataset.store), len(dataset.classes)
    sizes = np.zeros((classes, SIZE_BINS), dtype=np.int64)
    depths = np.zeros((classes, len(DEPTHS) + 1), dtype=np.int64)
    of_mask = in_order(lambda index: shapes_of(store.mask(index), classes), range(len(store)), workers)
    for number, (own_sizes, own_depths) in enumerate(of_mask, 1):
        sizes += own_sizes
        depths += own_depths
        if number % FORGET == 0:
            store.forget()
        if tick is not None:
            tick(number, len(store))
    return tuple(
        ClassShapes(sizes=tuple(map(int, s)), depths=tuple(map(int, d)), components=int(s.sum()))
        for s, d in zip(sizes, depths, strict=True)
    )


def shapes_of(mask: Mask, classes: int) -> tuple[np.ndarray, np.ndarray]:
    """The two histograms of one mask, (classes, SIZE_BINS) and (classes, len(DEPTHS) + 1), int64.

    Depth is 1 for a pixel with a neighbour (of four) of another class. Neither the image's edge nor an ignored pixel
    is a boundary.
    """
    sizes = np.zeros((classes, SIZE_BINS), dtype=np.int64)
    depths = np.zeros((classes, len(DEPTHS) + 1), dtype=np.int64)
    edge = near_boundary(mask, 1)
    if edge.any():
        depth = 1.0 + ndimage.distance_transform_edt(~edge)
        bins = np.searchsorted(np.array(DEPTHS, dtype=np.float64), depth.ravel(), side="left")
    else:
        bins = np.full(mask.size, len(DEPTHS))
    # What lies that near across unlabelled pixels, too: the first bin is the profile's thinness.
    bins[near_boundary(mask, DEPTHS[0]).ravel()] = 0
    known = mask.ravel() != IGNORE
    np.add.at(depths, (mask.ravel()[known], bins[known]), 1)
    for label in np.flatnonzero(np.bincount(mask.ravel(), minlength=256)[: min(classes, IGNORE)]):
        pieces, _ = ndimage.label(mask == label, structure=_EIGHT)
        pixels = np.bincount(pieces.ravel())[1:]
        sizes[label] = np.bincount(np.minimum(np.log2(pixels).astype(np.int64), SIZE_BINS - 1), minlength=SIZE_BINS)
    return sizes, depths
