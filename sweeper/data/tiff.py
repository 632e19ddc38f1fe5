"""TIFFs that Pillow cannot read completely: many channels, 16-bit colour, signed numbers.

The headers of all TIFFs are read here with tifffile, too.
"""

from __future__ import annotations

import zlib
from contextlib import suppress
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt
import tifffile

from sweeper.data.text_tables import UnreadableFileError

_ALPHA = (1, 2)
"""Values of the tag ExtraSamples that mean alpha; 0 is an ordinary channel."""
_PILLOW_PHOTOMETRIC = (3, 4, 5, 6, 8, 9)
"""Palette, transparency mask, CMYK, YCbCr, Lab: colour spaces that Pillow converts to RGB."""
_NONE, _LZW, _DEFLATE = 1, 5, (8, 32946)
"""Values of the tag Compression."""
_RGB = 2
_NO_DATA = 42113
"""GDAL's no-data tag."""
_NO_IMAGE = 1 | 4
"""Bits of NewSubfileType: a reduced copy, a validity mask."""
_CHANNEL_AXES = {"SYX": 0, "CYX": 0, "QYX": None, "YXS": 2, "YXC": 2}
"""Axes of images with channels, and which of them are the channels; None = unknown."""
_GREY_KINDS = ("uint8", "uint16", "uint32", "uint64", "int16", "int32")
_PILLOW_KINDS = {(3, "uint8"), *((1, kind) for kind in _GREY_KINDS)}
"""Numbers of channels and their types that Pillow reads completely."""


class TiffHeader(NamedTuple):
    """Header of the file's image: the first page that is neither a reduced copy nor a validity mask."""

    height: int
    width: int
    channels: int
    """Without alpha."""
    dtype: np.dtype[Any]
    page: int
    """Index among the file's pages."""
    pages: int
    """Number of full pages."""
    photometric: int
    orientation: int
    no_data: float | None
    """Number for no data, by GDAL's tag."""
    is_deep: bool
    """Whether Pillow cannot read the image completely."""
    is_stored: bool
    """Whether tifffile returns the stored numbers, one for each pixel."""


NO_TIFF = TiffHeader(0, 0, 0, np.dtype(np.uint8), 0, 0, 1, 1, None, is_deep=False, is_stored=False)
"""In place of the header of a file that is no TIFF."""


def read_tiff_header(file: BinaryIO) -> TiffHeader:
    """Read the header of a TIFF's image.

    Raises:
        UnreadableFileError: unsupported order of the axes.
    """
    with tifffile.TiffFile(file) as tiff:
        return _read_header(tiff)[0]


def read_pixels(file: BinaryIO) -> npt.NDArray[Any]:
    """Read pixels (H, W, C) of the file's own type, as stored: not turned, without alpha.

    Raises:
        UnreadableFileError: truncated, or compressed in an unsupported way.
    """
    with tifffile.TiffFile(file) as tiff:
        header, source, axis, alphas = _read_header(tiff)
        for page in source.pages if header.is_deep and source is tiff.series[0] else [tiff.pages[header.page]]:
            _check_segments(tiff, page)
        pixels: npt.NDArray[Any] = source.asarray(maxworkers=1)
    pixels = np.moveaxis(np.atleast_3d(pixels), axis, -1)
    return pixels[:, :, [i for i in range(pixels.shape[2]) if i not in alphas]] if alphas else pixels


def read_series(file: BinaryIO) -> npt.NDArray[Any]:
    """Read the first pages of one size, or a page with its channels, as stored: two or more axes.

    Raises:
        UnreadableFileError: as `read_pixels`.
    """
    with tifffile.TiffFile(file) as tiff:
        series: Any = tiff.series[0]
        for page in series.pages:
            _check_segments(tiff, page)
        pixels: npt.NDArray[Any] = series.asarray(maxworkers=1)
        return pixels


def _check_segments(tiff: tifffile.TiffFile, page: Any) -> None:
    """Refuse a page with an unsupported compression, or segments beyond the file's end or too large.

    Raises:
        UnreadableFileError: such a page was found.
    """
    compression = int(page.compression)
    if compression not in (_NONE, _LZW, *_DEFLATE):
        raise UnreadableFileError(
            f"must be uncompressed or compressed with deflate, found {page.compression!r}; save it so"
        )
    limit = int(np.prod(page.chunks)) * page.dtype.itemsize
    for at, count in zip(page.dataoffsets, page.databytecounts, strict=True):
        if at + count > tiff.filehandle.size:
            raise UnreadableFileError(
                "cannot be decoded (the file ends before its pixels do); copy it again or remove it"
            )
        if compression in _DEFLATE:
            tiff.filehandle.seek(at)
            if len(zlib.decompressobj().decompress(tiff.filehandle.read(count), limit + 1)) > limit:
                raise UnreadableFileError(f"a part of it must hold {limit} bytes, found more; save it again")


def _read_header(tiff: tifffile.TiffFile) -> tuple[TiffHeader, Any, int, tuple[int, ...]]:
    """Return the header, the source of the pixels, the axis of the channels, and the indices of alpha channels."""
    pages: list[tuple[int, Any]] = [*enumerate(tiff.pages)]
    full = [(i, page) for i, page in pages if not int(page.subfiletype) & _NO_IMAGE] or pages
    place, page = full[0]
    source: Any = tiff.series[0] if len(full) == len(pages) else page  # else the overviews would count
    samples, extra = int(page.samplesperpixel), [int(kind) for kind in page.extrasamples]
    alphas = tuple(samples - len(extra) + i for i, kind in enumerate(extra) if kind in _ALPHA)
    no_data = None
    with suppress(ValueError):  # the tag is missing, or no number
        no_data = float(str(page.tags.valueof(_NO_DATA)).strip("\0 "))
    header = TiffHeader(
        *(int(page.imagelength), int(page.imagewidth), samples - len(alphas), page.dtype, place),
        pages=len(full),
        photometric=int(page.photometric),
        orientation=int(page.tags.valueof("Orientation", 1)),
        no_data=no_data,
        is_deep=_is_deep(tiff, page, samples - len(alphas), len(full)),
        is_stored=len(full) == 1 and _is_stored(page),
    )
    if not header.is_deep:
        return header, page, 2, alphas
    axes = f"{source.axes}S"[:3]
    if axes not in _CHANNEL_AXES:
        raise UnreadableFileError(
            f"must be a single image, found axes {source.axes} of shape {source.shape}; save one plane alone"
        )
    shape, axis = (*source.shape, 1)[:3], _CHANNEL_AXES[axes]
    if axis is None:  # written by tifffile without a description of the axes: the smaller one
        axis = 0 if shape[0] <= shape[2] else 2
    height, width = shape[:axis] + shape[axis + 1 :]
    header = header._replace(height=int(height), width=int(width), channels=int(shape[axis]) - len(alphas))
    return header, source, axis, alphas


def _is_deep(tiff: tifffile.TiffFile, page: Any, channels: int, pages: int) -> bool:
    """Return whether Pillow cannot read the image of a file completely."""
    if page.dtype is None or int(page.photometric) in _PILLOW_PHOTOMETRIC or int(page.bitspersample) < 8:
        return False
    if pages == 1:
        return (channels, page.dtype.name) not in _PILLOW_KINDS
    # Pages without a description are frames, and refused when opened.
    return tiff.series[0].kind in ("shaped", "imagej", "ome") and len(tiff.series) == 1


def _is_stored(page: Any) -> bool:
    """Return whether tifffile returns the stored numbers of a page, one for each pixel."""
    name = "" if page.dtype is None else page.dtype.name
    is_wide = name in ("float16", "float64", "int64", "uint64")
    return (
        bool(name)
        and int(page.photometric) in (0, 1, *[_RGB] * (name != "uint8"))
        and (is_wide or int(page.compression) in (_NONE, *_DEFLATE))
        and int(page.bitspersample) in (1, 8, 16, 32, 64)
    )


def turn_upright(pixels: npt.NDArray[Any], orientation: int) -> npt.NDArray[Any]:
    """Turn pixels (H, W, …) upright from EXIF's orientation 1–8; other numbers change nothing."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels
