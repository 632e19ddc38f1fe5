"""Contours and centre lines of label maps. Pure NumPy, for the profile and the scoring of test images.

The image's edge and the border of an ignored region are no contours, as the class beyond them is unknown.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from sweeper.core.records import IGNORE

BOUNDARY_PIXELS = 2
"""Width of the band along contours that boundary IoU measures."""
THIN_PIXELS = 2
"""A pixel is thin if a pixel of another class is within this distance (Euclidean, centre to centre)."""

Mask = npt.NDArray[np.uint8]
Marks = npt.NDArray[np.bool_]


def find_near_boundary(
    mask: npt.NDArray[np.unsignedinteger[Any]], pixels: int = THIN_PIXELS, ignored: int = IGNORE
) -> Marks:
    """Find labelled pixels with a labelled pixel of another class within `pixels` (Euclidean, centre to centre).

    With the class they belong to, they are the inner band of each class's contour (G_d ∩ G of Cheng et al. 2021,
    *Boundary IoU*, eq. 1).

    Args:
        mask: (H, W) class indices, or bits of classes; the ignored label bounds nothing and is never near.
        pixels: width of the band, ≥ 1.
        ignored: the ignored label.

    Returns:
        (H, W) bool.
    """
    labelled = mask != ignored
    near = np.zeros(mask.shape, dtype=bool)
    height, width = mask.shape
    for dy, dx in _half_disc_offsets(pixels):
        if dy >= height or abs(dx) >= width:
            continue
        here = slice(0, height - dy), slice(max(0, -dx), width - max(0, dx))
        shifted = slice(dy, height), slice(max(0, dx), width - max(0, -dx))
        differ = (mask[here] != mask[shifted]) & labelled[here] & labelled[shifted]
        near[here] |= differ
        near[shifted] |= differ
    return near


def find_densest_window(marks: Marks, shape: tuple[int, int], step: int = 1) -> tuple[slice, slice]:
    """Return the part of at most this shape with the most marked pixels, at multiples of `step`; marks (H, W)."""
    height, width = (min(side, most) for side, most in zip(marks.shape, shape, strict=True))
    total = np.pad(marks.cumsum(axis=0, dtype=np.int64).cumsum(axis=1), ((1, 0), (1, 0)))
    inside = total[height:, width:] - total[:-height, width:] - total[height:, :-width] + total[:-height, :-width]
    coarse = inside[::step, ::step]
    top, left = (step * int(i) for i in np.unravel_index(int(coarse.argmax()), coarse.shape))
    return slice(top, top + height), slice(left, left + width)


def measure_thinness(masks: Iterable[Mask], classes: int) -> npt.NDArray[np.float64]:
    """Measure the share of each class's pixels within `THIN_PIXELS` of its contour, (C,); 0 if it does not occur."""
    thin, total = np.zeros(classes), np.zeros(classes)
    for mask in masks:
        total += np.bincount(mask.ravel(), minlength=256)[:classes]
        thin += np.bincount(mask[find_near_boundary(mask)], minlength=256)[:classes]
    share: npt.NDArray[np.float64] = thin / np.maximum(total, 1)
    return share


def compute_skeleton(inside: Marks) -> Marks:
    """Thin a mask to its centre line, one pixel wide, which keeps its connections and holes.

    Guo & Hall, *Parallel thinning with two-subiteration algorithms* (1989), algorithm A1 as in MATLAB's
    `bwmorph("thin")`. It is exact and has no parameter, unlike the soft skeleton of Shit et al. (2021), whose number of
    iterations must be guessed. Only pixels whose neighbourhood has changed are checked again, so that the work is
    proportional to the mask's area.

    Args:
        inside: (H, W) bool; beyond the image counts as outside.

    Returns:
        (H, W) bool, a subset of `inside`.
    """
    padded = np.pad(inside, 1).astype(np.uint8)
    alive, width = padded.ravel(), padded.shape[1]
    # x1 … x8, anticlockwise from the east
    around = np.array([1, 1 - width, -width, -width - 1, -1, width - 1, width, width + 1])
    tables = _is_deletable()
    changed = [alive > 0, alive > 0]
    """Whether a pixel's neighbourhood has changed since its last check in the first and the second subiteration."""
    goes_on = True
    while goes_on:
        goes_on = False
        for table, marks in zip(tables, changed, strict=True):
            candidates = np.flatnonzero(marks & (alive > 0))
            marks[:] = False
            code = np.zeros(candidates.size, dtype=np.uint8)
            for bit, step in enumerate(around):
                code |= alive[candidates + step] << np.uint8(bit)
            deleted = candidates[table[code]]
            alive[deleted] = 0
            goes_on |= deleted.size > 0
            for step in around:
                for each in changed:
                    each[deleted + step] = True
    return alive.reshape(padded.shape)[1:-1, 1:-1].astype(bool)


@cache
def _half_disc_offsets(pixels: int) -> tuple[tuple[int, int], ...]:
    """Return half of the disc, so that each pair of pixels is compared once."""
    half = [(dy, dx) for dy in range(pixels + 1) for dx in range(-pixels, pixels + 1) if (dy, dx) > (0, 0)]
    return tuple((dy, dx) for dy, dx in half if dy * dy + dx * dx <= pixels**2)


@cache
def _is_deletable() -> tuple[Marks, Marks]:
    """Tabulate whether a pixel with these neighbours (bit k = x_{k+1}) is deleted, for both subiterations."""
    tables = np.zeros((2, 256), dtype=bool)
    for code in range(256):
        x = [bool(code >> k & 1) for k in range(8)]
        crossings = sum(not x[i] and (x[i + 1] or x[(i + 2) % 8]) for i in range(0, 8, 2))
        first = sum(x[i] or x[i + 1] for i in range(0, 8, 2))
        second = sum(x[i + 1] or x[(i + 2) % 8] for i in range(0, 8, 2))
        if crossings == 1 and 2 <= min(first, second) <= 3:
            tables[0, code] = not (x[0] and any((x[1], x[2], not x[7])))
            tables[1, code] = not (x[4] and any((x[5], x[6], not x[3])))
    return tables[0], tables[1]


def count_boundary_pixels(
    label: Mask, answer: Mask, classes: int, pixels: int = BOUNDARY_PIXELS
) -> npt.NDArray[np.int64]:
    """Count each class's pixels in the inner bands of the contours: in both, in the answer only, in the label only.

    Boundary IoU is the first over the sum (Cheng et al. 2021, eq. 1).

    Args:
        label: (H, W) class indices, 255 = ignore.
        answer: (H, W) class indices; ignored pixels do not count, and bound nothing.
        classes: number C of classes.
        pixels: width of the band.

    Returns:
        (C, 3) int64.
    """
    visible = np.where(label == IGNORE, np.uint8(IGNORE), answer)
    near_label, near_answer = find_near_boundary(label, pixels), find_near_boundary(visible, pixels)
    both = _count_per_class(label[near_label & near_answer & (label == visible)], classes)
    of_answer, of_label = _count_per_class(visible[near_answer], classes), _count_per_class(label[near_label], classes)
    return np.stack([both, of_answer - both, of_label - both], axis=-1)


def count_centreline_pixels(label: Mask, answer: Mask, classes: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Count how much of each centre line is inside the other mask, for clDice (Shit et al. 2021, eq. 1).

    An ignored region cuts label and answer alike.

    Args:
        label: (H, W) class indices, 255 = ignore.
        answer: (H, W) class indices; ignored pixels do not count.
        classes: (C,) classes to measure; the others have 0.

    Returns:
        (C, 4) int64: |S_P ∩ L|, |S_P|, |S_L ∩ P|, |S_L|.
    """
    counts = np.zeros((len(classes), 4), dtype=np.int64)
    labelled = label != IGNORE
    for c in np.flatnonzero(classes):
        inside, predicted = label == c, labelled & (answer == c)
        line, line_given = compute_skeleton(inside), compute_skeleton(predicted)
        counts[c] = (line_given & inside).sum(), line_given.sum(), (line & predicted).sum(), line.sum()
    return counts


def _count_per_class(labels: Mask, classes: int) -> npt.NDArray[np.int64]:
    return np.bincount(labels, minlength=classes)[:classes].astype(np.int64)
