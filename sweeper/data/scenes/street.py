"""A country road seen from a mast: classes whose pixel shares span three orders of magnitude."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sweeper.data.scenes.canvas import DrawnImage, Field, Painter, SceneCanvas, blend_colour, make_soft_edge
from sweeper.data.store import Pixels

GROUND, ROAD, ANIMAL, PERSON, SIGN = range(5)


class _Scene(Painter):
    """Image under construction; positions and sizes are in pixels of a 128-pixel image times `scale`."""

    def __init__(self, rng: np.random.Generator, size: int) -> None:
        super().__init__(rng, size)
        self.scale = size / 128
        self.image = self._draw_ground()
        self.mask: Pixels = np.zeros((size, size), dtype=np.uint8)

    def _draw_ground(self) -> npt.NDArray[np.float64]:
        """Draw grass and bare soil in patches, (H, W, 3)."""
        grass = np.array([0.36, 0.42, 0.24]) + self.rng.normal(0, 0.03, 3)
        soil = np.array([0.50, 0.42, 0.31]) + self.rng.normal(0, 0.03, 3)
        mix = make_soft_edge(self.make_field(self.size / 9) + self.rng.normal(0, 0.5), 1.0)[:, :, None]
        image: npt.NDArray[np.float64] = mix * grass + (1 - mix) * soil
        return image + (0.035 * self.make_field(0.9) + 0.025 * self.make_field(3))[:, :, None]

    def pick_place(self) -> tuple[float, float]:
        """Return a random place, y and x."""
        y, x = self.rng.uniform(0.08, 0.92, 2) * self.size
        return float(y), float(x)

    def paint(self, cover: Field, colour: npt.ArrayLike, texture: float, label: int) -> None:
        """Paint a shape, shade it from above, and label it; distractors are labelled as ground, even on the road."""
        inside = cover >= 0.5
        fill = np.asarray(colour, dtype=np.float64) * (1 + texture * self.make_field(1.5)[:, :, None])
        rows = np.flatnonzero(inside.any(axis=1))
        if rows.size:
            y, _ = self.make_grid()
            fill = fill * (1.12 - 0.28 * np.clip((y - rows[0]) / max(1, rows[-1] - rows[0]), 0, 1))[:, :, None]
        blend_colour(self.image, cover, fill)
        self.mask[inside] = label

    def draw_limb(self, start: tuple[float, float], end: tuple[float, float], width: float) -> Field:
        """Draw a straight thick line."""
        count = max(2, int(2 * np.hypot(end[0] - start[0], end[1] - start[1])))
        return self.draw_stroke(np.linspace(start, end, count), width)

    def paint_post(self, top: tuple[float, float], length: float) -> None:
        """Paint a thin post, which belongs to the ground."""
        limb = self.draw_limb(top, (top[0] + length, top[1]), max(1.2, 1.2 * self.scale))
        self.paint(limb, [0.55, 0.55, 0.56], 0.0, GROUND)


def draw_street(rng: np.random.Generator, canvas: SceneCanvas) -> DrawnImage:
    """Draw one image: road 1 (about 29 %), animal 2 (1.4 %), person 3 (0.3 %), sign 4 (0.05 %), ground 0."""
    scene = _Scene(rng, canvas.size)
    _draw_road(scene)
    _draw_distractors(scene)
    # Far things first, so that near ones hide them.
    for _ in range(rng.binomial(2, 0.6)):
        _draw_animal(scene)
    if rng.random() < 0.75:
        _draw_person(scene)
    if rng.random() < 0.3:
        _draw_sign(scene)
    return DrawnImage(scene.expose(scene.image, canvas.noise), scene.mask)


def _draw_road(scene: _Scene) -> None:
    """Draw a curved band across the image, worn at its edges, sometimes with a dashed line."""
    rng, scale, size = scene.rng, scene.scale, scene.size
    y, x = scene.make_grid()
    if rng.random() < 0.5:
        y, x = x, y
    bow = rng.normal(0, 0.18) * size * np.sin(np.pi * (y / size + rng.uniform(0, 1)))
    middle = size * rng.uniform(0.3, 0.7) + bow + (y - size / 2) * rng.normal(0, 0.3)
    half = size * rng.uniform(0.11, 0.2) * (1 + 0.25 * (y / size - 0.5))
    distance = half - np.abs(x - middle) + 1.2 * scale * scene.make_field(3 * scale)
    cover = make_soft_edge(distance, 1.2)
    grey = rng.uniform(0.38, 0.52) * np.array([1.0, 0.98, 0.95])
    grain = 0.025 * scene.make_field(0.8) + 0.03 * scene.make_field(size / 8)
    blend_colour(scene.image, cover, grey + grain[:, :, None])
    scene.mask[cover >= 0.5] = ROAD
    if rng.random() < 0.6:
        dashes = make_soft_edge(1.2 * scale - np.abs(x - middle), 0.7) * (np.mod(y, 22 * scale) < 10 * scale)
        blend_colour(scene.image, 0.6 * dashes * cover, [0.72, 0.72, 0.68])


def _draw_distractors(scene: _Scene) -> None:
    """Draw rocks (like animals), bushes, bare posts and litter (like signs), and cloud shadows."""
    rng, scale = scene.rng, scene.scale
    dark = rng.uniform(0, 0.3)
    shadow = make_soft_edge(scene.make_field(scene.size / 5) - rng.uniform(0.3, 1.2), 0.3)
    scene.image *= 1 - dark * shadow[:, :, None]
    for _ in range(rng.integers(1, 5)):
        radii = scale * rng.uniform(3, 9) * np.array([1.0, rng.uniform(0.55, 0.9)])
        place, angle = scene.pick_place(), rng.uniform(-0.4, 0.4)
        scene.paint(scene.draw_ellipse(place, radii, angle), _pick_coat(rng, rocky=True), 0.06, GROUND)
    for _ in range(rng.integers(1, 5)):
        radii = scale * rng.uniform(3, 8) * np.array([1.0, rng.uniform(0.7, 1.0)])
        leaf = np.array([0.24, 0.34, 0.17]) * rng.uniform(0.8, 1.2)
        scene.paint(scene.draw_ellipse(scene.pick_place(), radii, 0.0, 2.0), leaf, 0.08, GROUND)
    for _ in range(rng.integers(0, 3)):
        scene.paint_post(scene.pick_place(), scale * rng.uniform(6, 14))
    for _ in range(rng.integers(1, 5)):
        colour = _pick_bright(rng) * rng.uniform(0.6, 1.0)
        place, radii = scene.pick_place(), scale * rng.uniform(0.6, 1.5, 2)
        scene.paint(scene.draw_ellipse(place, radii, 0.0), colour, 0.0, GROUND)


def _draw_animal(scene: _Scene) -> None:
    """Draw a grazing or standing animal: trunk, neck, head, legs, in the colours of soil and rock."""
    rng, scale = scene.rng, scene.scale
    length = scale * rng.uniform(6.0, 10.5)
    y, x = scene.pick_place()
    facing = rng.choice([-1, 1])
    height = length * rng.uniform(0.5, 0.62)
    cover = scene.draw_ellipse((y, x), (length, height), rng.normal(0, 0.08))
    drop = rng.uniform(-0.75, 0.5) * length
    head = (y + drop, x + facing * 1.25 * length)
    cover = np.maximum(cover, scene.draw_limb((y - 0.15 * height, x + facing * 0.75 * length), head, 0.42 * length))
    cover = np.maximum(cover, scene.draw_ellipse(head, (0.36 * length, 0.24 * length), facing * 0.5))
    for place in (-0.72, -0.5, 0.45, 0.7):
        foot = (y + height + 0.62 * length, x + place * length + rng.normal(0, 0.06) * length)
        hip = (y + 0.4 * height, x + place * length)
        cover = np.maximum(cover, scene.draw_limb(hip, foot, max(1.4, 0.2 * length)))
    scene.paint(cover, _pick_coat(rng, rocky=False), 0.06, ANIMAL)


def _draw_person(scene: _Scene) -> None:
    """Draw a small upright figure: head, trunk, legs; a third of them in the colours of the ground."""
    rng, scale = scene.rng, scene.scale
    tall = scale * rng.uniform(11, 19)
    y, x = scene.pick_place()
    is_bright = rng.random() < 0.65
    clothes = rng.permutation([0.15, rng.uniform(0.2, 0.6), 0.75]) if is_bright else np.array([0.4, 0.4, 0.28])
    trousers = rng.uniform(0.1, 0.4) * np.array([0.9, 0.95, 1.1])
    legs = np.maximum(
        scene.draw_limb((y, x - 0.06 * tall), (y + 0.46 * tall, x - rng.uniform(0.05, 0.16) * tall), 0.13 * tall),
        scene.draw_limb((y, x + 0.06 * tall), (y + 0.46 * tall, x + rng.uniform(0.05, 0.16) * tall), 0.13 * tall),
    )
    scene.paint(legs, trousers, 0.02, PERSON)
    trunk = scene.draw_ellipse((y - 0.12 * tall, x), (0.15 * tall, 0.25 * tall), 0.0)
    scene.paint(trunk, clothes, 0.02, PERSON)
    head = scene.draw_ellipse((y - 0.43 * tall, x), (0.09 * tall, 0.1 * tall), 0.0)
    scene.paint(head, [0.6, 0.45, 0.36], 0.0, PERSON)


def _draw_sign(scene: _Scene) -> None:
    """Draw a coloured plate on a post; only the plate is labelled, the post belongs to the ground."""
    rng, scale = scene.rng, scene.scale
    radius = max(1.6, scale * rng.uniform(2.0, 3.4))
    y, x = scene.pick_place()
    scene.paint_post((y, x), scale * rng.uniform(8, 14))
    rows, columns = scene.make_grid()
    dy, dx = rows - y, columns - x
    distance = radius - np.hypot(dy, dx)
    if rng.random() >= 0.5:
        distance = (1.25 * radius - np.abs(dy) - np.abs(dx)) / np.sqrt(2)
    colour = _pick_bright(rng)
    scene.paint(make_soft_edge(distance, 0.6), colour, 0.0, SIGN)
    blend_colour(scene.image, 0.7 * make_soft_edge(distance - 0.45 * radius, 0.5), 0.5 * colour + 0.4)


def _pick_coat(rng: np.random.Generator, *, rocky: bool) -> npt.NDArray[np.float64]:
    """Return a brown or grey; rocks are a little greyer than animals, but colour does not separate all of them."""
    brown, grey = np.array([0.44, 0.32, 0.22]), np.array([0.46, 0.44, 0.41])
    mix = rng.beta(2, 4) if rocky else rng.beta(4, 2)
    light = rng.uniform(0.75, 1.3) if rocky else rng.uniform(0.4, 1.0)
    return np.asarray(light * (mix * brown + (1 - mix) * grey))


def _pick_bright(rng: np.random.Generator) -> npt.NDArray[np.float64]:
    colours = np.array([[0.75, 0.16, 0.14], [0.82, 0.68, 0.15], [0.16, 0.3, 0.65], [0.8, 0.8, 0.78]])
    picked: npt.NDArray[np.float64] = colours[rng.integers(len(colours))]
    return picked
