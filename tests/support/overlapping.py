"""A small data set of classes that overlap: cells, their nuclei, and stripes across both."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from sweeper.core.label_planes import pack_planes
from sweeper.core.records import Dataset, ImageInfo
from sweeper.data.store import StoreWriter

CLASSES = ("cell", "nucleus", "stripe")


def make_overlapping(cache: Path, images: int = 24, side: int = 64) -> Dataset:
    """Return the data set; a corner of every fourth image is ignored, and the last image is empty."""
    rng, infos = np.random.default_rng(0), []
    rows, columns = np.mgrid[:side, :side]
    with StoreWriter(cache, 3) as writer:
        for number in range(images):
            planes = np.zeros((3, side, side), dtype=bool)
            for _ in range(3 * (number < images - 1)):
                y, x, radius = rng.integers(8, side - 8), rng.integers(8, side - 8), rng.integers(6, 12)
                distance = np.hypot(rows - y, columns - x)
                planes[0] |= distance < radius
                planes[1] |= distance < radius / 2
            planes[2, rng.integers(8, side - 12) :][:3] = number < images - 1
            ignored = (rows < 6) & (columns < 6) & (number % 4 == 0)
            image = 40 + 80 * planes[:3].transpose(1, 2, 0) + rng.integers(0, 20, (side, side, 3))
            writer.append(image.astype(np.uint8), pack_planes(planes, ignored))
            pixels = tuple(int(n) for n in (planes & ~ignored).sum(axis=(1, 2)))
            infos.append(ImageInfo(stem=f"{number:02d}", height=side, width=side, pixels=pixels, ignored=ignored.sum()))
        writer.finish()
        store = writer.publish("overlapping")
    return Dataset(
        name="overlapping",
        source="overlapping",
        digest="sha256:overlapping",
        task="multilabel",
        classes=CLASSES,
        channels=3,
        synthetic=True,
        store=str(store),
        images=tuple(infos),
    )
