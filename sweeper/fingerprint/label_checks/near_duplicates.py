"""Find images that occur more than once: the same pixels, or the same view by correlation of thumbnails."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from sweeper.core.records import Dataset
from sweeper.core.text import abbreviate, format_count
from sweeper.fingerprint.label_checks.finding import Finding, Severity
from sweeper.fingerprint.label_checks.measure import ImageFeatures, Thumbnail

SAME_VIEW_CORRELATION = 0.95
"""Least correlation of two thumbnails of the same view."""
LISTED_SETS = 5
"""Most sets of near-duplicates in a text."""
_BLOCK = 512
"""Number of images that are compared with all others at a time."""
_TURNS = ("", "turned by 90°", "turned by 180°", "turned by 270°", "mirrored", *["mirrored and turned"] * 3)


_LOOK_ALIKE = {
    "across": (
        "look alike on different sides of the given split",
        "Scores on these are too high; put each set on one side.",
    ),
    "loose": (
        "look alike and have no common group",
        "They may get on two sides of a split, and scores would be too high; give each set one group in split.csv.",
    ),
}
"""Place of the pairs → the words around their names."""


class DuplicatePair(NamedTuple):
    """Two near-duplicate images."""

    first: int
    second: int
    correlation: float
    how: str
    """Rotation or mirroring of the second; empty = none."""


def find_near_duplicates(thumbnails: Sequence[Thumbnail]) -> list[DuplicatePair]:
    """Find pairs (first < second) whose thumbnails correlate by `SAME_VIEW_CORRELATION`, in any of eight orientations.

    Images of one colour, whose thumbnails are all zero, are in no pair.

    Args:
        thumbnails: (32, 32) each, mean 0, norm 1. 20,000 of them take a minute or two.
    """
    views = np.stack(thumbnails).astype(np.float32)
    plain = views.reshape(len(views), -1)
    pairs: dict[tuple[int, int], DuplicatePair] = {}
    for turn, how in enumerate(_TURNS):
        mirrored = views[:, :, ::-1] if turn >= 4 else views
        turned = np.rot90(mirrored, turn % 4, axes=(1, 2)).reshape(len(views), -1)
        for start in range(0, len(views), _BLOCK):
            correlations = plain[start : start + _BLOCK] @ turned[start:].T
            # The eight orientations include their inverses, so that i < j misses none.
            for i, j in np.argwhere(np.triu(correlations >= SAME_VIEW_CORRELATION, 1)):
                key, correlation = (int(i) + start, int(j) + start), min(1.0, float(correlations[i, j]))
                if key not in pairs or correlation > pairs[key].correlation + 1e-3:
                    pairs[key] = DuplicatePair(*key, correlation, how)
    return [pairs[key] for key in sorted(pairs)]


def cluster_pairs(pairs: Sequence[DuplicatePair]) -> list[tuple[int, ...]]:
    """Return the clusters of images connected by pairs; each ascending, in the order of their first image."""
    ends = np.array([(pair.first, pair.second) for pair in pairs], dtype=np.int64).reshape(-1, 2)
    images, places = np.unique(ends, return_inverse=True)
    first, second = places.reshape(-1, 2).T
    joined = coo_array((np.ones(len(ends)), (first, second)), shape=(len(images), len(images)))
    number, cluster_of = connected_components(joined, directed=False)
    return sorted(tuple(map(int, images[cluster_of == cluster])) for cluster in range(number))


def find_repeated_images(dataset: Dataset, features: Sequence[ImageFeatures]) -> Iterator[Finding]:
    """Yield findings of images with the same pixels; most severe if labels differ or a given split separates them."""
    same: dict[str, list[int]] = defaultdict(list)
    for index, one in enumerate(features):
        if not one.flat:
            same[one.image_digest].append(index)
    for members in same.values():
        if len(members) < 2:
            continue
        stems = tuple(dataset.images[i].stem for i in members)
        labels = len({features[i].mask_digest for i in members})
        splits = {dataset.images[i].split for i in members}
        sides = sorted(side for side in splits if side is not None)
        severity, what = Severity.ERROR, f"but {labels} different masks: keep the right one"
        if labels == 1 and len(sides) > 1:
            what = (
                f"on {len(sides)} sides of the given split ({', '.join(sides)}), so that scores are too high: keep one"
            )
        elif labels == 1:
            if sides or _is_one_group(dataset, members):
                continue
            severity = Severity.WARNING
            what = "and may get on two sides of a split: keep one, or give them one group in split.csv"
        yield Finding(
            kind="repeated_image",
            severity=severity,
            text=f"{abbreviate(stems)} have the same pixels {what}.",
            images=stems,
        )


def look_alike_findings(dataset: Dataset, features: Sequence[ImageFeatures]) -> Iterator[Finding]:
    """Yield summaries of near-duplicates: across given sides, and without a common side or group."""
    pairs = [
        pair
        for pair in find_near_duplicates([one.thumbnail for one in features])
        if features[pair.first].image_digest != features[pair.second].image_digest
    ]
    kinds: dict[str, list[DuplicatePair]] = defaultdict(list)
    for pair in pairs:
        members = (pair.first, pair.second)
        fixed_sides = [dataset.images[i].split for i in members]
        if None not in fixed_sides and fixed_sides[0] != fixed_sides[1]:
            kinds["across"].append(pair)
        elif None in fixed_sides and not _is_one_group(dataset, members):
            kinds["loose"].append(pair)
    for kind, words in _LOOK_ALIKE.items():
        if pairs_of_kind := kinds[kind]:
            yield _summarise_pairs(dataset, pairs_of_kind, *words)


def _summarise_pairs(dataset: Dataset, pairs: Sequence[DuplicatePair], begin: str, end: str) -> Finding:
    """Summarise any number of pairs in one finding: sets of images, the largest few by name."""
    sets = sorted(cluster_pairs(pairs), key=lambda members: -len(members))
    turned = Counter(pair.how for pair in pairs if pair.how)
    named = "; ".join(abbreviate([dataset.images[i].stem for i in members], 3) for members in sets[:LISTED_SETS])
    more = f" and {len(sets) - LISTED_SETS} more sets" if len(sets) > LISTED_SETS else ""
    flipped = "".join(f"; {number} of the pairs {how}" for how, number in turned.most_common())
    stems = tuple(sorted({dataset.images[i].stem for members in sets for i in members}))
    return Finding(
        kind="look_alike",
        severity=Severity.WARNING,
        text=f"{len(stems)} images in {format_count(len(sets), 'set')} {begin}: {named}{more}{flipped}. {end}",
        images=stems,
    )


def _is_one_group(dataset: Dataset, members: Sequence[int]) -> bool:
    groups = {dataset.images[i].group for i in members}
    return len(groups) == 1 and None not in groups
