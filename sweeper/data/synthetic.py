"""Synthetic data sets: draw `synthetic:NAME?key=value&…` as a `Dataset`, or as ordinary files for the folder reader."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qsl

import numpy as np
import numpy.typing as npt
from PIL import Image
from scipy import ndimage

from sweeper.core.errors import DataError, UsageError
from sweeper.core.label_parts import label_components
from sweeper.core.label_planes import join_layers, list_layers
from sweeper.core.records import Dataset
from sweeper.core.text import suggest_correction
from sweeper.data.class_map import OVERLAP
from sweeper.data.make_dataset import assemble
from sweeper.data.parallel import Tick, map_in_order
from sweeper.data.scenes import blobs, cracks, shapes, street
from sweeper.data.scenes.canvas import DrawnImage, SceneCanvas
from sweeper.data.store import Pixels, StoreWriter

PREFIX = "synthetic:"


class Parameter(NamedTuple):
    """One `key=value` of a scene."""

    kind: type[int] | type[float]
    low: float
    high: float
    default: float
    text: str


def _make_share(low: float, high: float, default: float, spread: float = 1.0) -> dict[str, Parameter]:
    """Return the parameters of a scene whose share of foreground can be chosen."""
    differ = "how much images differ in that share: 0 = not at all, 1 = by tens of per cent"
    return {
        "foreground": Parameter(float, low, high, default, "share of foreground pixels"),
        "spread": Parameter(float, 0.0, 1.0, spread, differ),
    }


class Scene(NamedTuple):
    """A kind of image that can be drawn."""

    draw: Callable[[np.random.Generator, SceneCanvas], DrawnImage]
    classes: tuple[str, ...]
    """Names in index order, at the default number of classes."""
    own: Mapping[str, Parameter]
    """Parameters in addition to `PARAMETERS`."""
    text: str
    has_planes: bool = False
    """Whether classes overlap, so that masks hold their bits."""


SCENES: dict[str, Scene] = {
    "cracks": Scene(
        cracks.draw_cracks,
        ("background", "crack"),
        _make_share(0.002, 0.1, 0.01),
        "thin cracks in pavement; binary, 1 % foreground",
    ),
    "blobs": Scene(
        blobs.draw_blobs,
        ("background", "cell"),
        _make_share(0.02, 0.5, 0.18),
        "touching cells under a microscope; binary, 18 % foreground",
    ),
    "cells": Scene(
        blobs.draw_cells,
        ("cell", "nucleus"),
        _make_share(0.05, 0.5, 0.25)
        | {
            "overlap": Parameter(
                float, 0.0, 1.0, 1.0, "about the share of each nucleus in its cell: 0 = it touches it from outside"
            )
        },
        "cells and their nuclei, which overlap: a pixel may be both; multi-label, 25 % cell",
        has_planes=True,
    ),
    "street": Scene(
        street.draw_street,
        ("ground", "road", "animal", "person", "sign"),
        {},
        "a country road; 5 classes from 0.05 % (sign) to 70 % (ground)",
    ),
    "shapes": Scene(
        shapes.draw_shapes,
        shapes.list_class_names(2),
        _make_share(0.001, 0.4, 0.05, spread=0.0)
        | {
            "object": Parameter(
                float, 3.0, 128.0, 12.0, "size of the objects: diameter in pixels of a disc of equal area"
            ),
            "elongation": Parameter(float, 1.0, 64.0, 1.0, "length of the objects divided by their width: 1 = discs"),
            "blur": Parameter(float, 0.0, 8.0, 0.0, "softness of the objects' edges in the image, σ in pixels"),
            "classes": Parameter(int, 2, 12, 2, "number of classes, ground included"),
            "ratio": Parameter(
                float, 1.0, 100.0, 1.0, "pixels of a class divided by those of the next one, ground apart"
            ),
        },
        "objects of chosen size, thinness, number of classes and share, exact to the pixel: the test bench",
    ),
}


PARAMETERS: dict[str, Parameter] = {
    "images": Parameter(int, 3, 20_000, 160, "number of images"),
    "size": Parameter(int, 64, 1024, 128, "side of the square images in pixels"),
    "seed": Parameter(int, 0, 2**32 - 1, 0, "other seeds give other images"),
    "noise": Parameter(float, 0.0, 0.5, 0.04, "standard deviation of the camera's noise, share of full scale"),
    "shift": Parameter(float, 0.0, 32.0, 0.0, "label noise: pixels that each mask is displaced by"),
    "missing": Parameter(float, 0.0, 1.0, 0.0, "label noise: share of the objects without a label"),
}
"""Parameters of every scene. Each parameter is a field of `SceneCanvas`."""


class SceneSet(NamedTuple):
    """A requested set, complete with defaults."""

    scene: str
    canvas: SceneCanvas

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes in index order."""
        return shapes.list_class_names(self.canvas.classes) if self.scene == "shapes" else SCENES[self.scene].classes

    @property
    def planes(self) -> int:
        """Number of classes whose bits the masks hold; 0 if they hold class indices."""
        return len(self.classes) * SCENES[self.scene].has_planes

    @property
    def name(self) -> str:
        """The scene with its parameters that differ from their defaults: equal sets have equal names."""
        values = {key: (getattr(self.canvas, key), one.default) for key, one in get_parameters(self.scene).items()}
        other = "&".join(f"{key}={value}" for key, (value, default) in values.items() if value != default)
        return f"{self.scene}?{other}".rstrip("?")


def parse_scene(text: str) -> SceneSet:
    """Parse `NAME?key=value&…`, with or without a leading `synthetic:`.

    Raises:
        DataError: unknown scene or parameter, a value of the wrong kind or out of range; all of them are listed.
    """
    name, _, query = text.removeprefix(PREFIX).partition("?")
    scene = SCENES.get(name)
    if scene is None:
        listed = ", ".join(f"{key} ({value.text})" for key, value in SCENES.items())
        raise DataError(
            text, [f"synthetic scene must be one of: {listed}; found {name!r}{suggest_correction(name, SCENES)}"]
        )
    allowed = get_parameters(name)
    values = {key: allowed[key].default for key in allowed}
    problems: list[str] = []
    seen: set[str] = set()
    for key, value in parse_qsl(query, keep_blank_values=True):
        if key not in allowed or key in seen:
            problems.append(
                f"{name} takes {', '.join(allowed)}, each once, found {key!r}"
                f"{suggest_correction(key, allowed)}; write one of those or leave it out"
            )
            continue
        seen.add(key)
        values[key] = _parse_number(key, value, allowed[key], problems)
    canvas = SceneCanvas(**values)  # type: ignore[arg-type]
    if not problems and name == "shapes":
        problems += shapes.explain_impossible(canvas)
    DataError.refuse(text, problems)
    return SceneSet(name, canvas)


def get_parameters(name: str) -> dict[str, Parameter]:
    """Return the parameters of the scene `name`, with ranges and defaults."""
    return {**PARAMETERS, **SCENES[name].own}


def _parse_number(key: str, value: str, wanted: Parameter, problems: list[str]) -> float:
    """Convert the value to its parameter's kind; a value out of range or not a number is a problem."""
    rule = f"`{key}` must be {'a whole number' if wanted.kind is int else 'a number'} "
    rule += f"from {wanted.low:.10g} to {wanted.high:.10g}"
    try:
        number = wanted.kind(value)
    except ValueError:
        number = float("nan")
    if wanted.low <= number <= wanted.high:
        return number
    problems.append(f"{rule} ({wanted.text}), found {value!r}; change it, or leave it out")
    return wanted.default


def compute_scene_fingerprint(scenes: SceneSet) -> str:
    """Return a digest that changes with anything that can change a drawn pixel.

    It covers the parameters, the drawing code and the libraries that it uses.
    """
    digest = hashlib.sha256(scenes.name.encode())
    for path in (Path(__file__), *sorted((Path(__file__).parent / "scenes").glob("*.py"))):
        digest.update(path.read_bytes())
    for library in ("numpy", "scipy"):
        digest.update(version(library).encode())
    return digest.hexdigest()


def draw_image(scenes: SceneSet, index: int) -> DrawnImage:
    """Draw image `index` of a set: image (size, size, 3) and mask (size, size), both uint8.

    It depends on the seed and the index, not on the number of images. Label noise has its own seed, so that the image
    is the same with and without it.
    """
    canvas = scenes.canvas
    drawn = SCENES[scenes.scene].draw(np.random.default_rng([canvas.seed, index]), canvas)
    rng = np.random.default_rng([canvas.seed, index, 1])
    layers = list_layers(drawn.mask, scenes.planes)
    spoiled = [spoil_labels(rng, layer, canvas.shift, canvas.missing) for layer in layers]
    return DrawnImage(drawn.image, join_layers(spoiled, scenes.planes))


def read_scenes(scenes: SceneSet, source: str, cache: Path, log: Callable[[str], None], tick: Tick) -> Dataset:
    """Draw a set into a store below `cache`; `log` receives a line at the start, `source` is the user's text."""
    log(f"drawing {scenes.canvas.images} images of {PREFIX}{scenes.name}")
    with StoreWriter(cache, channels=3) as writer:
        for number, drawn in enumerate(_draw_all(scenes), 1):
            writer.append(drawn.image, drawn.mask)
            tick(number, scenes.canvas.images)
        return assemble(
            writer,
            name=scenes.scene,
            source=source,
            format_name=None,
            classes=scenes.classes,
            stems=_make_stems(scenes),
            is_multilabel=scenes.planes > 0,
        )


def write_scenes(name_and_query: str, out: Path) -> SceneSet:
    """Write a set as ordinary files for the folder reader: images/, masks/ (PNG) and classes.txt.

    Classes that overlap have a folder of masks each, and `overlap.yaml` is the class map that keeps them apart.

    Args:
        name_and_query: `NAME?key=value&…`, with or without a leading `synthetic:`.
        out: folder to make; it must be new or empty.

    Returns:
        The set that was written.

    Raises:
        DataError: as `parse_scene`.
        UsageError: `out` is not an empty folder, or cannot be written.
    """
    scenes = parse_scene(name_and_query)
    try:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise UsageError(f"{out} must be a new or empty folder, found files there; choose another")
        folders = [out / "masks" / name for name in (scenes.classes if scenes.planes else ("",))]
        for folder in (out / "images", *folders):
            folder.mkdir(parents=True, exist_ok=True)
        for stem, drawn in zip(_make_stems(scenes), _draw_all(scenes), strict=True):
            Image.fromarray(drawn.image).save(out / "images" / f"{stem}.png")
            for folder, layer in zip(folders, list_layers(drawn.mask, scenes.planes), strict=True):
                Image.fromarray(layer).save(folder / f"{stem}.png")
        if scenes.planes:
            (out / "overlap.yaml").write_text(f"{OVERLAP}: keep\n", encoding="utf-8")
        (out / "classes.txt").write_text("\n".join(scenes.classes) + "\n", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{out} must be writable, and that failed: {error}; choose another folder") from error
    return scenes


def _draw_all(scenes: SceneSet) -> Iterator[DrawnImage]:
    return map_in_order(partial(draw_image, scenes), range(scenes.canvas.images), workers=2)


def _make_stems(scenes: SceneSet) -> list[str]:
    """Return numbers of equal width, so that they sort as text."""
    return [f"{index:05d}" for index in range(scenes.canvas.images)]


def label_pieces(mask: Pixels) -> npt.NDArray[np.int32]:
    """Label the connected pieces of all classes as 1, 2, …; class 0 stays 0.

    Pixels that touch, even at a corner, are neighbours. `mask` and the result are (H, W).
    """
    labels, number = np.zeros(mask.shape, dtype=np.int32), 0
    for one in np.unique(mask[mask > 0]):
        pieces, more = label_components(mask == one)
        labels += np.where(pieces > 0, pieces + number, 0).astype(np.int32)
        number += more
    return labels


def spoil_labels(rng: np.random.Generator, mask: Pixels, shift: float, missing: float) -> Pixels:
    """Return a mask as a careless annotator would draw it.

    First objects are removed: of the n connected pieces of all classes but 0, ⌊missing · n⌋, and one more at random, so
    that the expected share is exactly `missing`. Then the rest is shifted by `shift` pixels in a random direction,
    rounded to whole pixels on both axes; pixels from outside are class 0. `mask`: (H, W) uint8 class indices.
    """
    spoiled = mask.copy()
    if missing:
        pieces = label_pieces(mask)
        number = int(pieces.max())
        wanted = missing * number
        gone = int(wanted) + int(rng.random() < wanted - int(wanted))
        spoiled[np.isin(pieces, 1 + rng.permutation(number)[:gone])] = 0
    if shift:
        angle = rng.uniform(0, 2 * np.pi)
        down, right = round(shift * np.sin(angle)), round(shift * np.cos(angle))
        spoiled = ndimage.shift(spoiled, (down, right), order=0)
    return spoiled
