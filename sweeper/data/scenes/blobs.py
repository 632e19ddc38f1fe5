"""Cells under a microscope: touching, on an uneven background with debris; or with a nucleus each, which overlaps."""

from __future__ import annotations

import numpy as np

from sweeper.core.label_planes import pack_planes
from sweeper.data.scenes.canvas import (
    DrawnImage,
    Field,
    SceneCanvas,
    blend_colour,
    draw_stroke,
    expose_image,
    make_grid,
    make_random_curve,
    make_smooth_field,
    make_soft_edge,
)

CLASSES = ("background", "cell")
CELL_PARTS = ("cell", "nucleus")
_CELL_LIGHT = (0.2, 0.25)
"""Brightness that a cell and its nucleus add."""
_SMALLEST = 2.5
"""Radius in pixels of the smallest cell."""


def draw_blobs(rng: np.random.Generator, canvas: SceneCanvas) -> DrawnImage:
    """Draw one image: cells (1) on background (0) with specks, fibres and unlabelled cells out of focus."""
    size = canvas.size
    ground = (
        0.22
        + 0.05 * make_smooth_field(rng, size, size / 4)
        + 0.02 * make_smooth_field(rng, size, 5)
        + 0.012 * make_smooth_field(rng, size, 1.2)
    )
    ground = _draw_out_of_focus(rng, ground)
    mask = np.zeros((size, size), dtype=bool)
    tissue = 0.5 + 0.25 * make_smooth_field(rng, size, 2.2)
    missing = canvas.get_image_share(rng.uniform(0.6, 1.4)) * size * size
    centres: list[tuple[float, float, float]] = []
    for _ in range(2000):
        largest = np.sqrt(max(0.0, missing) / np.pi)
        if largest < _SMALLEST:
            break
        radius = min(float(rng.uniform(4.0, 10.0)), largest)
        y, x = _place_cell(rng, size, centres, radius)
        window, cell = _draw_cell(rng, size, y, x, radius)
        new = (cell >= 0.5) & ~mask[window]
        if new.sum() < 0.4 * np.pi * radius**2:  # mostly outside, or on top of others
            continue
        # The membrane is darker than the inside: a thin line separates touching cells.
        rim = np.clip(1 - np.abs(cell - 0.5) * 2.2, 0, 1)
        light = rng.uniform(0.04, 0.3)
        ground[window] += cell * light * (0.75 + 0.5 * tissue[window]) - 0.06 * rim
        mask[window] |= new
        missing -= int(new.sum())
        centres.append((y, x, radius))
    ground = _draw_debris(rng, ground)
    image = np.repeat(ground[:, :, None], 3, axis=2) * (np.array([0.95, 1.05, 0.97]) + rng.normal(0, 0.02, 3))
    return DrawnImage(expose_image(rng, image, canvas.noise), mask.astype(np.uint8))


def draw_cells(rng: np.random.Generator, canvas: SceneCanvas) -> DrawnImage:
    """Draw one image: cells that touch others, each with a nucleus of which `canvas.overlap` lies in the cell."""
    size = canvas.size
    ground = 0.2 + 0.04 * make_smooth_field(rng, size, size / 4) + 0.02 * make_smooth_field(rng, size, 5)
    planes = np.zeros((2, size, size), dtype=bool)
    centres: list[tuple[float, float, float]] = []
    wanted = canvas.get_image_share(rng.uniform(0.6, 1.4)) * size * size
    tries = 0
    while planes[0].sum() < wanted * (tries < 2000):
        tries += 1
        radius = float(rng.uniform(7.0, 13.0))
        y, x = _place_cell(rng, size, centres, radius)
        window, cell = _draw_cell(rng, size, y, x, radius)
        if ((cell >= 0.5) & ~planes[0][window]).sum() < 0.6 * np.pi * radius**2:  # outside, or on top of others
            continue
        small, angle = radius * rng.uniform(0.4, 0.5), rng.uniform(0, 2 * np.pi)
        apart = radius + small * (1 - 2 * canvas.overlap)  # at 0 and 1 it touches the border
        spot, nucleus = _draw_cell(rng, size, y + apart * np.sin(angle), x + apart * np.cos(angle), small)
        own = np.zeros((2, size, size))
        own[0][window], own[1][spot] = cell, nucleus
        own[1] *= np.where(own[0] >= 0.5, canvas.overlap > 0, canvas.overlap < 1)
        planes |= own >= 0.5
        ground += np.tensordot(_CELL_LIGHT, own, 1)
        centres.append((y, x, radius))
    image = np.repeat(ground[:, :, None], 3, axis=2) * np.array([0.95, 1.05, 0.97])
    return DrawnImage(expose_image(rng, image, canvas.noise), pack_planes([*planes], np.zeros_like(planes[0])))


def _place_cell(
    rng: np.random.Generator, size: int, centres: list[tuple[float, float, float]], radius: float
) -> tuple[float, float]:
    """Return a centre (y, x) and let most cells touch an earlier one."""
    if centres and rng.random() < 0.6:
        y, x, other = centres[int(rng.integers(len(centres)))]
        angle, gap = rng.uniform(0, 2 * np.pi), (radius + other) * rng.uniform(0.85, 1.05)
        return y + gap * np.sin(angle), x + gap * np.cos(angle)
    y, x = rng.uniform(0, size, 2)
    return float(y), float(x)


def _draw_cell(
    rng: np.random.Generator, size: int, y: float, x: float, radius: float
) -> tuple[tuple[slice, slice], Field]:
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


def _draw_out_of_focus(rng: np.random.Generator, ground: Field) -> Field:
    """Draw large faint discs far from the focal plane, without labels."""
    size = len(ground)
    y, x = make_grid(size)
    for _ in range(rng.integers(1, 5)):
        centre, radius = rng.uniform(0, size, 2), rng.uniform(7, 14)
        distance = radius - np.hypot(y - centre[0], x - centre[1])
        ground = ground + rng.uniform(0.04, 0.14) * make_soft_edge(distance, rng.uniform(4, 8))
    return ground


def _draw_debris(rng: np.random.Generator, ground: Field) -> Field:
    """Draw small bright specks, dark grains, and fibres."""
    size = len(ground)
    image = ground[:, :, None].copy()
    y, x = make_grid(size)
    for _ in range(int(rng.integers(4, 14) * (size / 128) ** 2) + 1):
        centre, radius = rng.uniform(0, size, 2), rng.uniform(0.8, 2.4)
        blend_colour(
            image,
            0.8 * make_soft_edge(radius - np.hypot(y - centre[0], x - centre[1]), 0.7),
            [rng.choice([0.1, 0.55, 0.75])],
        )
    for _ in range(rng.integers(0, 3)):
        points = make_random_curve(
            rng, rng.uniform(0, size, 2), rng.uniform(0, 2 * np.pi), int(rng.integers(40, 160)), 0.08
        )
        blend_colour(image, 0.6 * draw_stroke(size, points, rng.uniform(1.0, 2.2)), [rng.uniform(0.4, 0.7)])
    return image[:, :, 0]
