"""One file to one array: images and masks through Pillow and tifffile, held to the limits of a foreign file.

Masks keep their numbers: the index of a palette PNG counts, not its colour, unless a map of colours is at hand.
"""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from sweeper.core.text import count
from sweeper.data.colours import ColourMap, translate
from sweeper.data.store import ImagePixels, Pixels
from sweeper.data.text_tables import UnreadableFileError, open_file
from sweeper.data.tiff import deep_tiff, read_deep_tiff

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
MASK_SUFFIXES = (".png", ".bmp", ".tif", ".tiff", ".gif")
MAX_PIXELS = 100_000_000
"""A larger image is refused before it is decoded."""
MAX_BYTES = 4 * MAX_PIXELS
"""So is one whose channels would take more than this."""

# Only these decoders are tried, whatever the bytes say: Pillow would hand others to outside programs.
_IMAGE_FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP")
_MASK_FORMATS = ("PNG", "BMP", "TIFF", "GIF")
_GREY = ("1", "L", "LA", "La")
_DEEP_GREY = ("I", "I;16", "I;16B", "I;16L", "I;16N")
_STRIP = 1 << 24

Source = Path | Callable[[], bytes]
"""A file, or what gives the bytes of an image that lies inside another file."""


class Kind(NamedTuple):
    """What the header of an image says."""

    height: int
    """As it is stored, before any EXIF rotation."""
    width: int
    channels: int
    """1 grey, 3 colour, another number where the file has as many channels; opacity does not count."""
    bits: int
    """8 or 16."""


@contextmanager
def quiet_pillow() -> Iterator[None]:
    """Keep the decoders' warnings about odd files off the screen: what matters is reported by our own checks.

    Entered once around all reading, not per file: the filters belong to the whole process.
    """
    logs = [logging.getLogger(name) for name in ("PIL", "tifffile")]
    levels = [log.level for log in logs]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL\.")
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        warnings.filterwarnings("ignore", "__array__ implementation", DeprecationWarning)  # pycocotools 2.0.11's own
        for log in logs:
            log.setLevel(logging.CRITICAL + 1)
        try:
            yield
        finally:
            for log, level in zip(logs, levels, strict=True):
                log.setLevel(level)


def image_kind(source: Source) -> Kind:
    """Size, channels and depth from the header alone.

    Raises:
        UnreadableFileError: not an image, animated, or larger than `MAX_PIXELS`.
    """
    if (tiff := _deep(source)) is not None:
        return Kind(tiff.height, tiff.width, tiff.channels, 8 * tiff.dtype.itemsize)
    with _opened(source, _IMAGE_FORMATS) as image:
        bits = 16 if image.mode in _DEEP_GREY or _png_is_deep(image) else 8
        return Kind(image.height, image.width, 1 if image.mode in _GREY + _DEEP_GREY else 3, bits)


def read_image(source: Source, channels: int, dtype: type[np.uint8] | type[np.uint16] = np.uint8) -> ImagePixels:
    """Decode an image, upright by its EXIF orientation; opacity is dropped.

    Args:
        source: the file, or its bytes.
        channels: of the result; a grey image is repeated.
        dtype: of the result; where it is uint8, 16-bit values keep their high byte.

    Returns:
        (H, W, channels) of `dtype`.

    Raises:
        UnreadableFileError: truncated or damaged, or of a kind that has no reading as whole numbers.
    """
    pixels = _read_deep(source) if _deep(source) is not None else _read_pillow(source)
    if pixels.dtype != dtype:
        pixels = (pixels >> 8).astype(np.uint8) if dtype is np.uint8 else pixels.astype(np.uint16) * np.uint16(257)
    if pixels.shape[2] == 1 and channels > 1:
        pixels = np.repeat(pixels, channels, axis=2)
    if pixels.shape[2] != channels:
        raise UnreadableFileError(f"must have {channels} channels like the others, found {pixels.shape[2]}")
    return pixels


def _read_pillow(source: Source) -> ImagePixels:
    with _opened(source, _IMAGE_FORMATS) as image:
        deep = _png_is_deep(image)
        upright = ImageOps.exif_transpose(image, in_place=True) or image
        if upright.mode in _DEEP_GREY:
            values = np.asarray(upright)
            if values.min() < 0 or values.max() > 65535:
                raise UnreadableFileError(
                    f"grey values must be within 0 and 65535, found {values.min()} to {values.max()}; "
                    "save it with 8 or 16 bits"
                )
            return values.astype(np.uint16)[:, :, None]
        if upright.mode == "F":
            raise UnreadableFileError("images must have 8 or 16 bits, found floating-point pixels; save it with 8")
        if upright.mode in _GREY:
            return np.array(upright.convert("L"))[:, :, None]
        high_bytes = _bytes(upright)
    return (high_bytes.astype(np.uint16) << 8 | _low_bytes(source)).astype(np.uint16) if deep else high_bytes


def _bytes(image: Image.Image) -> Pixels:
    """(H, W, 3) of a colour image, converted a strip at a time: Pillow's own array needs its pixels three times."""
    result = np.empty((image.height, image.width, 3), dtype=np.uint8)
    rows = max(1, _STRIP // max(1, image.width))
    for top in range(0, image.height, rows):
        box = (0, top, image.width, min(image.height, top + rows))
        result[top : top + rows] = np.asarray(image.crop(box).convert("RGB"))
    return result


def _png_is_deep(image: Image.Image) -> bool:
    """Whether this is a PNG with 16 bits per colour, of which Pillow gives the high bytes."""
    return image.format == "PNG" and bool(_tiles(image)) and _tiles(image)[0].args in ("RGB;16B", "RGBA;16B")


def _tiles(image: Image.Image) -> list[Any]:
    """What Pillow's decoder gets, one entry per part of the file; empty for images that are no file."""
    tiles: list[Any] = getattr(image, "tile", [])
    return tiles


def _low_bytes(source: Source) -> Pixels:
    """The low bytes of such a PNG: the same pixels, unpacked as if they were stored the other way round.

    Without them an image of 12 bits, whose high bytes are 0 to 15, would be nearly black.
    """
    with _opened(source, _IMAGE_FORMATS) as image:
        _tiles(image)[:] = [t._replace(args=str(t.args).replace("16B", "16L")) for t in _tiles(image)]
        return _bytes(ImageOps.exif_transpose(image, in_place=True) or image)


def _deep(source: Source) -> Any:
    """The header of a TIFF that Pillow cannot give whole, else None; a damaged one is left to Pillow's message."""
    if isinstance(source, Path) and source.suffix.lower() not in (".tif", ".tiff"):
        return None
    try:
        with _file(source) as file:
            if file.read(4)[:2] not in (b"II", b"MM"):
                return None
            file.seek(0)
            found = deep_tiff(file)
    except UnreadableFileError:
        raise
    except Exception:
        return None
    if found is not None:
        _check_size(found.height, found.width, found.channels * found.dtype.itemsize)
    return found


def _read_deep(source: Source) -> ImagePixels:
    try:
        with _file(source) as file:
            pixels = read_deep_tiff(file)
    except UnreadableFileError:
        raise
    except Exception as error:
        raise _undecodable(error) from error
    if pixels.dtype.kind == "i" and pixels.min() < 0:
        raise UnreadableFileError(
            f"values must not be negative, found {pixels.min()}; add an offset and save as unsigned numbers"
        )
    dtype: type[np.uint8 | np.uint16] = np.uint8 if pixels.dtype.itemsize == 1 else np.uint16
    return np.ascontiguousarray(pixels.astype(dtype, copy=False))


def read_mask(path: Path, colours: ColourMap | None = None) -> Pixels:
    """Decode a mask's labels, (H, W) uint8: index, palette index, 1-bit as 0/1, or equal RGB channels as grey.

    Of a GIF the grey counts, not the index.

    Args:
        path: the file.
        colours: which colour is which label, for RGB masks, and for palette masks all of whose colours it holds.

    Raises:
        UnreadableFileError: truncated or damaged, coloured without a map, or with labels that cannot be classes.
    """
    with _opened(path, _MASK_FORMATS) as image:
        mode = image.mode
        if colours is not None and (mode in ("RGB", "RGBA") or (mode == "P" and _all_mapped(image, colours))):
            return _coloured(_bytes(image), colours)
        if image.format == "GIF":  # its writer ordered the palette as it liked, so that the index says nothing
            mode = "RGBA"
        labels: npt.NDArray[Any] = np.asarray(image.convert(mode) if image.format == "GIF" else image)
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


def _all_mapped(image: Image.Image, colours: ColourMap) -> bool:
    """Whether every colour that a palette mask uses is in the map: then the colours mean the classes."""
    used = image.convert("RGB").getcolors(256) or []
    return bool(used) and all((r << 16 | g << 8 | b) in colours.keys for _, (r, g, b) in used)  # type: ignore[misc]


def _coloured(pixels: Pixels, colours: ColourMap) -> Pixels:
    labels, fault = translate(pixels, colours)
    if fault is not None:
        y, x = fault
        found = tuple(int(v) for v in pixels[y, x])
        raise UnreadableFileError(
            f"colours must be those of the map of colours, found {found} at x={x}, y={y}; add it to the map, or "
            "export the mask again without smoothing"
        )
    return labels


def _grey_labels(pixels: Pixels, mode: str) -> Pixels:
    """(H, W, bands) with equal colour bands and an opaque alpha → (H, W)."""
    colours, alpha = (pixels, None) if mode == "RGB" else (pixels[:, :, :-1], pixels[:, :, -1])
    if (colours != colours[:, :, :1]).any():
        y, x = np.argwhere((colours != colours[:, :, :1]).any(axis=2))[0]
        raise UnreadableFileError(
            "masks must hold one number per pixel, found a colour image "
            f"({tuple(int(v) for v in colours[y, x])} at x={x}, y={y}); save class indices as an 8-bit PNG, or write "
            "colors.txt with one `name:r,g,b::` a line"
        )
    if alpha is not None and (alpha != 255).any():
        raise UnreadableFileError("masks must not be transparent, found an alpha channel below 255; save it without")
    return colours[:, :, 0]


def _check_size(height: int, width: int, bytes_per_pixel: int = 1) -> None:
    if width * height > MAX_PIXELS or width * height * bytes_per_pixel > MAX_BYTES:
        raise UnreadableFileError(
            f"images may have {MAX_PIXELS // 10**6} megapixels and {MAX_BYTES // 10**6} MB at most, found "
            f"{width}×{height} with {count(bytes_per_pixel, 'byte')} per pixel; cut it into tiles"
        )


@contextmanager
def _file(source: Source) -> Iterator[BinaryIO]:
    with open_file(source) if isinstance(source, Path) else io.BytesIO(source()) as file:
        if not file.read(1):
            raise UnreadableFileError("must be an image, found an empty file (0 bytes); copy it again or remove it")
        file.seek(0)
        yield file


def _undecodable(error: Exception) -> UnreadableFileError:
    text = " ".join(str(error).split())[:300]
    return UnreadableFileError(f"cannot be decoded ({type(error).__name__}: {text}); copy it again or remove it")


@contextmanager
def _opened(source: Source, formats: tuple[str, ...]) -> Iterator[Image.Image]:
    """Open an image after checking its header; damaged bytes of any kind become `UnreadableFileError`."""
    try:
        with _file(source) as file, Image.open(file, formats=formats) as image:
            _check_size(image.height, image.width)
            # Telephones save JPEGs with a preview as a second frame (MPO): those are ordinary images.
            frames = getattr(image, "n_frames", 1)
            if frames > 1 and image.format != "MPO":
                raise UnreadableFileError(f"must be a single image, found {frames} frames; save one of them alone")
            yield image
    except UnreadableFileError:
        raise
    except Image.DecompressionBombError as error:
        limit = f"images may have {MAX_PIXELS // 10**6} megapixels at most"
        raise UnreadableFileError(f"{limit}, found more ({error}); cut it into tiles") from error
    except UnidentifiedImageError as error:
        known = ", ".join(formats)
        raise UnreadableFileError(f"must be one of {known}, found other bytes; save it again or remove it") from error
    except Exception as error:  # decoders raise whatever they like on damaged bytes
        raise _undecodable(error) from error
