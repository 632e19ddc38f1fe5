"""Decode images to arrays, upright, with 8 or 16 bits."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image

from sweeper.data.open_image import (
    DEEP_GREY,
    IMAGE_FORMATS,
    Source,
    check_size,
    is_deep_png,
    open_image,
    read_bytes,
    read_deep_png,
    read_orientation,
    read_stored,
    read_tiff,
)
from sweeper.data.store import ImagePixels
from sweeper.data.text_tables import UnreadableFileError
from sweeper.data.tiff import TiffHeader, turn_upright

_GREY = ("1", "L", "LA", "La")


class ImageKind(NamedTuple):
    """Facts from the header of an image."""

    height: int
    """Height as stored, before any EXIF rotation."""
    width: int
    channels: int
    """1 = grey, 3 = colour, else the file's number of channels; alpha does not count."""
    bits: int
    """8 or 16."""
    orientation: int = 1
    """EXIF's, 1 to 8."""


def read_image_kind(source: Source) -> ImageKind:
    """Return size, channels and depth from the header alone.

    Raises:
        UnreadableFileError: not an image, animated, or larger than `MAX_PIXELS`.
    """
    tiff = read_tiff(source)
    if tiff is not None and tiff.is_deep:
        _check_deep(tiff)
        return ImageKind(tiff.height, tiff.width, tiff.channels, 8 * tiff.dtype.itemsize, tiff.orientation)
    with open_image(source, IMAGE_FORMATS, tiff) as image:
        bits = 16 if image.mode in DEEP_GREY or is_deep_png(image) else 8
        channels = 1 if image.mode in _GREY + DEEP_GREY else 3
        return ImageKind(image.height, image.width, channels, bits, read_orientation(image))


def read_image(source: Source, channels: int, dtype: type[np.uint8] | type[np.uint16] = np.uint8) -> ImagePixels:
    """Decode an image, upright by its EXIF orientation; opacity is dropped.

    Args:
        source: the file, or its bytes.
        channels: channels of the result; a grey image is repeated.
        dtype: type of the result; for uint8, 16-bit values are reduced to their high byte.

    Returns:
        (H, W, channels) of `dtype`.

    Raises:
        UnreadableFileError: truncated or damaged, or not convertible to whole numbers.
    """
    tiff = read_tiff(source)
    if tiff is not None and tiff.is_deep:
        _check_deep(tiff)
        pixels, turn = _make_unsigned(read_stored(source), tiff), tiff.orientation
    else:
        with open_image(source, IMAGE_FORMATS, tiff) as image:
            pixels = _read_pillow(image, source, tiff)
            turn = read_orientation(image)  # last: with the pixels Pillow turns a TIFF and drops its tag
    pixels = np.ascontiguousarray(turn_upright(pixels, turn))
    if pixels.dtype != dtype:
        pixels = (pixels >> 8).astype(np.uint8) if dtype is np.uint8 else pixels.astype(np.uint16) * np.uint16(257)
    if pixels.shape[2] == 1 and channels > 1:
        pixels = np.repeat(pixels, channels, axis=2)
    if pixels.shape[2] != channels:
        raise UnreadableFileError(f"must have {channels} channels like the others, found {pixels.shape[2]}")
    return pixels


def _read_pillow(image: Image.Image, source: Source, tiff: TiffHeader | None) -> ImagePixels:
    """Return the pixels (H, W, 1 or 3) of an opened image, not turned."""
    if is_deep_png(image):
        return read_deep_png(source)
    if image.mode in DEEP_GREY:
        values = _make_unsigned(np.asarray(image), tiff)
        is_inverted = tiff is not None and tiff.photometric == 0  # Pillow inverts only 8 bits
        return (65535 - values if is_inverted else values)[:, :, None]
    if image.mode == "F":
        raise UnreadableFileError("images must have 8 or 16 bits, found floating-point pixels; save it with 8")
    return np.array(image.convert("L"))[:, :, None] if image.mode in _GREY else read_bytes(image)


def _check_deep(header: TiffHeader) -> None:
    """Refuse an image for tifffile if its type is unsupported or it is too large."""
    if header.dtype.kind not in "ui" or header.dtype.itemsize > 2:
        raise UnreadableFileError(f"images must have 8 or 16 bits per channel, found {header.dtype}; save it with 16")
    check_size(header.height, header.width, header.channels * header.dtype.itemsize)


def _make_unsigned(pixels: npt.NDArray[Any], tiff: TiffHeader | None) -> ImagePixels:
    """Return whole numbers as uint8 or uint16, with 0 for no data: the value of the no-data tag, by default −1.

    Raises:
        UnreadableFileError: values are outside these types.
    """
    empty = pixels == (-1 if tiff is None or tiff.no_data is None else tiff.no_data)
    if pixels.dtype.kind != "u" and empty.any():
        pixels = np.where(empty, 0, pixels)
    if pixels.dtype.kind != "u" and (pixels.min() < 0 or pixels.max() > 65535):
        raise UnreadableFileError(
            f"values must be within 0 and 65535, found {pixels.min()} to {pixels.max()}; add an offset and save it as "
            "unsigned numbers of 8 or 16 bits, or set its no-data tag: gdal_edit.py -a_nodata NUMBER FILE"
        )
    return pixels.astype(np.uint8 if pixels.dtype.itemsize == 1 else np.uint16, copy=False)
