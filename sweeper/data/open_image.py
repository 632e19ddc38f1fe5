"""Open image files within limits for untrusted files; images and masks share this.

Headers of TIFFs are read with tifffile, as are pixels that Pillow cannot read completely (many channels, 16-bit colour,
signed numbers) or changes.
"""

from __future__ import annotations

import io
import logging
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt
import tifffile
from PIL import Image, UnidentifiedImageError
from PIL.ImageFile import ImageFile
from tifffile import COMPRESSION, EXTRASAMPLE, FILETYPE, PHOTOMETRIC

from sweeper.core.errors import get_cause
from sweeper.core.text import format_count
from sweeper.data.store import Pixels
from sweeper.data.text_tables import POINTER, POINTER_STEP, UnreadableFileError, open_file, point_to_lines

LOSSY_SUFFIXES = (".jpg", ".jpeg", ".webp", ".avif", ".heic", ".heif")
IMAGE_SUFFIXES = (".png", ".bmp", ".tif", ".tiff", ".ppm", ".pgm", *LOSSY_SUFFIXES)
MASK_SUFFIXES = (".png", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm", ".npy", *LOSSY_SUFFIXES)
# Only these decoders are tried: Pillow would pass other formats to external programs.
LOSSY_FORMATS: tuple[str, ...] = ("JPEG", "WEBP", "AVIF")
with suppress(ImportError):
    from pillow_heif import register_heif_opener

    register_heif_opener()
    LOSSY_FORMATS += ("HEIF",)
IMAGE_FORMATS = ("PNG", "BMP", "TIFF", "PPM", *LOSSY_FORMATS)
MASK_FORMATS = (*IMAGE_FORMATS, "GIF")
MAX_PIXELS = 100_000_000
"""Larger images are refused before decoding."""
MAX_BYTES = 4 * MAX_PIXELS
"""Limit of an image's bytes over all channels."""
DEEP_GREY = ("I", "I;16", "I;16B", "I;16L", "I;16N")
"""Pillow's modes of grey images with more than 8 bits."""
WRITE_PAGES = point_to_lines("write each page as a file", "stacks-of-pages")
_STRIP = 1 << 24
"""Pixels converted at a time."""

_PILLOW_PHOTOMETRIC = (3, 4, 5, 6, 8, 9)
"""Palette, transparency mask, CMYK, YCbCr, Lab: colour spaces that Pillow converts to RGB."""
_DEFLATE = (COMPRESSION.ADOBE_DEFLATE, COMPRESSION.DEFLATE)
_CHANNEL_AXES = {"SYX": 0, "CYX": 0, "QYX": None, "YXS": 2, "YXC": 2}
"""Axes of images with channels, and which of them are the channels; None = unknown."""
_GREY_KINDS = ("uint8", "uint16", "uint32", "uint64", "int16", "int32")
_PILLOW_KINDS = {(3, "uint8"), *((1, kind) for kind in _GREY_KINDS)}
"""Numbers of channels and their types that Pillow reads completely."""

Source = Path | Callable[[], bytes]
"""A file, or a function that returns the bytes of an image embedded in another file."""


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


@contextmanager
def silence_pillow() -> Iterator[None]:
    """Silence the decoders' warnings about unusual files: our own checks report what matters.

    Enter it once around all reading, not per file: warning filters are global to the process.
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


@contextmanager
def _explain_damage(formats: tuple[str, ...] = MASK_FORMATS) -> Iterator[None]:
    """Turn all errors on damaged bytes into `UnreadableFileError`."""
    try:
        yield
    except UnreadableFileError:
        raise
    except Image.DecompressionBombError as error:
        limit = f"images may have {MAX_PIXELS // 10**6} megapixels at most"
        raise UnreadableFileError(f"{limit}, found more ({error}); cut it into tiles") from error
    except UnidentifiedImageError as error:
        kinds = f"{', '.join(formats)} (HEIC after pip install pillow-heif)"
        raise UnreadableFileError(f"must be one of {kinds}, found other bytes; save it again or remove it") from error
    except Exception as error:  # decoders raise arbitrary exceptions on damaged bytes
        raise UnreadableFileError(
            f"cannot be decoded ({type(error).__name__}: {get_cause(error)}); copy it again or remove it"
        ) from error


@contextmanager
def open_image(source: Source, formats: tuple[str, ...], tiff: TiffHeader = NO_TIFF) -> Iterator[ImageFile]:
    """Open an image after checking its header; all errors on damaged bytes become `UnreadableFileError`."""
    with _explain_damage(formats), _open_file(source) as file, Image.open(file, formats=formats) as image:
        check_size(image.height, image.width)
        if tiff.pages == 1 < tiff.page + 1:
            image.seek(tiff.page)
        # Phones save JPEGs with a preview as a second frame (MPO); these count as single images.
        frames = tiff.pages or getattr(image, "n_frames", 1)
        if frames > 1 and image.format != "MPO":
            raise UnreadableFileError(f"must be a single image, found {frames} pages; {WRITE_PAGES}")
        if image.format == "BMP" and image.mode in ("1", "L"):
            file.seek(28)
            bits, usual = file.read(1)[0], 1 if image.mode == "1" else 8
            if bits != usual:
                rule = "a grey BMP must have 1 or 8 bits for its colours"
                raise UnreadableFileError(f"{rule}, found {bits}; save it as PNG")
        yield image


@contextmanager
def _open_file(source: Source) -> Iterator[BinaryIO]:
    with open_file(source) if isinstance(source, Path) else io.BytesIO(source()) as file:
        start = file.read(len(POINTER))
        if not start:
            raise UnreadableFileError("must be an image, found an empty file (0 bytes); copy it again or remove it")
        if start == POINTER:
            raise UnreadableFileError(f"must be an image, {POINTER_STEP}")
        file.seek(0)
        yield file


def check_size(height: int, width: int, bytes_per_pixel: int = 1) -> None:
    """Refuse an image above the limits.

    Raises:
        UnreadableFileError: it is larger.
    """
    if width * height > MAX_PIXELS or width * height * bytes_per_pixel > MAX_BYTES:
        raise UnreadableFileError(
            f"images may have {MAX_PIXELS // 10**6} megapixels and {MAX_BYTES // 10**6} MB at most, found "
            f"{width}×{height} with {format_count(bytes_per_pixel, 'byte')} per pixel; cut it into tiles"
        )


def read_tiff(source: Source) -> TiffHeader:
    """Return the header of a TIFF; `NO_TIFF` of other files and damaged ones, whose error Pillow reports.

    Raises:
        UnreadableFileError: unsupported order of the axes.
    """
    try:
        with _open_file(source) as file, _index_pages(file) as tiff:
            return _read_header(tiff)[0]
    except UnreadableFileError:
        raise
    except Exception:
        return NO_TIFF


@contextmanager
def _open_tiff(source: Source) -> Iterator[tifffile.TiffFile]:
    with _explain_damage(), _open_file(source) as file, _index_pages(file) as tiff:
        yield tiff


def _index_pages(file: BinaryIO) -> tifffile.TiffFile:
    """Return an open TIFF whose chain of pages ends: tifffile follows a circle until memory does.

    Raises:
        UnreadableFileError: the chain leads back to an earlier page.
    """
    tiff = tifffile.TiffFile(file)
    form, seen = tiff.tiff, set[int]()
    at = form.offsetsize  # the header's other half has the place of the first page
    with suppress(struct.error):  # the file ends before its pages do, which is reported elsewhere
        while at:
            file.seek(at)
            (page,) = struct.unpack(form.offsetformat, file.read(form.offsetsize))
            if page in seen:
                raise UnreadableFileError("pages must follow each other to an end, found a circle; save it again")
            seen.add(page)
            file.seek(page)
            (tags,) = struct.unpack(form.tagnoformat, file.read(form.tagnosize))
            at = page and page + form.tagnosize + tags * form.tagsize
    return tiff


def read_stored(source: Source) -> npt.NDArray[Any]:
    """Return the numbers stored in a TIFF, (H, W, C), of the file's own type: not turned, without alpha.

    Raises:
        UnreadableFileError: truncated or damaged, or compressed in an unsupported way.
    """
    with _open_tiff(source) as tiff:
        header, source_of_pixels, axis, alphas = _read_header(tiff)
        is_series = header.is_deep and source_of_pixels is tiff.series[0]
        for page in source_of_pixels.pages if is_series else [tiff.pages[header.page]]:
            _check_segments(tiff, page)
        pixels: npt.NDArray[Any] = np.moveaxis(np.atleast_3d(source_of_pixels.asarray(maxworkers=1)), axis, -1)
        colours = [i for i in range(pixels.shape[2]) if i not in alphas]
        return pixels[:, :, colours] if alphas else pixels


def _check_segments(tiff: tifffile.TiffFile, page: Any) -> None:
    """Refuse a page with an unsupported compression, or segments beyond the file's end or too large.

    Raises:
        UnreadableFileError: such a page was found.
    """
    compression = int(page.compression)
    if compression not in (COMPRESSION.NONE, COMPRESSION.LZW, *_DEFLATE):
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
    derived = FILETYPE.REDUCEDIMAGE | FILETYPE.MASK
    whole = [(i, page) for i, page in pages if not int(page.subfiletype) & derived]
    full = whole or pages
    place, page = full[0]
    source: Any = tiff.series[0] if len(full) == len(pages) else page  # else the overviews would count
    samples, extra = int(page.samplesperpixel), [int(kind) for kind in page.extrasamples]
    alphas = tuple(
        samples - len(extra) + i
        for i, kind in enumerate(extra)
        if kind in (EXTRASAMPLE.ASSOCALPHA, EXTRASAMPLE.UNASSALPHA)
    )
    no_data = None
    with suppress(ValueError):  # the tag is missing, or no number
        no_data = float(str(page.tags.valueof("GDAL_NODATA")).strip("\0 "))
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
    name = getattr(page.dtype, "name", "")  # without a type none
    if not name or int(page.bitspersample) not in (1, 8, 16, 32, 64):
        return False
    photometrics = (0, 1) if name == "uint8" else (0, 1, PHOTOMETRIC.RGB)
    if int(page.photometric) not in photometrics:
        return False
    is_wide = name in ("float16", "float64", "int64", "uint64")
    return is_wide or int(page.compression) in (COMPRESSION.NONE, *_DEFLATE)


def read_array(path: Path) -> npt.NDArray[Any]:
    """Return the numbers of a NumPy file, with one axis more for planes, if there are any.

    Raises:
        UnreadableFileError: damaged, or not an array of numbers with two or three axes.
    """
    with _explain_damage():
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    if array.dtype.kind not in "biuf" or array.ndim not in (2, 3):
        raise UnreadableFileError(f"arrays must be numbers (H, W) or (C, H, W), found {array.dtype} {array.shape}")
    check_size(array.shape[-2], array.shape[-1], int(np.prod(array.shape[:-2])) * array.itemsize)
    return np.array(array)


def read_stack(path: Path) -> npt.NDArray[Any]:
    """Return the planes of a mask file, (C, H, W), as stored: of an array or a TIFF; none of one with a number a pixel.

    Raises:
        UnreadableFileError: damaged, or too large.
    """
    header, array = read_tiff(path), np.zeros((0, 0), dtype=np.uint8)
    if path.suffix.lower() == ".npy":
        array = read_array(path)
    elif header.photometric <= 1 < max(header.pages, header.channels):
        check_size(header.height, header.width, max(header.pages, header.channels) * header.dtype.itemsize)
        with _open_tiff(path) as tiff:
            for page in tiff.series[0].pages:
                _check_segments(tiff, page)
            array = tiff.series[0].asarray(maxworkers=1)
    if array.ndim != 3:
        return np.zeros((0, 0, 0), dtype=np.uint8)
    return np.moveaxis(array, 2 * int(np.argmin(array.shape[::2])), 0)  # (H, W, C) has the fewer at the end


def read_orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8; 1 if it is missing or invalid."""
    orientation = image.getexif().get(274, 1)
    return int(orientation) if orientation in range(1, 9) else 1


def turn_upright(pixels: npt.NDArray[Any], orientation: int) -> npt.NDArray[Any]:
    """Turn pixels (H, W, …) upright from EXIF's orientation 1–8; other numbers change nothing."""
    if orientation in (5, 6, 7, 8):
        pixels = pixels.swapaxes(0, 1)
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels


def read_bytes(image: Image.Image) -> Pixels:
    """Return a colour image as (H, W, 3), converted in strips: converting all at once needs three times the memory."""
    result = np.empty((image.height, image.width, 3), dtype=np.uint8)
    rows = max(1, _STRIP // max(1, image.width))
    for top in range(0, image.height, rows):
        box = (0, top, image.width, min(image.height, top + rows))
        result[top : top + rows] = np.asarray(image.crop(box).convert("RGB"))
    return result


def is_deep_png(image: ImageFile) -> bool:
    """Return whether this is a PNG with 16 bits per colour, of which Pillow reads only the high bytes."""
    return image.format == "PNG" and any(tile.args in ("RGB;16B", "RGBA;16B") for tile in image.tile)


def read_deep_png(source: Source) -> npt.NDArray[np.uint16]:
    """Return the pixels of such a PNG, (H, W, 3), not turned.

    The low bytes are those that Pillow reads with the byte order swapped. Without them, a 12-bit image, whose high
    bytes are 0 to 15, would be nearly black.
    """
    with open_image(source, ("PNG",)) as image:
        high = read_bytes(image).astype(np.uint16)
    with open_image(source, ("PNG",)) as image:
        image.tile = [tile._replace(args=str(tile.args).replace("16B", "16L")) for tile in image.tile]
        low = read_bytes(image)
    return (high << 8 | low).astype(np.uint16, copy=False)
