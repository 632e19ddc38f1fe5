"""The test bench: objects of a chosen size, thinness and share, exact to the pixel, on uneven ground.

Objects are discs, or bent rods if elongated, and do not touch while there is room. Each class has its own colour;
distractors of the same shapes, in a colour of no class, belong to the ground.
"""

from __future__ import annotations

import colorsys

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from sweeper.data.scenes.canvas import DrawnImage, Field, Painter, SceneCanvas, blend_colour, make_soft_edge
from sweeper.data.store import Pixels

_GAP = 2
"""Pixels of ground between objects, while there is room."""
_TRIES = 60
_CONTRAST = 0.2
"""Brightness of objects against the ground, share of full scale."""
_DISTRACTORS = 0.5
"""Number of distractors divided by that of objects."""


def list_class_names(classes: int) -> tuple[str, ...]:
    """Return the class names: background and object, or background, shape_1 and so on."""
    return ("background", "object") if classes == 2 else ("background", *(f"shape_{i}" for i in range(1, classes)))


def compute_class_shares(canvas: SceneCanvas) -> npt.NDArray[np.float64]:
    """Return the share of each class but the ground, (classes − 1,): each `ratio` times the next, sum `foreground`."""
    weights = canvas.ratio ** -np.arange(canvas.classes - 1, dtype=np.float64)
    wanted: npt.NDArray[np.float64] = canvas.foreground * weights / weights.sum()
    return wanted


def explain_impossible(canvas: SceneCanvas) -> list[str]:
    """Return the reasons why such images cannot be drawn; [] if they can."""
    fewest = float(compute_class_shares(canvas).min()) * canvas.size**2
    length, width = canvas.object * np.sqrt(canvas.elongation), canvas.object / np.sqrt(canvas.elongation)
    limits = (
        ("pixels of the rarest class in an image must be", fewest, 4, canvas.size**2),
        ("the length of objects must be", length, 1, canvas.size),
        ("the width of objects must be", width, 1, length),
    )
    return [
        f"{rule} {low} to {high:.3g}, found {value:.3g}; change foreground, size, classes, ratio, object or elongation"
        for rule, value, low, high in limits
        if not low <= value <= high
    ]


def draw_shapes(rng: np.random.Generator, canvas: SceneCanvas) -> DrawnImage:
    """Draw one image: the classes' objects (1 …) on ground (0), each class with its exact number of pixels."""
    size, painter = canvas.size, Painter(rng, canvas.size)
    tone = rng.uniform(0.4, 0.55)
    texture = 0.25 * _CONTRAST * (painter.make_field(1.2) + painter.make_field(size / 8))
    image = np.repeat((tone + texture)[:, :, None], 3, axis=2)
    mask = np.zeros((size, size), dtype=np.uint8)
    factor = canvas.get_image_share(rng.uniform(0.4, 1.6)) / canvas.foreground
    number = 0
    # The most common class comes first, as the others are small enough to fit between its objects.
    for label, share in enumerate(compute_class_shares(canvas), 1):
        number += _fill_class(painter, canvas, mask, label, max(4, round(share * factor * size * size)))
    ground = image.copy()
    _draw_distractors(painter, canvas, image, round(_DISTRACTORS * number))
    # Evenly spaced hues of equal strength.
    hues = [colorsys.hsv_to_rgb(0.08 + i / (canvas.classes - 1), 0.6, 1.0) for i in range(canvas.classes - 1)]
    colours = _CONTRAST * np.array(hues) / np.mean(hues, axis=1, keepdims=True)
    for label, colour in enumerate(colours, 1):
        cover = (mask == label).astype(np.float64)
        blend_colour(image, ndimage.gaussian_filter(cover, canvas.blur) if canvas.blur else cover, ground + colour)
    return DrawnImage(painter.expose(image, canvas.noise), mask)


def _fill_class(painter: Painter, canvas: SceneCanvas, mask: Pixels, label: int, wanted: int) -> int:
    """Draw objects of a class into `mask` until it has exactly `wanted` pixels; return the number of objects."""
    missing, number, failures = wanted, 0, 0
    while missing > 0 and failures < _TRIES:
        cover = _draw_object(painter, canvas)
        # Objects keep apart while there is room, then may touch.
        occupied = mask > 0
        near = ndimage.binary_dilation(occupied, iterations=_GAP) if failures < _TRIES // 2 else occupied
        free = np.where(occupied, 0.0, cover)
        pixels = np.flatnonzero(free > 0)
        if not pixels.size or (failures < _TRIES - 1 and (near & (cover > 0)).any()):
            failures += 1
            continue
        # The last object is reduced to its innermost pixels, so that it keeps its shape.
        inner = pixels[np.argsort(-free.ravel()[pixels], kind="stable")[:missing]]
        mask.ravel()[inner] = label
        missing -= inner.size
        number += 1
        failures = 0
    if missing > 0:
        # There is no room for another object: existing ones grow, only into the ground.
        depth = (
            ndimage.distance_transform_edt(mask != label) if (mask == label).any() else painter.rng.random(mask.shape)
        )
        depth = np.where(mask > 0, np.inf, depth)
        mask.ravel()[np.argsort(depth.ravel(), kind="stable")[:missing]] = label
    return number


def _draw_object(painter: Painter, canvas: SceneCanvas) -> Field:
    """Draw one object at a random place; return the distance in pixels from its boundary, 0 outside, (H, W)."""
    rng, size, width = painter.rng, painter.size, canvas.object / np.sqrt(canvas.elongation)
    if canvas.elongation <= 1.05:
        points = rng.uniform(0, size, (1, 2))
    else:
        # A rod is a band of constant width around a bent line; its length includes the round ends.
        area = np.pi / 4 * canvas.object**2
        length = max(1.0, (area - np.pi / 4 * width**2) / width)
        start = rng.uniform(0, size, 2)
        points = painter.make_curve(start, rng.uniform(0, 2 * np.pi), max(2, round(2 * length)), 0.05)
        points += start - points.mean(axis=0)
    reach = width / 2
    # Objects cut by the image's edge are moved inside, if they fit.
    low, high = points.min(axis=0) - reach, points.max(axis=0) + reach
    fits = high - low < size - 1
    points += np.where(fits, np.maximum(0, -low) - np.maximum(0, high - (size - 1)), 0)
    top, left = (max(0, int(np.floor(v - reach))) for v in points.min(axis=0))
    bottom, right = (max(0, min(size, int(np.ceil(v + reach)) + 1)) for v in points.max(axis=0))
    inside = np.zeros((size, size))
    rows, columns = np.mgrid[top:bottom, left:right]
    distance = np.full(rows.shape, np.inf)
    for y, x in points:
        np.minimum(distance, (rows - y) ** 2 + (columns - x) ** 2, out=distance)
    inside[top:bottom, left:right] = np.clip(reach - np.sqrt(distance), 0.0, None)
    return inside


def _draw_distractors(painter: Painter, canvas: SceneCanvas, image: npt.NDArray[np.float64], number: int) -> None:
    """Draw dark objects of the same shapes, which belong to the ground and are below the labelled ones."""
    dark = image.mean(axis=(0, 1)) - _CONTRAST
    for _ in range(min(number, 40)):
        cover = make_soft_edge(_draw_object(painter, canvas) - 0.7, 0.7)  # 0 outside the object
        cover = ndimage.gaussian_filter(cover, canvas.blur) if canvas.blur else cover
        blend_colour(image, 0.8 * cover, dark)
