"""Cells under a microscope: touching, on an uneven background with debris; or with a nucleus each, which overlaps."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sweeper.core.label_planes import pack_planes
from sweeper.data.scenes.canvas import DrawnImage, Field, Painter, SceneCanvas, blend_colour, make_soft_edge

_CELL_LIGHT = (0.2, 0.25)
"""Brightness that a cell and its nucleus add."""
_SMALLEST = 2.5
"""Radius in pixels of the smallest cell."""
_Cell = tuple[float, float, float]
"""Centre (y, x) and radius."""
_Window = tuple[slice, slice]


def draw_blobs(rng: np.random.Generator, canvas: SceneCanvas) -> DrawnImage:
    """Draw one image: cells (1) on background (0) with specks, fibres and unlabelled cells out of focus."""
    size, painter = canvas.size, Painter(rng, canvas.size)
    ground = 0.22 + 0.05 * painter.make_field(size / 4) + 0.02 * painter.make_field(5) + 0.012 * painter.make_field(1.2)
    for _ in range(rng.integers(1, 5)):  # large faint discs far from the focal plane, without labels
        centre, radius = rng.uniform(0, size, 2), rng.uniform(7, 14)
        ground = ground + rng.uniform(0.04, 0.14) * painter.draw_disc(centre, radius, rng.uniform(4, 8))
    mask = np.zeros((size, size), dtype=bool)
    tissue = 0.5 + 0.25 * painter.make_field(2.2)
    missing = canvas.get_image_share(rng.uniform(0.6, 1.4)) * size * size
    cells: list[_Cell] = []
    for _ in range(2000):
        largest = np.sqrt(max(0.0, missing) / np.pi)
        if largest < _SMALLEST:
            break
        radius = min(float(rng.uniform(4.0, 10.0)), largest)
        if (found := _add_cell(rng, mask, cells, radius, 0.4)) is None:
            continue
        window, cell, new = found
        # The membrane is darker than the inside: a thin line separates touching cells.
        rim = np.clip(1 - np.abs(cell - 0.5) * 2.2, 0, 1)
        light = rng.uniform(0.04, 0.3)
        ground[window] += cell * light * (0.75 + 0.5 * tissue[window]) - 0.06 * rim
        mask[window] |= new
        missing -= int(new.sum())
    ground = _draw_debris(painter, ground)
    image = np.repeat(ground[:, :, None], 3, axis=2) * (np.array([0.95, 1.05, 0.97]) + rng.normal(0, 0.02, 3))
    return DrawnImage(painter.expose(image, canvas.noise), mask.astype(np.uint8))


def draw_cells(rng: np.random.Generator, canvas: SceneCanvas) -> DrawnImage:
    """Draw one image: cells that touch others, each with a nucleus of which `canvas.overlap` lies in the cell."""
    size, painter = canvas.size, Painter(rng, canvas.size)
    ground = 0.2 + 0.04 * painter.make_field(size / 4) + 0.02 * painter.make_field(5)
    planes = np.zeros((2, size, size), dtype=bool)
    cells: list[_Cell] = []
    wanted = canvas.get_image_share(rng.uniform(0.6, 1.4)) * size * size
    tries = 0
    while planes[0].sum() < wanted * (tries < 2000):
        tries += 1
        radius = float(rng.uniform(7.0, 13.0))
        if (found := _add_cell(rng, planes[0], cells, radius, 0.6)) is None:
            continue
        window, cell, _ = found
        y, x, _ = cells[-1]
        small, angle = radius * rng.uniform(0.4, 0.5), rng.uniform(0, 2 * np.pi)
        apart = radius + small * (1 - 2 * canvas.overlap)  # at 0 and 1 it touches the border
        spot, nucleus = _draw_cell(rng, size, y + apart * np.sin(angle), x + apart * np.cos(angle), small)
        own = np.zeros((2, size, size))
        own[0][window], own[1][spot] = cell, nucleus
        own[1] *= np.where(own[0] >= 0.5, canvas.overlap > 0, canvas.overlap < 1)
        planes |= own >= 0.5
        ground += np.tensordot(_CELL_LIGHT, own, 1)
    image = np.repeat(ground[:, :, None], 3, axis=2) * np.array([0.95, 1.05, 0.97])
    return DrawnImage(painter.expose(image, canvas.noise), pack_planes([*planes], np.zeros_like(planes[0])))


def _add_cell(
    rng: np.random.Generator, mask: npt.NDArray[np.bool_], cells: list[_Cell], radius: float, least: float
) -> tuple[_Window, Field, npt.NDArray[np.bool_]] | None:
    """Add a cell, and let most cells touch an earlier one; return its window, coverage 0–1 and new pixels in it.

    Return None if it is mostly outside, or on top of others: less than `least` of it is new.
    """
    if cells and rng.random() < 0.6:
        y, x, other = cells[int(rng.integers(len(cells)))]
        angle, gap = rng.uniform(0, 2 * np.pi), (radius + other) * rng.uniform(0.85, 1.05)
        y, x = y + gap * np.sin(angle), x + gap * np.cos(angle)
    else:
        y, x = rng.uniform(0, len(mask), 2).tolist()
    window, cell = _draw_cell(rng, len(mask), y, x, radius)
    new = (cell >= 0.5) & ~mask[window]
    if new.sum() < least * np.pi * radius**2:
        return None
    cells.append((y, x, radius))
    return window, cell, new


def _draw_cell(rng: np.random.Generator, size: int, y: float, x: float, radius: float) -> tuple[_Window, Field]:
    """Return the window around a rounded, uneven disc of about the given radius, and the disc's coverage 0–1 in it."""
    reach = 1.6 * radius + 2
    top, left = max(0, int(y - reach)), max(0, int(x - reach))
    window = slice(top, min(size, max(top, int(y + reach)))), slice(left, min(size, max(left, int(x + reach))))
    dy = np.arange(window[0].start, window[0].stop)[:, None] - y
    dx = np.arange(window[1].start, window[1].stop)[None, :] - x
    angle = np.arctan2(dy, dx)
    stretch, turn = rng.uniform(0.0, 0.22), rng.uniform(0, np.pi)
    outline = 1 + stretch * np.cos(2 * (angle - turn))
    for wave in (3, 4, 5):
        outline += rng.normal(0, 0.035) * np.cos(wave * angle + rng.uniform(0, 2 * np.pi))
    return window, make_soft_edge(radius * outline - np.hypot(dy, dx), 1.0)


def _draw_debris(painter: Painter, ground: Field) -> Field:
    """Draw small bright specks, dark grains, and fibres."""
    rng, size = painter.rng, painter.size
    image = ground[:, :, None].copy()
    for _ in range(int(rng.integers(4, 14) * (size / 128) ** 2) + 1):
        centre, radius = rng.uniform(0, size, 2), rng.uniform(0.8, 2.4)
        blend_colour(image, 0.8 * painter.draw_disc(centre, radius, 0.7), [rng.choice([0.1, 0.55, 0.75])])
    for _ in range(rng.integers(0, 3)):
        start, heading, length = rng.uniform(0, size, 2), rng.uniform(0, 2 * np.pi), int(rng.integers(40, 160))
        points = painter.make_curve(start, heading, length, 0.08)
        blend_colour(image, 0.6 * painter.draw_stroke(points, rng.uniform(1.0, 2.2)), [rng.uniform(0.4, 0.7)])
    return image[:, :, 0]
