"""Label noise: masks beside their place, objects without a label. The image stays what it is."""

from __future__ import annotations

import numpy as np
from scipy import ndimage

from sweeper.data.store import Pixels

_EIGHT = np.ones((3, 3), dtype=np.int8)


def spoil_labels(rng: np.random.Generator, mask: Pixels, shift: float, missing: float) -> Pixels:
    """A mask as a careless hand would draw it.

    First objects go: of the n connected pieces of all classes but 0, ⌊missing · n⌋, and one more by chance, so that
    over many images the share is exactly `missing`. Then the rest moves by `shift` pixels in a random direction,
    rounded to whole pixels on both axes; what comes in from outside is class 0.

    Args:
        rng: chooses objects and direction.
        mask: (H, W) uint8 class indices.
        shift: pixels, ≥ 0.
        missing: share of the objects, 0–1.
    """
    spoiled = mask.copy()
    if missing:
        pieces = objects(mask)
        number = int(pieces.max())
        wanted = missing * number
        gone = int(wanted) + int(rng.random() < wanted - int(wanted))
        spoiled[np.isin(pieces, 1 + rng.permutation(number)[:gone])] = 0
    if shift:
        angle = rng.uniform(0, 2 * np.pi)
        down, right = round(shift * np.sin(angle)), round(shift * np.cos(angle))
        moved = np.zeros_like(spoiled)
        height, width = mask.shape
        here = slice(max(0, down), height + min(0, down)), slice(max(0, right), width + min(0, right))
        there = slice(max(0, -down), height + min(0, -down)), slice(max(0, -right), width + min(0, -right))
        moved[here] = spoiled[there]
        spoiled = moved
    return spoiled


def objects(mask: Pixels) -> np.ndarray:
    """Connected pieces (8-neighbourhood) of each class but 0, numbered from 1; (H, W) int64, 0 = none."""
    found = np.zeros(mask.shape, dtype=np.int64)
    for label in np.unique(mask[mask > 0]):
        pieces, _ = ndimage.label(mask == label, structure=_EIGHT)
        found[pieces > 0] = pieces[pieces > 0] + found.max()
    return found
