"""Images that occur more than once: the same pixels, or the same view.

Of views a perceptual hash proposes pairs, and the correlation of thumbnails decides. The hash is the usual one of low
frequencies (Zauner 2010, "Implementation and benchmarking of perceptual image hash functions"): the 8 × 8 lowest
coefficients of a cosine transform, each above or below their median. All hashes are compared at once: as ±1, their
scalar product counts the bits that agree.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.fft import dctn
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from sweeper.core.records import Dataset
from sweeper.data.label_values import some
from sweeper.fingerprint.label_checks.finding import Finding, Severity
from sweeper.fingerprint.label_checks.measure import ImageFeatures, Thumbnail

BITS = 14
"""Hashes of 63 bits that differ in at most this many may be the same view."""
ALIKE = 0.95
"""Correlation of two thumbnails from which on they are."""
SHOWN = 5
"""Sets of look-alikes that a text names."""
_LOW = 8
_BLOCK = 512

Hashes = npt.NDArray[np.float32]
_TURNS = ("", "turned by 90°", "turned by 180°", "turned by 270°", "mirrored", *["mirrored and turned"] * 3)


_LOOK_ALIKE = {
    "across": (
        Severity.WARNING,
        "look alike on different sides of the given split",
        "Scores on these are too high; put each set on one side.",
    ),
    "loose": (
        Severity.WARNING,
        "look alike and have no common group",
        "They may come to lie on two sides of a split, and scores would be too high; give each set one group in "
        "split.csv.",
    ),
    "kept": (
        Severity.NOTE,
        "look alike but stay on one side of the split",
        "They do not leak, but teach less than their number says.",
    ),
}
"""Where pairs lie → how much that matters, and the words around their names."""


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


def repeated_images(dataset: Dataset, features: Sequence[ImageFeatures]) -> Iterator[Finding]:
    """Images with the same pixels; worst where their labels differ or they lie on two sides of a given split."""
    same: dict[str, list[int]] = defaultdict(list)
    for index, one in enumerate(features):
        if not one.flat:
            same[one.image_digest].append(index)
    for members in same.values():
        if len(members) < 2:
            continue
        stems = tuple(dataset.images[i].stem for i in members)
        labels = len({features[i].mask_digest for i in members})
        sides = sorted({side for i in members if (side := dataset.images[i].split) is not None})
        severity, what = Severity.ERROR, f"but {labels} different masks: keep the right one"
        if labels == 1 and len(sides) > 1:
            what = (
                f"on {len(sides)} sides of the given split ({', '.join(sides)}), so that scores are too high: keep one"
            )
        elif labels == 1 and (sides or _one_group(dataset, members)):
            severity, what = Severity.NOTE, "and stay on one side of the split; they count more than others"
        elif labels == 1:
            severity = Severity.WARNING
            what = "and may come to lie on two sides of a split: keep one, or give them one group in split.csv"
        yield Finding(
            kind="repeated_image",
            severity=severity,
            text=f"{some(stems)} have the same pixels {what}.",
            images=stems,
        )


def look_alike_findings(dataset: Dataset, features: Sequence[ImageFeatures]) -> Iterator[Finding]:
    """Near-duplicates, summarised: across given sides, loose (no side, no common group), and where they do no harm."""
    pairs = [
        pair
        for pair in look_alikes([one.thumbnail for one in features])
        if features[pair.first].image_digest != features[pair.second].image_digest
    ]
    kinds: dict[str, list[Pair]] = defaultdict(list)
    for pair in pairs:
        members = (pair.first, pair.second)
        given = [dataset.images[i].split for i in members]
        if None not in given and given[0] != given[1]:
            kinds["across"].append(pair)
        elif _one_group(dataset, members) or (None not in given):
            kinds["kept"].append(pair)
        else:
            kinds["loose"].append(pair)
    for kind, words in _LOOK_ALIKE.items():
        if found := kinds[kind]:
            yield _summary(dataset, found, *words)


def _summary(dataset: Dataset, pairs: Sequence[Pair], severity: Severity, begin: str, end: str) -> Finding:
    """One finding for any number of pairs: sets of images, the largest few by name."""
    sets = sorted(clusters(pairs), key=lambda members: -len(members))
    turned = Counter(pair.how for pair in pairs if pair.how)
    named = "; ".join(some([dataset.images[i].stem for i in members], 3) for members in sets[:SHOWN])
    more = f" and {len(sets) - SHOWN} more sets" if len(sets) > SHOWN else ""
    flipped = "".join(f"; {number} of the pairs {how}" for how, number in turned.most_common())
    stems = tuple(sorted({dataset.images[i].stem for members in sets for i in members}))
    in_sets = "1 set" if len(sets) == 1 else f"{len(sets)} sets"
    return Finding(
        kind="look_alike",
        severity=severity,
        text=f"{len(stems)} images in {in_sets} {begin}: {named}{more}{flipped}. {end}",
        images=stems,
    )


def _one_group(dataset: Dataset, members: Sequence[int]) -> bool:
    groups = {dataset.images[i].group for i in members}
    return len(groups) == 1 and None not in groups
