"""Fit of a mask to its image: contours must follow edges more than the same contours elsewhere in the image.

A circular cross-correlation compares the edge strength under the mask's contour with the strength under the contour
moved to every other place of the image. Each image is its own reference, so that blurred images, thin objects and busy
textures need no separate thresholds.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import fft, ndimage

from sweeper.core.contours import find_densest_window, find_near_boundary
from sweeper.core.label_planes import LabelMap, get_ignored_label

WINDOW = 512
"""Side in pixels of the evaluated part of a larger image, the part with most contour."""
EDGE_TOLERANCE = 2
"""Largest distance in pixels between a drawn contour and its edge."""
ELSEWHERE_DISTANCE = 8
"""Least distance in pixels of places that count as elsewhere."""
MIN_CONTOUR_PIXELS = 24
"""Least length in pixels of an informative contour."""
MISFIT_AGREEMENT = 2.5
"""Edge agreement below which a mask does not fit. On three real sets 96 % of swapped masks are below, no true one."""
REACH = 32
"""Largest tested displacement of a mask, in pixels."""

Bytes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]


class EdgeFit(NamedTuple):
    """Fit of a mask's contours to the edges of an image."""

    agreement: float
    """Edge strength under the contour, at its best place within `EDGE_TOLERANCE` pixels, in standard deviations above
    the mean elsewhere. About 0 for a foreign mask."""
    shift: tuple[int, int] | None
    """Displacement (down, right) within `REACH` pixels at which the contour fits far better; None = none."""


class QuarterTurn(NamedTuple):
    """A turn of a mask by 90° that makes it fit its image."""

    side: str
    """`left` or `right`."""
    agreement: float
    """Edge agreement after the turn."""


_TURNS = {"left": 1, "right": 3}
"""Side → quarter turns to the left."""


def measure_edge_fit(image: Bytes, mask: LabelMap) -> EdgeFit | None:
    """Compare a mask's contours with its image's edges.

    Args:
        image: (H, W, channels), 8 or 16 bits.
        mask: (H, W) class indices, or bits of classes; the ignored label is no contour.

    Returns:
        The fit; None if the mask has too little contour, or the image is too small or has no edge.
    """
    contour = find_near_boundary(mask, 1, get_ignored_label(mask.dtype))
    rows, columns = find_densest_window(contour, (WINDOW, WINDOW), WINDOW // 4)
    contour = contour[rows, columns]
    length = int(contour.sum())
    if length < MIN_CONTOUR_PIXELS or min(contour.shape) < 4 * ELSEWHERE_DISTANCE:
        return None
    strength = compute_edge_strength(image[rows, columns])
    strength -= strength.mean()
    if not strength.any():
        return None
    height, width = strength.shape
    # scores[d] = mean strength under the contour moved by d; negative moves are at the end.
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


def measure_quarter_turn(image: Bytes, mask: LabelMap, fit: EdgeFit | None) -> QuarterTurn | None:
    """Return the quarter turn by which a mask fits its image far better, stretched to its size; None if there is none.

    Args:
        image: (H, W, channels), 8 or 16 bits.
        mask: (H, W), as above, which does not fit.
        fit: of the mask as it is; nothing is tried where it fits, or is unknown.
    """
    if fit is None or fit.agreement >= MISFIT_AGREEMENT:
        return None
    rows, columns = (np.arange(new) * old // new for new, old in (mask.shape, mask.shape[::-1]))
    fits = {side: measure_edge_fit(image, np.rot90(mask, turn)[rows][:, columns]) for side, turn in _TURNS.items()}
    best, side = max((0.0 if one is None else one.agreement, side) for side, one in fits.items())
    return QuarterTurn(side, best) if is_better_fit(best, fit.agreement) else None


def is_better_fit(other: float, agreement: float) -> bool:
    """Return whether another place or orientation of a mask, with agreement `other`, fits far better."""
    return other > max(6.0, agreement + 3.0)


def compute_edge_strength(image: Bytes) -> Floats:
    """Compute the log gradient magnitude (Gaussian, σ = 1 px) relative to its local mean (σ = 16 px), (H, W).

    All channels are combined, because objects may differ from the background only in colour. The strength is relative,
    because a faint crack in an even pavement is an edge, but a leaf among leaves is not.
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
    # Two running means of 39 pixels are nearly a Gaussian of σ = 16, and ten times as fast.
    around = ndimage.uniform_filter(ndimage.uniform_filter(gradient, 39), 39)
    result: Floats = np.log(gradient / (around + 1e-3 * float(gradient.max())) + 0.05)
    return result


def _mean_around(scores: Floats, pixels: int) -> tuple[slice, slice]:
    height, width = scores.shape
    y, x = height // 2, width // 2
    return slice(y - pixels, y + pixels + 1), slice(x - pixels, x + pixels + 1)
