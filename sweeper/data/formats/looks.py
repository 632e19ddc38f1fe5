"""Judge by a few of their pixels whether files look like masks: areas of few numbers, unlike photographs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from sweeper.data.open_image import MASK_FORMATS, open_image, read_tiff
from sweeper.data.text_tables import UnreadableFileError

SAMPLED = 12
"""Files of each side that are opened."""
_SIDE = 512
"""Longest side of the part of a file that is looked at, in pixels."""
_FEW = 64
"""Numbers or colours up to which a file may be a mask for sure."""


class Look(NamedTuple):
    """What a file looks like."""

    likeness: float
    """0 = a photograph, 1 = a mask."""
    size: tuple[int, int]
    numbers: frozenset[int]
    """Its grey numbers; of a file in colours none."""


def look_at(path: Path) -> Look | None:
    """Return what a file looks like; None if it cannot be read."""
    try:
        with open_image(path, MASK_FORMATS, read_tiff(path)) as image:
            box = (0, 0, min(image.width, _SIDE), min(image.height, _SIDE))
            part, size = image.crop(box), image.size
            pixels = np.asarray(part.convert("RGB") if part.mode in ("P", "RGBA", "CMYK", "YCbCr", "LA") else part)
    except (UnreadableFileError, OSError, ValueError):
        return None
    flat = pixels.reshape(*pixels.shape[:2], -1).astype(np.int64)
    keys = flat @ (1 << 16 * np.arange(flat.shape[2])[:3]) if flat.shape[2] <= 3 else flat[..., 0]
    numbers = np.unique(keys)
    steps = [np.abs(np.diff(flat.mean(axis=2), axis=axis)).ravel() for axis in (0, 1)]
    even = float(np.mean(np.concatenate(steps) <= 2)) if flat.size > 3 else 0.0
    few = min(1.0, _FEW / len(numbers)) ** 0.5
    grey = pixels.ndim == 2 and len(numbers) <= _FEW
    return Look(even * few, size, frozenset(numbers.tolist() if grey else ()))


def compare_looks(pairs: Sequence[tuple[Path, Path]]) -> tuple[float, list[int]]:
    """Return how much more the second files look like masks of the first than these do, −1 to 1, and their numbers.

    Args:
        pairs: an image and a mask each; a few of them are opened.
    """
    gaps, same, numbers = [], [], set[int]()
    for pair in pairs[:: max(1, len(pairs) // SAMPLED)]:
        image, mask = map(look_at, pair)
        if image is not None and mask is not None:
            gaps.append(mask.likeness - image.likeness)
            same.append(sorted(image.size) == sorted(mask.size))
            numbers |= mask.numbers
    return (float(np.quantile(gaps, 0.2)) * float(np.mean(same)), sorted(numbers)) if gaps else (0.0, [])
