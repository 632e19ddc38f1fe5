"""Fit of a mask to its image: its contours must follow edges more than the same contours put elsewhere would.

The edge strength under the mask's contour is compared with that under the contour moved to every other place of the
image at once, by a circular cross-correlation. That asks nothing of the data set: an image is its own yardstick, so
that blurred images, thin objects and busy textures need no threshold of their own.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import fft, ndimage

from sweeper.core.contours import find_near_boundary

WINDOW = 512
"""Side in pixels of the part of a larger image that is looked at: where most contour is."""
EDGE_TOLERANCE = 2
"""Pixels that a drawn contour may miss its edge by."""
ELSEWHERE_DISTANCE = 8
"""Places at least this many pixels away count as elsewhere."""
MIN_CONTOUR_PIXELS = 24
"""A shorter contour says nothing."""
REACH = 32
"""Largest displacement of a mask that is tried, in pixels."""

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


class EdgeFit(NamedTuple):
    """Fit of a mask's contours to the edges of an image."""

    agreement: float
    """Standard deviations by which the edge strength under the contour exceeds that of the contour elsewhere, at its
    best place within `EDGE_TOLERANCE` pixels. About 0 for a foreign mask."""
    shift: tuple[int, int] | None
    """Where within `REACH` pixels (down, right) the contour fits far better than where it is; None = nowhere."""


def measure_edge_fit(image: Bytes, mask: Bytes) -> EdgeFit | None:
    """Compare a mask's contours with its image's edges.

    Args:
        image: (H, W, channels), 8 or 16 bits.
        mask: (H, W) uint8 class indices; 255 = ignore, no contour.

    Returns:
        None where the mask has too little contour, or the image is too small or without any edge.
    """
    contour = find_near_boundary(mask, 1)
    rows, columns = _pick_window(contour)
    contour = contour[rows, columns]
    length = int(contour.sum())
    if length < MIN_CONTOUR_PIXELS or min(contour.shape) < 4 * ELSEWHERE_DISTANCE:
        return None
    strength = compute_edge_strength(image[rows, columns])
    strength -= strength.mean()
    if not strength.any():
        return None
    height, width = strength.shape
    # scores[d] = mean strength under the contour moved by d; negative moves stand at the end.
    spectrum = fft.rfft2(strength) * np.conj(fft.rfft2(contour.astype(np.float32)))
    moved = fft.irfft2(spectrum, s=strength.shape) / length
    scores: Floats = np.roll(moved, (height // 2, width // 2), axis=(0, 1)).astype(np.float32)
    elsewhere = np.ones(scores.shape, dtype=bool)
    elsewhere[_mean_around(scores, ELSEWHERE_DISTANCE)] = False
    mean, deviation = float(scores[elsewhere].mean()), float(scores[elsewhere].std())
    if not deviation > 0:
        return None
    agreement = (float(scores[_mean_around(scores, EDGE_TOLERANCE)].max()) - mean) / deviation
    reach = min(REACH, height // 4, width // 4)
    region = scores[_mean_around(scores, reach)]
    y, x = (int(i) - reach for i in np.unravel_index(int(region.argmax()), region.shape))
    best = (float(region.max()) - mean) / deviation
    displaced = max(abs(y), abs(x)) > EDGE_TOLERANCE and is_better_fit(best, agreement)
    return EdgeFit(agreement, (y, x) if displaced else None)


def is_better_fit(other: float, agreement: float) -> bool:
    """Return whether another place or turn of a mask fits far better than the one that has this agreement."""
    return other > max(6.0, agreement + 3.0)


def compute_edge_strength(image: Bytes) -> Floats:
    """Logarithm of the gradient's magnitude (Gaussian, σ = 1 px) relative to its mean around (σ = 16 px), (H, W).

    The gradient is taken over all channels together: things may differ from their ground in colour alone. Relative,
    because a faint crack in an even pavement is an edge and a leaf among leaves is none.
    """
    channels = image[..., :1] if (image == image[..., :1]).all() else image
    squares = np.zeros(image.shape[:2], dtype=np.float32)
    for channel in np.moveaxis(channels, 2, 0):
        values = channel.astype(np.float32)
        for order in ((1, 0), (0, 1)):
            squares += ndimage.gaussian_filter(values, 1.0, order=order, truncate=3.0) ** 2
    gradient = np.sqrt(squares)
    if not gradient.any():
        return np.zeros_like(gradient)
    # Two running means of 39 pixels are nearly a Gaussian of σ = 16, at a tenth of its cost.
    around = ndimage.uniform_filter(ndimage.uniform_filter(gradient, 39), 39)
    result: Floats = np.log(gradient / (around + 1e-3 * float(gradient.max())) + 0.05)
    return result


def _mean_around(scores: Floats, pixels: int) -> tuple[slice, slice]:
    height, width = scores.shape
    y, x = height // 2, width // 2
    return slice(y - pixels, y + pixels + 1), slice(x - pixels, x + pixels + 1)


def _pick_window(contour: npt.NDArray[np.bool_]) -> tuple[slice, slice]:
    """Return the part of at most WINDOW × WINDOW pixels with the most contour, to the nearest quarter window."""
    height, width = contour.shape
    tall, wide = min(height, WINDOW), min(width, WINDOW)
    if (tall, wide) == (height, width):
        return slice(0, height), slice(0, width)
    total = np.zeros((height + 1, width + 1), dtype=np.int64)
    np.cumsum(np.cumsum(contour, axis=0, dtype=np.int64), axis=1, out=total[1:, 1:])
    inside = total[tall:, wide:] - total[:-tall, wide:] - total[tall:, :-wide] + total[:-tall, :-wide]
    coarse = inside[:: WINDOW // 4, :: WINDOW // 4]
    y, x = (int(i) * (WINDOW // 4) for i in np.unravel_index(int(coarse.argmax()), coarse.shape))
    return slice(y, y + tall), slice(x, x + wide)
