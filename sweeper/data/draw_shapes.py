"""Shapes to labels, as LabelMe's own tools draw them (Pillow, outlines included), and what is wrong with shapes.

Coordinates are (x, y) in pixels of the upright image. Later shapes cover earlier ones.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from sweeper.data.store import Pixels

LINE_WIDTH = 10
"""Pixels; LabelMe's own."""
POINT_RADIUS = 5
"""Pixels; LabelMe's own."""
FAR = 10
"""A coordinate further away than this many times the image's larger side belongs to another image."""
KINDS: dict[str, tuple[int, int | None]] = {
    "polygon": (3, None),
    "oriented_rectangle": (4, 4),
    "rectangle": (2, 4),
    "circle": (2, 2),
    "line": (2, 2),
    "linestrip": (2, None),
    "point": (1, 1),
    "points": (1, None),
    "mask": (2, 2),
}
"""Kind of shape → fewest and most points."""

Points = npt.NDArray[np.float64]


class Shape(NamedTuple):
    """One labelled shape."""

    label: int
    kind: str
    points: Points
    """(n, 2), x and y."""
    mask: bytes = b""
    """Of the kind `mask`: an image (PNG), not 0 where the shape is; its top left corner is the first point."""


def point_fault(points: Points, size: tuple[int, int]) -> str | None:
    """Why points cannot belong to an image of this (height, width): rule and value found; None where they can."""
    height, width = size
    if not np.isfinite(points).all():
        return "coordinates must be finite, found NaN or infinity"
    if np.abs(points).max() > FAR * max(height, width):
        return f"must be near the image of {width}×{height}, found a coordinate {np.abs(points).max():.6g}"
    (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
    if left > width or top > height or right < 0 or bottom < 0:
        found = f"x {left:.6g} to {right:.6g}, y {top:.6g} to {bottom:.6g}"
        return f"must lie in the image of {width}×{height}, found {found}"
    return None


def reaches_out(points: Points, size: tuple[int, int]) -> bool:
    """Whether a part lies more than a pixel outside the image of this (height, width)."""
    low, high = points.min(axis=0), points.max(axis=0)
    return bool(low.min() < -1 or high[0] > size[1] + 1 or high[1] > size[0] + 1)


def draw(shapes: Iterable[Shape], size: tuple[int, int], background: int) -> Pixels:
    """Labels (H, W) uint8 of shapes in their order; `background` where none is.

    Raises:
        ValueError: the image of a `mask` cannot be read, or does not have the size of its corners.
    """
    height, width = size
    canvas = Image.new("L", (width, height), background)
    pen = ImageDraw.Draw(canvas)
    for shape in shapes:
        flat: list[tuple[float, float]] = [(float(x), float(y)) for x, y in shape.points]
        if shape.kind == "mask":
            _paste(canvas, shape)
        elif shape.kind == "rectangle":
            (left, top), (right, bottom) = shape.points.min(axis=0), shape.points.max(axis=0)
            pen.rectangle([left, top, right, bottom], fill=shape.label, outline=shape.label)
        elif shape.kind == "circle":
            (x, y), (rim_x, rim_y) = flat
            _disc(pen, x, y, float(np.hypot(x - rim_x, y - rim_y)), shape.label)
        elif shape.kind in ("line", "linestrip"):
            pen.line(flat, fill=shape.label, width=LINE_WIDTH)
        elif shape.kind in ("point", "points"):
            for x, y in flat:
                _disc(pen, x, y, POINT_RADIUS, shape.label)
        else:
            pen.polygon(flat, fill=shape.label, outline=shape.label)
    return np.array(canvas)


def _disc(pen: ImageDraw.ImageDraw, x: float, y: float, radius: float, label: int) -> None:
    pen.ellipse([x - radius, y - radius, x + radius, y + radius], fill=label, outline=label)


def _paste(canvas: Image.Image, shape: Shape) -> None:
    (left, top), (right, bottom) = shape.points.astype(np.int64)
    wanted = (int(right - left) + 1, int(bottom - top) + 1)
    try:
        with Image.open(io.BytesIO(shape.mask), formats=("PNG",)) as image:
            if image.size != wanted:
                raise ValueError(
                    f"its image must have the size of its corners {wanted[0]}×{wanted[1]}, found "
                    f"{image.width}×{image.height}"
                )
            stencil = image.convert("L").point([0] + [255] * 255)
    except Image.DecompressionBombError as error:
        raise ValueError(
            f"its image must have the size of its corners {wanted[0]}×{wanted[1]}, found a far larger one"
        ) from error
    except (OSError, SyntaxError) as error:
        raise ValueError(f"its image must be a PNG, and cannot be decoded ({error})") from error
    canvas.paste(shape.label, (int(left), int(top)), stencil)
