"""Small data sets as files, and their loading by `load_dataset`."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from sweeper.core.errors import DataError
from sweeper.core.records import Dataset
from sweeper.data import load_dataset, open_store


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


def encode_png(values: npt.NDArray[Any], bits: int, exif: bytes = b"") -> bytes:
    """Return a PNG of 1, 2, 4 or 16 bits per value, which Pillow cannot write; shape (H, W), or (H, W, 3 or 4).

    `exif` is the content of its eXIf chunk, without a prefix.
    """

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    height, width = values.shape[:2]
    kind = {2: 0, 3: 2 if values.shape[-1] == 3 else 6}[values.ndim]
    rows = values.astype(">u2").reshape(height, -1).view(np.uint8)
    if bits < 16:
        digits = np.unpackbits(values[..., None].astype(np.uint8), axis=2)[:, :, 8 - bits :]
        rows = np.packbits(digits.reshape(height, -1), axis=1)
    header = struct.pack(">IIBBBBB", width, height, bits, kind, 0, 0, 0)
    lines = b"".join(b"\0" + row.tobytes() for row in rows)
    tags = chunk(b"eXIf", exif) if exif else b""
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + tags
        + chunk(b"IDAT", zlib.compress(lines))
        + chunk(b"IEND", b"")
    )


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


def write_pairs(root: Path, *pairs: tuple[str, str], labels: tuple[int, ...] = (0, 1)) -> Path:
    """Return a data set of images and masks at these paths; nothing is written for an empty path."""
    for i, names in enumerate(pairs):
        for name, content in zip(names, (image(i), mask(*labels, shift=i % 10)), strict=True):
            if name:
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                content.save(root / name)
    return root


def pair_five(images: str, masks: str) -> list[tuple[str, str]]:
    """Return the paths of five images and their masks, in forms like `img/{}.png`."""
    return [(images.format(stem), masks.format(stem)) for stem in "abcde"]


def load_folder(root: Path, *, overlap: str | None = "flatten", **options: Any) -> Dataset:
    """Return the data set of `root`, decoded into the cache next to it.

    `overlap` is what a class map says of classes that overlap; `options` are those of `load_dataset`.
    """
    if overlap is not None:
        options["class_map"] = {"overlap": (overlap,)} | (options.get("class_map") or {})
    return load_dataset(str(root), root.parent / "cache", **options)


def find_problems(root: Path, **options: Any) -> list[str]:
    """Return the problems for which the data set of `root` is refused."""
    with pytest.raises(DataError) as caught:
        load_folder(root, **options)
    problems = list(caught.value.problems)
    assert problems == sorted(set(problems))
    return problems


def join_problems(root: Path, **options: Any) -> str:
    """Return these problems as one text, one a line."""
    return "\n".join(find_problems(root, **options))


def get_mask(dataset: Dataset, index: int = 0) -> npt.NDArray[np.uint8]:
    """Return the labels of an image as they were stored."""
    return open_store(dataset.store).get_mask(index)


def list_masks(dataset: Dataset) -> list[npt.NDArray[np.uint8]]:
    """Return the labels of all images."""
    return [get_mask(dataset, index) for index in range(len(dataset.images))]


def has_warning(dataset: Dataset, *words: str) -> bool:
    """Return whether one of the data set's warnings has all these words."""
    return any(all(word in warning for word in words) for warning in dataset.warnings)
