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


def list_layers(labels: LabelMap, planes: int) -> list[npt.NDArray[np.uint8]]:
    """Return label maps in which no classes overlap: the map of class indices itself, or a layer for each class.

    Args:
        labels: (H, W).
        planes: number of classes whose bits the labels are; 0 = class indices.

    Returns:
        (H, W) each: numbers of `Dataset.label_names`, 0 where there is no class, 255 = ignored.
    """
    if not planes:
        return [labels]
    return [
        np.where(plane == 1, np.uint8(number), plane) for number, plane in enumerate(unpack_planes(labels, planes), 1)
    ]


def join_layers(layers: Sequence[npt.NDArray[np.uint8]], planes: int) -> LabelMap:
    """Return the label map of such layers: the inverse of `list_layers`. A pixel without a label in one has none."""
    if not planes:
        return layers[0]
    marks = [(layer > 0) & (layer < IGNORE) for layer in layers]
    return pack_planes(marks, np.any([layer == IGNORE for layer in layers], axis=0))


def move_bits(labels: LabelMap, table: LabelMap) -> LabelMap:
    """Return labels of new classes: the bits in `table` (256,), at c + 1, of each class c of a pixel, at 0 if none."""
    moved = np.where(labels == 0, table[0], table.dtype.type(0))
    for number in range(1, 8 * labels.itemsize):
        moved |= np.where(labels >> labels.dtype.type(number - 1) & labels.dtype.type(1), table[number], moved)
    moved[labels == get_ignored_label(labels.dtype)] = get_ignored_label(table.dtype)
    return moved


def unpack_planes(labels: LabelMap, classes: int) -> npt.NDArray[np.uint8]:
    """Return the planes of a label map, (..., H, W) → (..., C, H, W): 0, 1, or 255 where the pixel has no label."""
    bits = np.arange(classes, dtype=labels.dtype).reshape(-1, 1, 1)
    planes = ((labels[..., None, :, :] >> bits) & labels.dtype.type(1)).astype(np.uint8)
    planes[np.broadcast_to((labels == get_ignored_label(labels.dtype))[..., None, :, :], planes.shape)] = IGNORE
    return planes
