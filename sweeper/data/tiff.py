"""TIFFs that Pillow cannot give us whole: many channels, 16 bits in colour, signed numbers. Read with tifffile."""

from __future__ import annotations

import zlib
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
_CHANNEL_AXES = ("SYX", "CYX", "QYX", "YXS", "YXC")


class DeepTiff(NamedTuple):
    """What the header of such a file says."""

    height: int
    width: int
    channels: int
    """Without opacity."""
    dtype: np.dtype[Any]


def deep_tiff(file: BinaryIO) -> DeepTiff | None:
    """What the header says of a TIFF that only tifffile reads whole; None for those that are left to Pillow.

    Raises:
        UnreadableFileError: several pages that are no channels, or pixels of a kind that has no meaning here.
    """
    with tifffile.TiffFile(file) as tiff:
        return _header(tiff)[0]


def read_deep_tiff(file: BinaryIO) -> npt.NDArray[Any]:
    """Pixels (H, W, C) of the file's own type, upright, without opacity.

    Raises:
        UnreadableFileError: truncated, or compressed in a way that needs another package.
    """
    with tifffile.TiffFile(file) as tiff:
        _, axes, alphas = _header(tiff)
        series = tiff.series[0]
        for page in series.pages if len(series.pages) > 1 else [tiff.pages[0]]:
            _check_segments(tiff, page)
        try:
            pixels: npt.NDArray[Any] = series.asarray(maxworkers=1)
        except (ImportError, ValueError) as error:
            if "imagecodecs" in str(error):
                raise UnreadableFileError(
                    f"its compression needs another package ({error}); pip install imagecodecs, or save it "
                    "uncompressed or with deflate"
                ) from error
            raise
        orientation = tiff.pages[0].tags.get("Orientation")  # type: ignore[union-attr]
    if pixels.ndim == 2:
        pixels = pixels[:, :, None]
    pixels = _turned(np.moveaxis(pixels, axes, -1), int(orientation.value) if orientation else 1)
    return pixels[:, :, [i for i in range(pixels.shape[2]) if i not in alphas]] if alphas else pixels


def _check_segments(tiff: tifffile.TiffFile, page: Any) -> None:
    """Refuse a page whose segments lie beyond the file's end, or hold more than they should: tifffile trusts them.

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


def _header(tiff: tifffile.TiffFile) -> tuple[DeepTiff | None, int, tuple[int, ...]]:
    """The header (None: left to Pillow), the axis of the channels, and which channels are opacity."""
    page: Any = tiff.pages[0]
    series = tiff.series[0]
    samples, dtype = int(page.samplesperpixel), page.dtype
    extra = tuple(int(v) for v in page.extrasamples)
    first = samples - len(extra)
    alphas = tuple(first + i for i, kind in enumerate(extra) if kind in _ALPHA)
    if dtype is None or int(page.photometric) in _PILLOW_PHOTOMETRIC:
        return None, 0, ()
    if len(tiff.pages) == 1:
        grey = samples - len(alphas) == 1
        plain = samples - len(alphas) in (1, 3) and dtype == np.uint8
        if plain or (grey and dtype.kind != "i") or dtype.kind == "b" or page.bitspersample < 8:
            return None, 0, ()
    elif series.kind not in ("shaped", "imagej", "ome") or len(tiff.series) > 1:
        return None, 0, ()  # pages without a word on what they are: Pillow's frames, refused there
    axes = "YXS" if series.axes == "YX" else series.axes
    if axes not in _CHANNEL_AXES:
        raise UnreadableFileError(
            f"must be a single image, found axes {axes} of shape {series.shape}; save one plane alone"
        )
    if dtype.kind not in "ui" or dtype.itemsize > 2:
        raise UnreadableFileError(f"images must have 8 or 16 bits per channel, found {dtype}; save it with 16")
    shape = series.shape if len(series.shape) == 3 else (*series.shape, 1)
    axis = axes.index("S") if "S" in axes else axes.index("C") if "C" in axes else int(np.argmin(shape))
    if axis == 1:  # written by tifffile without a word on its axes, and the middle one is the smallest
        axis = 0 if shape[0] < shape[2] else 2
    height, width = (length for i, length in enumerate(shape) if i != axis)
    channels = int(shape[axis])
    return DeepTiff(int(height), int(width), channels - len(alphas), dtype), axis, alphas


def _turned(pixels: npt.NDArray[Any], orientation: int) -> npt.NDArray[Any]:
    """(H, W, C) brought upright from EXIF's orientation 1–8."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels
