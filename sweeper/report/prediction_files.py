"""Masks drawn over their images, and the files of a prediction: mask, overlay, probabilities."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import numpy.typing as npt
from PIL import Image

from sweeper.core.contours import find_near_boundary
from sweeper.core.records import IGNORE
from sweeper.report.figures.style import make_palette
from sweeper.system.whole_files import replace_atomically

Bytes = npt.NDArray[np.uint8]

LONGEST = 2048
"""Most pixels of an overlay's longer side; larger overlays are subsampled, masks never."""


def make_display_image(image: npt.NDArray[np.generic]) -> Bytes:
    """Convert any image to (H, W, 1 or 3) uint8.

    8-bit images with 1 or 3 channels stay unchanged; else the first channels are scaled from their 1st to their 99th
    percentile.
    """
    shown = image[..., :3] if image.shape[2] >= 3 else image[..., :1]
    if shown.dtype == np.uint8 and image.shape[2] in (1, 3):
        return shown.astype(np.uint8)
    values = shown.astype(np.float32)
    low, high = np.percentile(values, (1, 99))
    scaled: Bytes = ((values - low) * (255 / max(1e-6, float(high - low)))).clip(0, 255).astype(np.uint8)
    return scaled


def make_overlay(image: Bytes, layers: Sequence[Bytes], colours: Bytes) -> Bytes:
    """Make a grey image with the classes of its mask's layers tinted and outlined, ignored pixels hatched; not 0."""
    grey = image.astype(np.float32).mean(axis=2, keepdims=True).repeat(3, axis=2) * 0.8 + 20
    for mask in layers:
        tint = colours[np.minimum(mask, len(colours) - 1)].astype(np.float32)
        inside = (mask > 0) & (mask != IGNORE)
        grey[inside] = 0.5 * grey[inside] + 0.5 * tint[inside]
        line = find_near_boundary(mask, 1) & inside
        grey[line] = tint[line]
    rows, columns = np.indices(image.shape[:2])
    grey[(layers[0] == IGNORE) & ((rows + columns) % 6 < 2)] = 245
    laid: Bytes = grey.clip(0, 255).astype(np.uint8)
    return laid


def thin_mask(mask: Bytes, step: int) -> Bytes:
    """Subsample the mask: each block of `step`² becomes its label that is rarest in the image, so that cracks stay."""
    counts = np.bincount(mask.ravel(), minlength=256)
    rank = np.empty(256, dtype=np.uint8)
    order = np.argsort(-counts, kind="stable")
    rank[order] = np.arange(256, dtype=np.uint8)
    ranks = rank[mask]
    padded = np.pad(ranks, [(0, -n % step) for n in mask.shape], mode="edge")
    rows, columns = (n // step for n in padded.shape)
    rarest: Bytes = order.astype(np.uint8)[padded.reshape(rows, step, columns, step).max(axis=(1, 3))]
    return rarest


class PredictionPaths:
    """Paths of the files of one image's prediction."""

    def __init__(self, out: Path, name: PurePosixPath, *, channels: int, planes: Sequence[str] = ()) -> None:
        """`out`: folder of all predictions; `name`: the image's name without extension; `planes`: folders of masks."""

        def below(kind: str, suffix: str) -> Path:
            return out.joinpath(kind, *name.parts[:-1], name.name + suffix)

        self.masks = [below(f"masks/{plane}", ".png") for plane in planes or (".",)]
        self.mask = below("masks/*" if planes else "masks", ".png")
        self.overlay = below("overlays", ".png")
        self.probabilities = below("probabilities", ".png" if channels == 1 else ".npz")


def write_mask(path: Path, mask: Bytes, classes: int) -> None:
    """Write class indices (H, W) as a palette PNG: a pixel's value is its class, its colour is for display."""
    image = Image.fromarray(mask)
    image.putpalette(make_palette(classes).ravel().tobytes())
    _save_whole(path, lambda part: image.save(part, "PNG", optimize=False))


def write_overlay(path: Path, image: npt.NDArray[np.generic], mask: Bytes, classes: int) -> None:
    """Write the image (H, W, channels) in grey, with all classes except the first tinted and outlined."""
    step = max(1, -(-max(mask.shape) // LONGEST))
    shown = make_display_image(image[::step, ::step])
    laid = Image.fromarray(make_overlay(shown, [thin_mask(mask, step)], make_palette(classes)))
    _save_whole(path, lambda part: laid.save(part, "PNG"))


def write_probabilities(path: Path, probabilities: npt.NDArray[np.float16]) -> None:
    """Write the probabilities of each class, (C, H, W) in 0–1.

    One class (the foreground): a 16-bit grey PNG, in which 65535 is 1. More: an npz file with the array
    `probabilities`, float16.
    """
    if len(probabilities) == 1:
        whole = np.rint(probabilities[0].astype(np.float32) * 65535).astype(np.uint16)
        _save_whole(path, lambda part: Image.fromarray(whole).save(part, "PNG"))
        return

    def write(part: Path) -> None:
        with part.open("wb") as file:
            np.savez_compressed(file, probabilities=probabilities)

    _save_whole(path, write)


def _save_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Write a file atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replace_atomically(path) as part:
        write(part)
