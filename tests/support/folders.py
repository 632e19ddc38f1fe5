"""Helpers: small data sets as files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image


def image(seed: int = 0, height: int = 12, width: int = 16, mode: str = "RGB") -> Image.Image:
    """Return an image of random pixels."""
    shape = (height, width, 3) if mode == "RGB" else (height, width)
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8))


def mask(*labels: int, height: int = 12, width: int = 16, shift: int = 0) -> Image.Image:
    """Return an index mask: the first label everywhere, one row for each of the others, from row `shift` on."""
    array = np.full((height, width), labels[0], dtype=np.uint8)
    for row, label in enumerate(labels[1:]):
        array[row + shift] = label
    return Image.fromarray(array)


def folder(root: Path, masks: dict[str, Any] | None = None, *, classes: str = "", split: str = "") -> Path:
    """Return a data set with one PNG image for each mask; by default four sound images a–d, binary."""
    masks = {stem: mask(0, 1, shift=i) for i, stem in enumerate("abcd")} if masks is None else masks
    (root / "images").mkdir(parents=True)
    (root / "masks").mkdir()
    for seed, (stem, content) in enumerate(masks.items()):
        size = (12, 16) if content is None else (content.height, content.width)
        image(seed, *size).save(root / "images" / f"{stem}.png")
        if content is not None:
            content.save(root / "masks" / f"{stem}.png")
    if classes:
        (root / "classes.txt").write_text(classes, encoding="utf-8")
    if split:
        (root / "split.csv").write_text(split, encoding="utf-8")
    return root


def laid_out(root: Path, *pairs: tuple[str, str], labels: tuple[int, ...] = (0, 1)) -> Path:
    """Return a data set of images and masks at these paths; of an empty path nothing is written."""
    for i, names in enumerate(pairs):
        for name, made in zip(names, (image(i), mask(*labels, shift=i % 10)), strict=True):
            if name:
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                made.save(root / name)
    return root


def five(images: str, masks: str) -> list[tuple[str, str]]:
    """Return the paths of five images and their masks, in forms like `img/{}.png`."""
    return [(images.format(stem), masks.format(stem)) for stem in "abcde"]
