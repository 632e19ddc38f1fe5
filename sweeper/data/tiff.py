"""TIFFs that Pillow cannot read whole: many channels, 16 bits in colour, signed numbers.

What all TIFFs say of their pages is read here, too, with tifffile.
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
"""Values of the tag ExtraSamples that mean opacity; 0 is a channel like any other."""
_PILLOW_PHOTOMETRIC = (3, 4, 5, 6, 8, 9)
"""Palette, transparency mask, CMYK, YCbCr, Lab: colour spaces that Pillow turns into RGB."""
_NONE, _LZW, _DEFLATE = 1, 5, (8, 32946)
"""Values of the tag Compression."""
_RGB = 2
_NO_DATA = 42113
"""GDAL's tag."""
_NO_IMAGE = 1 | 4
"""Bits of NewSubfileType: a reduced copy, a validity mask."""
_CHANNEL_AXES = ("SYX", "CYX", "QYX", "YXS", "YXC")


class TiffHeader(NamedTuple):
    """Header of the image in the file: the first page that is no reduced copy and no validity mask."""

    height: int
    width: int
    channels: int
    """Without opacity."""
    dtype: np.dtype[Any]
    page: int
    """Its place among the file's pages."""
    pages: int
    """Number of full pages."""
    photometric: int
    orientation: int
    no_data: float | None
    """The number that means no data, by GDAL's tag."""
    is_deep: bool
    """Whether Pillow cannot give the image whole."""
    is_stored: bool
    """Whether tifffile gives the numbers as they are stored, one for each pixel."""


def read_tiff_header(file: BinaryIO) -> TiffHeader:
    """Return what the header says of a TIFF's image.

    Raises:
        UnreadableFileError: channels in an order that has no meaning here.
    """
    with tifffile.TiffFile(file) as tiff:
        return _read_header(tiff)[0]


def read_pixels(file: BinaryIO) -> npt.NDArray[Any]:
    """Return pixels (H, W, C) of the file's own type, as they are stored: not turned, without opacity.

    Raises:
        UnreadableFileError: truncated, or compressed in a way that needs another package.
    """
    with tifffile.TiffFile(file) as tiff:
        header, source, axis, alphas = _read_header(tiff)
        for page in source.pages if header.is_deep and source is tiff.series[0] else [tiff.pages[header.page]]:
            _check_segments(tiff, page)
        try:
            pixels: npt.NDArray[Any] = source.asarray(maxworkers=1)
        except (ImportError, ValueError) as error:
            if "imagecodecs" in str(error):
                raise UnreadableFileError(
                    f"its compression needs another package ({error}); pip install imagecodecs, or save it "
                    "uncompressed or with deflate"
                ) from error
            raise
    pixels = np.moveaxis(pixels if pixels.ndim == 3 else pixels[:, :, None], axis, -1)
    return pixels[:, :, [i for i in range(pixels.shape[2]) if i not in alphas]] if alphas else pixels


def _check_segments(tiff: tifffile.TiffFile, page: Any) -> None:
    """Refuse a page whose segments are beyond the file's end, or hold more than they should: tifffile trusts them.

    Raises:
        UnreadableFileError: if it is so.
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
    """Return the header, what holds the pixels, the axis of the channels, and which channels are opacity."""
    pages: list[tuple[int, Any]] = [*enumerate(tiff.pages)]
    full = [(i, page) for i, page in pages if not int(page.subfiletype) & _NO_IMAGE] or pages
    place, page = full[0]
    series = tiff.series[0]
    source: Any = series if len(full) == len(pages) else page  # else the overviews would count
    samples, dtype = int(page.samplesperpixel), page.dtype
    extra = tuple(int(v) for v in page.extrasamples)
    first = samples - len(extra)
    alphas = tuple(first + i for i, kind in enumerate(extra) if kind in _ALPHA)
    photometric, bits = int(page.photometric), int(page.bitspersample)
    if dtype is None or photometric in _PILLOW_PHOTOMETRIC or dtype.kind == "b" or bits < 8:
        deep = False
    elif len(full) == 1:
        grey = samples - len(alphas) == 1
        plain = samples - len(alphas) in (1, 3) and dtype == np.uint8
        deep = not plain and not (grey and (dtype.kind == "u" or dtype in (np.int16, np.int32)))
    else:  # pages without a word on what they are: frames, refused where they are opened
        deep = series.kind in ("shaped", "imagej", "ome") and len(tiff.series) == 1
    empty, turn, no_data = page.tags.get(_NO_DATA), page.tags.get("Orientation"), None
    with suppress(AttributeError, ValueError):  # there is no tag, or no number in it
        no_data = float(str(empty.value).strip("\0 "))
    header = TiffHeader(
        *(int(page.imagelength), int(page.imagewidth), samples - len(alphas), dtype, place),
        pages=len(full),
        photometric=photometric,
        orientation=int(turn.value) if turn else 1,
        no_data=no_data,
        is_deep=deep,
        is_stored=len(full) == 1
        and dtype is not None
        and (photometric in (0, 1) or (photometric == _RGB and dtype != np.uint8))
        and (int(page.compression) in (_NONE, *_DEFLATE) or dtype in (np.float16, np.float64, np.int64, np.uint64))
        and bits in (1, 8, 16, 32, 64),
    )
    if not deep:
        return header, page, 2, alphas
    axes = "YXS" if source.axes == "YX" else source.axes
    if axes not in _CHANNEL_AXES:
        raise UnreadableFileError(
            f"must be a single image, found axes {axes} of shape {source.shape}; save one plane alone"
        )
    shape = source.shape if len(source.shape) == 3 else (*source.shape, 1)
    axis = axes.index("S") if "S" in axes else axes.index("C") if "C" in axes else int(np.argmin(shape))
    if axis == 1:  # written by tifffile without a word on its axes, and the middle one is the smallest
        axis = 0 if shape[0] < shape[2] else 2
    height, width = (int(length) for i, length in enumerate(shape) if i != axis)
    header = header._replace(height=height, width=width, channels=int(shape[axis]) - len(alphas))
    return header, source, axis, alphas


def turn_upright(pixels: npt.NDArray[Any], orientation: int) -> npt.NDArray[Any]:
    """Return pixels (H, W, …) brought upright from EXIF's orientation 1–8; another number changes nothing."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels
