"""Images that show the same: a perceptual hash proposes pairs, the correlation of thumbnails decides.

The hash is the usual one of low frequencies (Zauner 2010, "Implementation and benchmarking of perceptual image hash
functions"): the 8 × 8 lowest coefficients of a cosine transform, each above or below their median. All hashes are
compared at once: as ±1, their scalar product counts the bits that agree.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.fft import dctn
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from sweeper.fingerprint.label_checks.measure import Thumbnail

BITS = 14
"""Hashes of 63 bits that differ in at most this many may be the same view."""
ALIKE = 0.95
"""Correlation of two thumbnails from which on they are."""
_LOW = 8
_BLOCK = 512

Hashes = npt.NDArray[np.float32]
_TURNS = ("", "turned by 90°", "turned by 180°", "turned by 270°", "mirrored", *["mirrored and turned"] * 3)


class Pair(NamedTuple):
    """Two images that look alike."""

    first: int
    second: int
    correlation: float
    how: str
    """How the second must be turned or mirrored; empty = it need not."""


def look_alikes(thumbnails: Sequence[Thumbnail]) -> list[Pair]:
    """All pairs (first < second) whose views correlate by `ALIKE` or more, in any of the eight orientations.

    Images of one colour, whose thumbnails are all zero, look like nothing.

    Args:
        thumbnails: (32, 32) each, mean 0, norm 1. 20,000 of them take some seconds.
    """
    if len(thumbnails) < 2:
        return []
    views = np.stack(thumbnails)
    plain = _hashes(views)
    pairs: dict[tuple[int, int], Pair] = {}
    for turn, how in enumerate(_TURNS):
        turned = _turned(views, turn)
        for first, second in _near(plain, plain if turn == 0 else _hashes(turned)):
            correlation = float((views[first].astype(np.float32) * turned[second]).sum())
            key = (first, second)
            if correlation >= ALIKE and (key not in pairs or correlation > pairs[key].correlation + 1e-3):
                pairs[key] = Pair(first, second, min(1.0, correlation), how)
    return [pairs[key] for key in sorted(pairs)]


def clusters(pairs: Sequence[Pair]) -> list[tuple[int, ...]]:
    """Images that are joined by pairs, directly or through others; each ascending, in the order of their first."""
    ends = np.array([(pair.first, pair.second) for pair in pairs], dtype=np.int64).reshape(-1, 2)
    images, places = np.unique(ends, return_inverse=True)
    first, second = places.reshape(-1, 2).T
    joined = coo_array((np.ones(len(ends)), (first, second)), shape=(len(images), len(images)))
    number, cluster_of = connected_components(joined, directed=False)
    return sorted(tuple(map(int, images[cluster_of == cluster])) for cluster in range(number))


def _turned(views: npt.NDArray[np.float16], turn: int) -> npt.NDArray[np.float16]:
    mirrored = views[:, :, ::-1] if turn >= 4 else views
    return np.rot90(mirrored, turn % 4, axes=(1, 2))


def _hashes(views: npt.NDArray[np.float16]) -> Hashes:
    """(n, 32, 32) → (n, 63) of ±1: the constant coefficient, 0 here, is left out; a view of one colour is all 0."""
    found = np.empty((len(views), _LOW * _LOW - 1), dtype=np.float32)
    for start in range(0, len(views), _BLOCK):
        block = views[start : start + _BLOCK].astype(np.float32)
        low = dctn(block, axes=(1, 2), norm="ortho")[:, :_LOW, :_LOW].reshape(len(block), -1)[:, 1:]
        bits = np.where(low > np.median(low, axis=1, keepdims=True), 1, -1)
        coloured = np.abs(block).max(axis=(1, 2)) > 0
        found[start : start + _BLOCK] = np.where(coloured[:, None], bits, 0)
    return found


def _near(first: Hashes, second: Hashes) -> Iterator[tuple[int, int]]:
    """Index pairs (i, j), i < j, whose hashes are near. The eight orientations hold their inverses, so none is lost."""
    least = first.shape[1] - 2 * BITS
    for start in range(0, len(first), _BLOCK):
        agreement = first[start : start + _BLOCK] @ second[start:].T
        for i, j in zip(*np.nonzero(agreement >= least), strict=True):
            if i < j:
                yield int(i) + start, int(j) + start
