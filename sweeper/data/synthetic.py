"""Synthetic data sets: `synthetic:NAME?key=value&…` → `Dataset`, or ordinary files for the folder reader."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import parse_qsl

import numpy as np
from PIL import Image

from sweeper.data.assemble import assemble
from sweeper.data.scenes import Canvas, Drawn, blobs, cracks, street
from sweeper.data.store import StoreWriter
from sweeper.data.tables import Side, shown
from sweeper.data.threads import in_order
from sweeper.errors import DataError, UsageError
from sweeper.records import Dataset

PREFIX = "synthetic:"


class Parameter(NamedTuple):
    """One `key=value` of a scene."""

    kind: type[int] | type[float]
    low: float
    high: float
    default: float
    text: str


def _foreground(low: float, high: float, default: float) -> Parameter:
    return Parameter(float, low, high, default, "share of foreground pixels")


class Scene(NamedTuple):
    """A kind of picture that can be drawn."""

    draw: Callable[[np.random.Generator, Canvas], Drawn]
    classes: tuple[str, ...]
    foreground: Parameter | None
    """Share of foreground pixels that may be asked for; None where shares are fixed by the scene."""
    text: str


SCENES: dict[str, Scene] = {
    "cracks": Scene(
        cracks.draw_cracks,
        cracks.CLASSES,
        _foreground(0.002, 0.1, 0.01),
        "thin cracks in pavement; binary, 1 % foreground",
    ),
    "blobs": Scene(
        blobs.draw_blobs,
        blobs.CLASSES,
        _foreground(0.02, 0.5, 0.18),
        "touching cells under a microscope; binary, 18 % foreground",
    ),
    "street": Scene(
        street.draw_street, street.CLASSES, None, "a country road; 5 classes from 0.05 % (sign) to 70 % (ground)"
    ),
}


PARAMETERS: dict[str, Parameter] = {
    "images": Parameter(int, 3, 20_000, 160, "number of pictures"),
    "size": Parameter(int, 64, 1024, 128, "side of the square pictures in pixels"),
    "seed": Parameter(int, 0, 2**32 - 1, 0, "other seeds give other pictures"),
    "noise": Parameter(float, 0.0, 0.5, 0.04, "standard deviation of the camera's noise, share of full scale"),
}
"""What every scene takes."""


class SceneSet(NamedTuple):
    """A set that was asked for, complete with defaults."""

    scene: str
    images: int
    size: int
    seed: int
    noise: float
    foreground: float | None

    @property
    def name(self) -> str:
        """The same set has the same name, however its parameters were written."""
        shares = "" if self.foreground is None else f"&foreground={self.foreground:g}"
        return f"{self.scene}?images={self.images}&size={self.size}&seed={self.seed}&noise={self.noise:g}{shares}"


def parse_scene(text: str) -> SceneSet:
    """Read `NAME?key=value&…`, with or without `synthetic:` before it.

    Raises:
        DataError: unknown scene or parameter, a value of the wrong kind or out of range; all of them are named.
    """
    name, _, query = text.removeprefix(PREFIX).partition("?")
    scene = SCENES.get(name)
    if scene is None:
        listed = ", ".join(f"{key} ({value.text})" for key, value in SCENES.items())
        raise DataError(
            shown(text), [f"synthetic scene must be one of those below, found {shown(name)!r}; choose one of: {listed}"]
        )
    allowed = parameters(name)
    values: dict[str, Any] = {"foreground": None} | {key: allowed[key].default for key in allowed}
    problems: list[str] = []
    seen: set[str] = set()
    for key, value in parse_qsl(query, keep_blank_values=True):
        if key not in allowed:
            problems.append(
                f"{name} takes {', '.join(allowed)}, found {shown(key)!r}; write one of those or leave it out"
            )
            continue
        if key in seen:
            problems.append(f"`{key}` may be set once, found it again with {shown(value)!r}; leave one out")
        seen.add(key)
        values[key] = _number(key, value, allowed[key], problems)
    if problems:
        raise DataError(shown(text), problems)
    return SceneSet(scene=name, **values)


def parameters(name: str) -> dict[str, Parameter]:
    """What the scene `name` takes, with ranges and defaults."""
    foreground = SCENES[name].foreground
    return PARAMETERS if foreground is None else {**PARAMETERS, "foreground": foreground}


def _number(key: str, value: str, wanted: Parameter, problems: list[str]) -> float:
    """The value as its parameter's kind; out of range or not a number is a problem."""
    rule = f"`{key}` must be {'a whole number' if wanted.kind is int else 'a number'} "
    rule += f"from {wanted.low:.10g} to {wanted.high:.10g}"
    try:
        number = wanted.kind(value)
    except ValueError:
        number = float("nan")
    if wanted.low <= number <= wanted.high:
        return number
    problems.append(f"{rule} ({wanted.text}), found {shown(value)!r}; change it, or leave it out")
    return wanted.default


