"""Synthetic data sets: `synthetic:NAME?key=value&…` → `Dataset`, or ordinary files for the folder reader."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from functools import partial
from importlib.metadata import version
from pathlib import Path

import numpy as np
from PIL import Image

from sweeper.core.errors import UsageError
from sweeper.core.records import Dataset
from sweeper.data.make_dataset import About, assemble
from sweeper.data.parallel import Tick, in_order
from sweeper.data.scene_source import PREFIX, SCENES, SceneSet, parameters, parse_scene
from sweeper.data.scenes import Drawn
from sweeper.data.scenes.faults import spoil_labels
from sweeper.data.store import StoreWriter
from sweeper.data.text_tables import Side, shown

__all__ = ["PREFIX", "SCENES", "SceneSet", "draw", "parameters", "parse_scene", "read_scenes", "write_scenes"]


def scene_fingerprint(scenes: SceneSet) -> str:
    """Changes with whatever can change a drawn pixel: parameters, our own drawing code, the libraries it rests on."""
    digest = hashlib.sha256(scenes.name.encode())
    for path in sorted((Path(__file__).parent / "scenes").glob("*.py")):
        digest.update(path.read_bytes())
    for library in ("numpy", "scipy"):
        digest.update(version(library).encode())
    return digest.hexdigest()


def draw(scenes: SceneSet, index: int) -> Drawn:
    """Image `index` of a set: image (size, size, 3) uint8 and mask (size, size) uint8.

    It depends on the seed and the index, not on the number of images. Label noise is keyed apart: the image is the
    same with it and without.
    """
    drawn = SCENES[scenes.scene].draw(np.random.default_rng([scenes.seed, index]), scenes.canvas)
    if not scenes.value("shift") and not scenes.value("missing"):
        return drawn
    rng = np.random.default_rng([scenes.seed, index, 1])
    return Drawn(drawn.image, spoil_labels(rng, drawn.mask, scenes.value("shift"), scenes.value("missing")))


def read_scenes(
    scenes: SceneSet, source: str, cache: Path, say: Callable[[str], None], tick: Tick | None = None
) -> Dataset:
    """Draw a set into a store below `cache`.

    Args:
        scenes: what to draw.
        source: what the user asked for.
        cache: where the store is put, named by its digest.
        say: receives one line at the start.
        tick: is told of each image.
    """
    say(f"drawing {scenes.images} images of {PREFIX}{scenes.name}")
    counts = []
    with StoreWriter(cache, channels=3) as writer:
        for drawn in _all(scenes):
            writer.append(drawn.image, drawn.mask)
            counts.append(np.bincount(drawn.mask.ravel(), minlength=256))
            if tick is not None:
                tick(len(counts), scenes.images)
        return assemble(
            writer,
            writer.finish(),
            About(scenes.scene, source, scenes.classes, synthetic=True),
            stems=_stems(scenes),
            counts=np.array(counts, dtype=np.int64),
            sides=[Side()] * scenes.images,
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
        (out / "classes.txt").write_text("\n".join(scenes.classes) + "\n", encoding="utf-8")
    except OSError as error:
        raise UsageError(f"{shown(out)} must be writable, and that failed: {error}; choose another folder") from error
    return scenes


def _all(scenes: SceneSet) -> Iterator[Drawn]:
    return in_order(partial(draw, scenes), range(scenes.images), workers=2)


def _stems(scenes: SceneSet) -> list[str]:
    """Numbers of equal width, so that their order as text is their order."""
    return [f"{index:05d}" for index in range(scenes.images)]
