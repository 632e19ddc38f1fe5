"""One file to one array: pictures and masks through Pillow, with the limits a foreign file is held to.

Masks keep their numbers: the index of a palette PNG counts, not its colour.
"""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from sweeper.data.store import Pixels

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
MASK_SUFFIXES = (".png", ".bmp", ".tif", ".tiff")
MAX_PIXELS = 100_000_000
"""A larger picture is refused before it is decoded."""

# Only these decoders are tried, whatever the bytes say: Pillow would hand others to outside programs.
_IMAGE_FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")
_MASK_FORMATS = ("PNG", "BMP", "TIFF")
_GREY = ("1", "L", "LA", "La")
_DEEP_GREY = ("I", "I;16", "I;16B", "I;16L", "I;16N")

Item = TypeVar("Item")
Result = TypeVar("Result")


class UnreadableFileError(Exception):
    """What is wrong with one file: rule, value found, next step; the file's name is added by who knows it."""


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """Keep Pillow's warnings about odd files off the screen: what matters is reported by our own checks.

    Entered once around all reading, not per file: the filters belong to the whole process.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        yield


def in_order(function: Callable[[Item], Result], items: Iterable[Item], workers: int = 4) -> Iterator[Result]:
    """`map` on a few threads with a bounded number of results in memory."""
    with ThreadPoolExecutor(workers) as pool:
        window: deque[Future[Result]] = deque()
        for item in items:
            window.append(pool.submit(function, item))
            if len(window) > 2 * workers:
                yield window.popleft().result()
        while window:
            yield window.popleft().result()


def picture_kind(path: Path) -> tuple[bool, bool]:
    """From the header alone: whether the picture is grey, and whether it has more than 8 bits per pixel.

    Raises:
        UnreadableFileError: not a picture, animated, or larger than `MAX_PIXELS`.
    """
    with _opened(path, _IMAGE_FORMATS) as image:
        return image.mode in _GREY + _DEEP_GREY, image.mode in _DEEP_GREY


def read_image(path: Path, channels: int) -> Pixels:
    """Decode a picture, (H, W, channels) uint8, upright by its EXIF orientation; alpha is dropped.

    16-bit grey keeps its high byte.

    Raises:
        UnreadableFileError: truncated or damaged, or of a kind that has no 8-bit reading.
    """
    with _opened(path, _IMAGE_FORMATS) as image:
        upright = ImageOps.exif_transpose(image)
        if upright.mode in _DEEP_GREY:
            deep = np.asarray(upright).astype(np.int64)
            if deep.min() < 0 or deep.max() > 65535:
                raise UnreadableFileError(
                    f"grey values must be within 0 and 65535, found {deep.min()} to {deep.max()}; save it with 8 bits"
                )
            grey = (deep >> 8).astype(np.uint8)
        elif upright.mode in _GREY:
            grey = np.array(upright.convert("L"))
        elif upright.mode == "F":
            raise UnreadableFileError("pictures must have 8 or 16 bits, found floating-point pixels; save it with 8")
        else:
            return np.array(upright.convert("RGB"))
    return np.repeat(grey[:, :, None], channels, axis=2)


def read_mask(path: Path) -> Pixels:
    """Decode a mask's labels, (H, W) uint8: index, palette index, 1-bit as 0/1, or equal RGB channels as grey.

    Raises:
        UnreadableFileError: truncated or damaged, coloured, or with labels that cannot be classes.
    """
    with _opened(path, _MASK_FORMATS) as image:
        mode = image.mode
        labels: npt.NDArray[np.int64] = np.asarray(image).astype(np.int64)
    if mode in ("RGB", "RGBA", "LA"):
        labels = _grey_labels(labels, mode)
    elif mode not in ("1", "L", "P", *_DEEP_GREY):
        raise UnreadableFileError(
            f"masks must hold one whole number per pixel, found Pillow mode {mode}; save it as an 8-bit index PNG"
        )
    if labels.min() < 0 or labels.max() > 255:
        wrong = int(labels.min() if labels.min() < 0 else labels.max())
        raise UnreadableFileError(f"labels must be below 255 (255 = ignore), found {wrong}; number the classes from 0")
    return labels.astype(np.uint8)


def _grey_labels(pixels: npt.NDArray[np.int64], mode: str) -> npt.NDArray[np.int64]:
    """(H, W, bands) with equal colour bands and an opaque alpha → (H, W)."""
    colours, alpha = (pixels, None) if mode == "RGB" else (pixels[:, :, :-1], pixels[:, :, -1])
    if (colours != colours[:, :, :1]).any():
        y, x = np.argwhere((colours != colours[:, :, :1]).any(axis=2))[0]
        raise UnreadableFileError(
            "masks must hold one number per pixel, found a colour picture "
            f"({tuple(int(v) for v in colours[y, x])} at x={x}, y={y}); save class indices as an 8-bit PNG"
        )
    if alpha is not None and (alpha != 255).any():
        raise UnreadableFileError("masks must not be transparent, found an alpha channel below 255; save it without")
    return colours[:, :, 0]


@contextmanager
def _opened(path: Path, formats: tuple[str, ...]) -> Iterator[Image.Image]:
    """Open a picture after checking its header; damaged bytes of any kind become `UnreadableFileError`."""
    try:
        if path.stat().st_size == 0:
            raise UnreadableFileError("must be a picture, found an empty file (0 bytes); copy it again or remove it")
        with Image.open(path, formats=formats) as image:
            width, height = image.size
            if width * height > MAX_PIXELS:
                raise UnreadableFileError(
                    f"pictures may have {MAX_PIXELS // 10**6} megapixels at most, found {width}×{height}; "
                    "cut it into tiles"
                )
            # Telephones save JPEGs with a preview as a second frame (MPO): those are ordinary pictures.
            frames = getattr(image, "n_frames", 1)
            if frames > 1 and image.format != "MPO":
                raise UnreadableFileError(f"must be a single picture, found {frames} frames; save one of them alone")
            yield image
    except UnreadableFileError:
        raise
    except Image.DecompressionBombError as error:
        raise UnreadableFileError(
            f"pictures may have {MAX_PIXELS // 10**6} megapixels at most: {error}; cut it into tiles"
        ) from error
    except UnidentifiedImageError as error:
        known = ", ".join(formats)
        raise UnreadableFileError(f"must be one of {known}, found other bytes; save it again or remove it") from error
    except Exception as error:  # decoders raise whatever they like on damaged bytes
        raise UnreadableFileError(
            f"cannot be decoded ({type(error).__name__}: {error}); copy it again or remove it"
        ) from error
