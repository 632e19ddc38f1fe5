"""Pavement with cracks 1–3 pixels wide, and many distractors that look like cracks."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from sweeper.data.scenes.canvas import (
    DrawnImage,
    Field,
    SceneCanvas,
    draw_stroke,
    expose_image,
    make_grid,
    make_random_curve,
    make_smooth_field,
    make_soft_edge,
    stamp_dot,
)

CLASSES = ("background", "crack")
_WIDEST = 3.0
"""Pixels."""
_ATTEMPTS = 400


def draw_cracks(rng: np.random.Generator, canvas: SceneCanvas) -> DrawnImage:
    """Draw one image: cracks (1) on pavement (0) with shadow edges, scratches, stains and joints."""
    size = canvas.size
    ground = _draw_pavement(rng, size)
    ground *= _draw_shadow(rng, size)
    ground = _draw_distractors(rng, ground)
    cover, depth = _draw_cracks(rng, canvas, canvas.get_image_share(rng.uniform(0.4, 1.6)))
    ground *= 1 - cover * depth
    tint = np.array([1.0, 0.985, 0.96]) + rng.normal(0, 0.015, 3)
    image = expose_image(rng, ground[:, :, None] * tint, canvas.noise)
    return DrawnImage(image, (cover >= 0.5).astype(np.uint8))


def _draw_pavement(rng: np.random.Generator, size: int) -> Field:
    """Draw grey ground with grain, stones and patches."""
    base = rng.uniform(0.45, 0.65)
    field = (
        base
        + 0.028 * make_smooth_field(rng, size, 0.8)
        + 0.022 * make_smooth_field(rng, size, 1.8)
        + 0.03 * make_smooth_field(rng, size, size / 6)
    )
    stones = make_smooth_field(rng, size, 1.1)
    field += 0.10 * make_soft_edge(stones - rng.uniform(2.0, 2.6), 0.4) - 0.13 * make_soft_edge(
        -stones - rng.uniform(2.0, 2.6), 0.4
    )
    return field


def _draw_shadow(rng: np.random.Generator, size: int) -> Field | float:
    """Return a factor that puts half of the images partly in a shadow with a wavy edge."""
    if rng.random() < 0.5:
        return 1.0
    y, x = make_grid(size)
    angle = rng.uniform(0, 2 * np.pi)
    centre = size * rng.uniform(0.25, 0.75, 2)
    distance = (
        (y - centre[0]) * np.sin(angle) + (x - centre[1]) * np.cos(angle) + 4 * make_smooth_field(rng, size, size / 8)
    )
    return 1 - rng.uniform(0.2, 0.45) * make_soft_edge(distance, rng.uniform(0.8, 3.0))


def _draw_distractors(rng: np.random.Generator, ground: Field) -> Field:
    """Draw stains, joints, thin lines of sealant and bright scratches, none of them cracks."""
    size = len(ground)
    for _ in range(rng.integers(0, 4)):
        spot = make_smooth_field(rng, size, size / 14)
        ground = ground * (1 - rng.uniform(0.08, 0.25) * make_soft_edge(spot - rng.uniform(1.3, 2.2), 0.25))
    if rng.random() < 0.45:  # joints between slabs are straight, of even width and darkness
        angle = rng.choice([0, np.pi / 2]) + rng.normal(0, 0.08)
        start = rng.uniform(0.1, 0.9, 2) * size
        along = np.arange(-1.5 * size, 1.5 * size, 0.5)[:, None] * np.array([[np.sin(angle), np.cos(angle)]])
        ground = ground * (1 - rng.uniform(0.2, 0.4) * draw_stroke(size, start + along, rng.uniform(1.5, 3.0)))
    for _ in range(rng.integers(1, 4)):
        points = make_random_curve(
            rng, rng.uniform(0, size, 2), rng.uniform(0, 2 * np.pi), int(rng.integers(30, size * 2)), 0.04
        )
        ground = ground * (1 + rng.uniform(0.1, 0.3) * draw_stroke(size, points, rng.uniform(0.8, 1.8)))
    for _ in range(rng.integers(0, 3)):  # smooth, wide arcs of a tyre or of sealant
        points = make_random_curve(rng, rng.uniform(0, size, 2), rng.uniform(0, 2 * np.pi), size * 2, 0.025)
        ground = ground * (1 - rng.uniform(0.06, 0.16) * draw_stroke(size, points, rng.uniform(2.5, 6.0)))
    return ground


def _draw_cracks(rng: np.random.Generator, canvas: SceneCanvas, share: float) -> tuple[Field, Field]:
    """Draw cracks until they cover `share` of the pixels by half or more; return coverage and darkness, 0–1."""
    size = canvas.size
    missing = max(2, round(share * size * size))
    cover = np.zeros((size, size))
    roots: list[tuple[npt.NDArray[np.float64], float]] = []
    for _ in range(_ATTEMPTS):
        if missing <= 0:
            break
        branch = bool(roots) and (missing < 25 or rng.random() < 0.55)
        if branch:
            start, heading = roots[int(rng.integers(len(roots)))]
            heading += rng.choice([-1, 1]) * rng.uniform(0.4, 1.2)
        else:
            start, heading = rng.uniform(0.05, 0.95, 2) * size, rng.uniform(0, 2 * np.pi)
        length = max(4, int(size * rng.uniform(0.4, 2.4) * (0.5 if branch else 1.0)))
        points = make_random_curve(rng, start, heading, length, 0.15)
        # Kinks of one or two pixels make the path rough, like a fracture and unlike a pen stroke.
        points += 0.9 * ndimage.gaussian_filter1d(rng.standard_normal(points.shape), 1.5, axis=0)
        widest = rng.uniform(1.2, 3.0) * (0.7 if branch else 1.0)
        widths = np.clip(widest * (0.8 + 0.35 * _make_wave(rng, length, 8)) * _make_taper(length), 1.05, _WIDEST)
        for (y, x), width in zip(points, widths, strict=True):
            if missing <= 0 or not 0 <= min(y, x) <= max(y, x) < size:
                break
            missing -= stamp_dot(cover, float(y), float(x), float(width))
        roots += [
            (points[i], heading) for i in rng.integers(0, length, 2) if 0 <= points[i].min() <= points[i].max() < size
        ]
    depth = np.clip(rng.uniform(0.28, 0.55) + 0.12 * make_smooth_field(rng, size, 9), 0.07, 0.75)
    return cover, depth


def _make_wave(rng: np.random.Generator, length: int, sigma: float) -> npt.NDArray[np.float64]:
    wave: npt.NDArray[np.float64] = ndimage.gaussian_filter1d(rng.standard_normal(length), sigma)
    wave /= wave.std() + 1e-9
    return wave


def _make_taper(length: int) -> npt.NDArray[np.float64]:
    """Return relative widths along a crack: full for most of the way, half at the end."""
    return np.clip(1.6 * (1 - np.arange(length) / length) + 0.5, 0.5, 1.0)