def scene_fingerprint(scenes: SceneSet) -> str:
    """Changes with whatever can change a drawn pixel: parameters, our own drawing code, the libraries it rests on."""
    digest = hashlib.sha256(scenes.name.encode())
    for path in sorted((Path(__file__).parent / "scenes").glob("*.py")):
        digest.update(path.read_bytes())
    for library in ("numpy", "scipy"):
        digest.update(version(library).encode())
    return digest.hexdigest()


def draw(scenes: SceneSet, index: int) -> Drawn:
    """Picture `index` of a set: image (size, size, 3) uint8 and mask (size, size) uint8.

    It depends on the seed and the index, not on the number of pictures.
    """
    rng = np.random.default_rng([scenes.seed, index])
    return SCENES[scenes.scene].draw(rng, Canvas(scenes.size, scenes.foreground or 0.0, scenes.noise))


def read_scenes(scenes: SceneSet, source: str, cache: Path, say: Callable[[str], None]) -> Dataset:
    """Draw a set into a store below `cache`.

    Args:
        scenes: what to draw.
        source: what the user asked for.
        cache: where the store is put, named by its digest.
        say: receives one line of progress.
    """
    say(f"drawing {scenes.images} pictures of {PREFIX}{scenes.name}")
    counts = []
    with StoreWriter(cache, channels=3) as writer:
        for drawn in _all(scenes):
            writer.append(drawn.image, drawn.mask)
            counts.append(np.bincount(drawn.mask.ravel(), minlength=256))
        return assemble(
            writer,
            writer.finish(),
            name=scenes.scene,
            source=source,
            classes=SCENES[scenes.scene].classes,
            stems=_stems(scenes),
            counts=np.array(counts, dtype=np.int64),
            sides=[Side()] * scenes.images,
            synthetic=True,
        )


def write_scenes(name_and_query: str, out: Path) -> SceneSet:
    """Write a set as ordinary files: images/ and masks/ (PNG) and classes.txt, which the folder reader reads back.

    Args:
        name_and_query: `NAME?key=value&…`, with or without `synthetic:` before it.
        out: folder to make; it must be new or empty.

    Returns:
        What was written.

    Raises:
        DataError: as `parse_scene`.
        UsageError: `out` is not an empty folder, or cannot be written.
    """
    scenes = parse_scene(name_and_query)
    try:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise UsageError(f"{shown(out)} must be a new or empty folder, found files there; choose another")
        for folder in ("images", "masks"):
            (out / folder).mkdir(parents=True, exist_ok=True)
        for stem, drawn in zip(_stems(scenes), _all(scenes), strict=True):
            Image.fromarray(drawn.image).save(out / "images" / f"{stem}.png")
            Image.fromarray(drawn.mask).save(out / "masks" / f"{stem}.png")
        (out / "classes.txt").write_text("\n".join(SCENES[scenes.scene].classes) + "\n", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{shown(out)} must be writable, and that failed: {error}; choose another folder") from error
    return scenes


def _all(scenes: SceneSet) -> Iterator[Drawn]:
    return in_order(partial(draw, scenes), range(scenes.images), workers=2)


def _stems(scenes: SceneSet) -> list[str]:
    """Numbers of equal width, so that their order as text is their order."""
    return [f"{index:05d}" for index in range(scenes.images)]
