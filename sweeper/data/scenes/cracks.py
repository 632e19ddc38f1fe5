"""Pavement with cracks 1–3 pixels wide, and many distractors that look like cracks."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from sweeper.data.scenes.canvas import DrawnImage, Field, Painter, SceneCanvas, make_soft_edge, stamp_dot

_WIDEST = 3.0
"""Pixels."""
_ATTEMPTS = 400


def draw_cracks(rng: np.random.Generator, canvas: SceneCanvas) -> DrawnImage:
    """Draw one image: cracks (1) on pavement (0) with shadow edges, scratches, stains and joints."""
    painter = Painter(rng, canvas.size)
    ground = _draw_pavement(painter)
    ground *= _draw_shadow(painter)
    ground = _draw_distractors(painter, ground)
    cover, depth = _draw_cracks(painter, canvas.get_image_share(rng.uniform(0.4, 1.6)))
    ground *= 1 - cover * depth
    tint = np.array([1.0, 0.985, 0.96]) + rng.normal(0, 0.015, 3)
    return DrawnImage(painter.expose(ground[:, :, None] * tint, canvas.noise), (cover >= 0.5).astype(np.uint8))


def _draw_pavement(painter: Painter) -> Field:
    """Draw grey ground with grain, stones and patches."""
    rng = painter.rng
    field = rng.uniform(0.45, 0.65) + 0.028 * painter.make_field(0.8) + 0.022 * painter.make_field(1.8)
    field += 0.03 * painter.make_field(painter.size / 6)
    stones = painter.make_field(1.1)
    light = make_soft_edge(stones - rng.uniform(2.0, 2.6), 0.4)
    dark = make_soft_edge(-stones - rng.uniform(2.0, 2.6), 0.4)
    return field + (0.10 * light - 0.13 * dark)


def _draw_shadow(painter: Painter) -> Field | float:
    """Return a factor that puts half of the images partly in a shadow with a wavy edge."""
    rng, size = painter.rng, painter.size
    if rng.random() < 0.5:
        return 1.0
    y, x = painter.make_grid()
    angle = rng.uniform(0, 2 * np.pi)
    centre = size * rng.uniform(0.25, 0.75, 2)
    distance = (y - centre[0]) * np.sin(angle) + (x - centre[1]) * np.cos(angle) + 4 * painter.make_field(size / 8)
    return 1 - rng.uniform(0.2, 0.45) * make_soft_edge(distance, rng.uniform(0.8, 3.0))


def _draw_distractors(painter: Painter, ground: Field) -> Field:
    """Draw stains, joints, thin lines of sealant and bright scratches, none of them cracks."""
    rng, size = painter.rng, painter.size
    for _ in range(rng.integers(0, 4)):
        spot = painter.make_field(size / 14)
        ground = ground * (1 - rng.uniform(0.08, 0.25) * make_soft_edge(spot - rng.uniform(1.3, 2.2), 0.25))
    if rng.random() < 0.45:  # joints between slabs are straight, of even width and darkness
        angle = rng.choice([0, np.pi / 2]) + rng.normal(0, 0.08)
        start = rng.uniform(0.1, 0.9, 2) * size
        along = np.arange(-1.5 * size, 1.5 * size, 0.5)[:, None] * np.array([[np.sin(angle), np.cos(angle)]])
        ground = ground * (1 - rng.uniform(0.2, 0.4) * painter.draw_stroke(start + along, rng.uniform(1.5, 3.0)))
    for _ in range(rng.integers(1, 4)):
        start, heading, length = rng.uniform(0, size, 2), rng.uniform(0, 2 * np.pi), int(rng.integers(30, size * 2))
        points = painter.make_curve(start, heading, length, 0.04)
        ground = ground * (1 + rng.uniform(0.1, 0.3) * painter.draw_stroke(points, rng.uniform(0.8, 1.8)))
    for _ in range(rng.integers(0, 3)):  # smooth, wide arcs of a tyre or of sealant
        points = painter.make_curve(rng.uniform(0, size, 2), rng.uniform(0, 2 * np.pi), size * 2, 0.025)
        ground = ground * (1 - rng.uniform(0.06, 0.16) * painter.draw_stroke(points, rng.uniform(2.5, 6.0)))
    return ground


def _draw_cracks(painter: Painter, share: float) -> tuple[Field, Field]:
    """Draw cracks until they cover `share` of the pixels by half or more; return coverage and darkness, 0–1."""
    rng, size = painter.rng, painter.size
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
        points = painter.make_curve(start, heading, length, 0.15)
        # Kinks of one or two pixels make the path rough, like a fracture and unlike a pen stroke.
        points += 0.9 * ndimage.gaussian_filter1d(rng.standard_normal(points.shape), 1.5, axis=0)
        widest = rng.uniform(1.2, 3.0) * (0.7 if branch else 1.0)
        wave = ndimage.gaussian_filter1d(rng.standard_normal(length), 8)
        wave /= wave.std() + 1e-9
        taper = np.clip(1.6 * (1 - np.arange(length) / length) + 0.5, 0.5, 1.0)  # half as wide at the end
        widths = np.clip(widest * (0.8 + 0.35 * wave) * taper, 1.05, _WIDEST)
        for (y, x), width in zip(points, widths, strict=True):
            if missing <= 0 or not 0 <= min(y, x) <= max(y, x) < size:
                break
            missing -= stamp_dot(cover, float(y), float(x), float(width))
        roots += [
            (points[i], heading) for i in rng.integers(0, length, 2) if 0 <= points[i].min() <= points[i].max() < size
        ]
    depth = np.clip(rng.uniform(0.28, 0.55) + 0.12 * painter.make_field(9), 0.07, 0.75)
    return cover, depth
