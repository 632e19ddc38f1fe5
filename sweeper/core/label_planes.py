"""Label maps of a multi-label task: the set of each pixel's classes, as the bits of one integer.

Such a map is cut, turned, tiled and shrunk like a map of class indices; only losses and counts need its planes.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from sweeper.core.records.data import IGNORE

MOST_CLASSES = 32

LabelMap = npt.NDArray[np.unsignedinteger[Any]]


def choose_label_type(classes: int) -> np.dtype[np.unsignedinteger[Any]]:
    """Return the smallest type with a bit for each class and a value left for ignored pixels: uint8 up to 7 classes."""
    return np.dtype(np.min_scalar_type(1 << classes))


def get_ignored_label(kind: npt.DTypeLike) -> int:
    """Return the value of pixels without a label in label maps of this type: its largest that is an int64."""
    return int(min(np.iinfo(kind).max, np.iinfo(np.int64).max))


def pack_planes(planes: Sequence[npt.NDArray[np.bool_]], ignored: npt.NDArray[np.bool_]) -> LabelMap:
    """Pack the masks of C classes, (H, W) each, into a label map, (H, W); pixels of `ignored` (H, W) have no label."""
    kind = choose_label_type(len(planes))
    packed = np.zeros(ignored.shape, dtype=kind)
    for number, plane in enumerate(planes):
        packed |= plane.astype(kind) << kind.type(number)
    packed[ignored] = get_ignored_label(kind)
    return packed


def list_class_maps(labels: LabelMap, planes: int) -> list[LabelMap]:
    """Return the maps of a stored label map that are measured one by one.

    `planes` = C: a map of each class, with 1 where a pixel has it; 0: the map of class indices itself.
    """
    return [*unpack_planes(labels, planes)] if planes else [labels]


def flatten_planes(labels: LabelMap, classes: int) -> npt.NDArray[np.uint8]:
    """Return a map for display: 0 without a class, c + 1 where c is the last of a pixel's classes, 255 if ignored."""
    flat = np.zeros(labels.shape, dtype=np.uint8)
    for number, plane in enumerate(unpack_planes(labels, classes)):
        flat[plane == 1] = number + 1
        flat[plane == IGNORE] = IGNORE
    return flat


def unpack_planes(labels: LabelMap, classes: int) -> npt.NDArray[np.uint8]:
    """Return the planes of a label map, (..., H, W) → (..., C, H, W): 0, 1, or 255 where the pixel has no label."""
    bits = np.arange(classes, dtype=labels.dtype).reshape(-1, 1, 1)
    planes = ((labels[..., None, :, :] >> bits) & labels.dtype.type(1)).astype(np.uint8)
    planes[np.broadcast_to((labels == get_ignored_label(labels.dtype))[..., None, :, :], planes.shape)] = IGNORE
    return planes
