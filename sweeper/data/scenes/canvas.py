"""Tools of all scenes: random textures, soft shapes, and the camera that finishes every image.

Intensities are float64 around 0–1 until the camera converts them to uint8.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from sweeper.core.label_planes import LabelMap
from sweeper.data.store import Pixels

Field = npt.NDArray[np.float64]
"""(H, W) float64."""
Points = npt.NDArray[np.float64]
"""(n, 2) float64: y, x in pixels."""
Pair = Sequence[float] | npt.NDArray[np.float64]
"""Two numbers: y and x, or two radii."""


class SceneCanvas(NamedTuple):
    """All parameters of a set, described in `synthetic.py`; those that the scene does not use have their defaults."""

    images: int
    size: int
    seed: int
    noise: float
    shift: float
    missing: float
    foreground: float = 0.0
    spread: float = 1.0
    object: float = 12.0
    elongation: float = 1.0
    blur: float = 0.0
    classes: int = 2
    ratio: float = 1.0
    overlap: float = 1.0

    def get_image_share(self, factor: float) -> float:
        """Return the foreground's share of one image, given the scene's random factor, of mean 1 over images."""
        # At full spread nothing is computed, so that images are bit-identical to those of earlier versions.
        return self.foreground * (factor if self.spread == 1 else 1 + self.spread * (factor - 1))


class DrawnImage(NamedTuple):
    """An image and its labels."""

    image: Pixels
    """(H, W, 3) uint8."""
    mask: LabelMap
    """(H, W) uint8 class indices, or bits of classes that overlap."""


class Painter:
    """Draws random textures and soft shapes of the size of one image."""

    def __init__(self, rng: np.random.Generator, size: int) -> None:
        self.rng, self.size = rng, size

    def make_field(self, sigma: float) -> Field:
        """Return a random field of mean 0 and standard deviation 1 with structures about `sigma` pixels wide."""
        # Coarse structures are drawn small and magnified, as a wide filter on the full grid is slow.
        step = max(1, int(sigma // 2))
        side = self.size // step + 3
        field = ndimage.gaussian_filter(self.rng.standard_normal((side, side)), sigma / step, mode="wrap")
        if step > 1:
            field = ndimage.zoom(field, step, order=1)
        field = field[: self.size, : self.size]
        result: Field = (field - field.mean()) / (field.std() + 1e-9)
        return result

    def make_grid(self) -> tuple[Field, Field]:
        """Return the coordinates y and x of each pixel, two (H, W) fields."""
        y, x = np.mgrid[0 : self.size, 0 : self.size].astype(np.float64)
        return y, x

    def draw_disc(self, centre: Pair, radius: float, softness: float) -> Field:
        """Draw the coverage 0–1 of a disc."""
        y, x = self.make_grid()
        return make_soft_edge(radius - np.hypot(y - centre[0], x - centre[1]), softness)

    def draw_ellipse(self, centre: Pair, radii: Pair, angle: float, softness: float = 0.7) -> Field:
        """Draw the coverage 0–1 of an ellipse: centre (y, x), radii along and across its axis, angle in radians."""
        y, x = self.make_grid()
        dy, dx = y - centre[0], x - centre[1]
        along = (dx * np.cos(angle) + dy * np.sin(angle)) / radii[0]
        across = (dy * np.cos(angle) - dx * np.sin(angle)) / radii[1]
        return make_soft_edge((1 - np.hypot(along, across)) * min(radii[0], radii[1]), softness)

    def draw_stroke(self, points: Points, widths: npt.ArrayLike) -> Field:
        """Draw the coverage 0–1 of a line through `points` (n, 2), `widths` (n,) or one number, in pixels."""
        cover = np.zeros((self.size, self.size))
        for (y, x), width in zip(points, np.broadcast_to(widths, len(points)), strict=True):
            stamp_dot(cover, float(y), float(x), float(width))
        return cover

    def make_curve(self, start: Pair, heading: float, length: int, bend: float) -> Points:
        """Return a random curve of `length` half-pixel steps from `start` (y, x); `bend`: SD of the turn in radians."""
        turns = ndimage.gaussian_filter1d(self.rng.standard_normal(length + 16), 2.0)[:length] * bend
        headings = heading + np.cumsum(turns)
        steps = 0.5 * np.stack([np.sin(headings), np.cos(headings)], axis=1)
        return np.asarray(start, dtype=np.float64) + np.cumsum(steps, axis=0)

    def expose(self, image: npt.NDArray[np.float64], noise: float) -> Pixels:
        """Apply the camera: slight blur, uneven light, noise, 8 bits; (H, W, 3) float64 → uint8."""
        rng, size = self.rng, self.size
        blurred = ndimage.gaussian_filter(image, (rng.uniform(0.35, 0.7),) * 2 + (0,))
        light = 1 + 0.07 * self.make_field(size / 3)
        grain = rng.standard_normal((size, size, 1)) * 0.8 + rng.standard_normal(image.shape) * 0.6
        lit = blurred * light[:, :, None] * rng.uniform(0.85, 1.12) + noise * grain
        return np.clip(np.rint(lit * 255), 0, 255).astype(np.uint8)


def make_soft_edge(distance: Field, softness: float) -> Field:
    """Map a signed distance in pixels (negative outside) to 0–1; the edge extends `softness` pixels to each side."""
    return np.clip(0.5 + distance / (2 * softness), 0.0, 1.0)


def stamp_dot(cover: Field, y: float, x: float, width: float) -> int:
    """Draw a round dot on `cover`, in place; return how many pixels it newly covers by half or more."""
    reach = int(np.ceil(width / 2 + 1))
    top, left = max(0, int(y) - reach), max(0, int(x) - reach)
    part = cover[top : int(y) + reach + 2, left : int(x) + reach + 2]
    if min(int(y), int(x)) + reach + 2 <= 0 or part.size == 0:
        return 0
    rows = np.arange(top, top + part.shape[0])[:, None] - y
    columns = np.arange(left, left + part.shape[1])[None, :] - x
    dot = np.clip(width / 2 + 0.5 - np.hypot(rows, columns), 0.0, 1.0)
    new = int(((dot >= 0.5) & (part < 0.5)).sum())
    np.maximum(part, dot, out=part)
    return new


def blend_colour(image: npt.NDArray[np.float64], cover: Field, colour: npt.ArrayLike) -> None:
    """Blend `colour` (3,) or (H, W, 3) into `image` (H, W, 3), in place, with opacity `cover` (H, W)."""
    image += cover[:, :, None] * (np.asarray(colour, dtype=np.float64) - image)
