"""Open image files through Pillow and tifffile, within limits for untrusted files; images and masks share this."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from sweeper.core.errors import get_cause
from sweeper.core.text import format_count
from sweeper.data.store import Pixels
from sweeper.data.text_tables import POINTER, POINTER_STEP, UnreadableFileError, open_file, point_to_lines
from sweeper.data.tiff import NO_TIFF, TiffHeader, read_pixels, read_series, read_tiff_header

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

Source = Path | Callable[[], bytes]
"""A file, or a function that returns the bytes of an image embedded in another file."""


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
def open_image(source: Source, formats: tuple[str, ...], tiff: TiffHeader = NO_TIFF) -> Iterator[Image.Image]:
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
            if (bits := file.read(1)[0]) != (1 if image.mode == "1" else 8):
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
    """Return the header of a TIFF; `NO_TIFF` of other files and damaged ones, whose error Pillow reports."""
    try:
        with _open_file(source) as file:
            if file.read(4)[:2] not in (b"II", b"MM"):
                return NO_TIFF
            file.seek(0)
            return read_tiff_header(file)
    except UnreadableFileError:
        raise
    except Exception:
        return NO_TIFF


def read_stored(source: Source) -> npt.NDArray[Any]:
    """Return the numbers stored in a TIFF, (H, W, C), not turned.

    Raises:
        UnreadableFileError: truncated or damaged.
    """
    with _explain_damage(), _open_file(source) as file:
        return read_pixels(file)


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
        with _open_file(path) as file:
            array = read_series(file)
    if array.ndim != 3:
        return np.zeros((0, 0, 0), dtype=np.uint8)
    return np.moveaxis(array, 2 * int(np.argmin(array.shape[::2])), 0)  # (H, W, C) has the fewer at the end


def read_orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8; 1 if it is missing or invalid."""
    orientation = image.getexif().get(274, 1)
    return int(orientation) if orientation in range(1, 9) else 1


def list_file_parts(image: Image.Image) -> list[Any]:
    """Return the arguments of Pillow's decoder, one entry per part of the file; [] for images without a file."""
    tiles: list[Any] = getattr(image, "tile", [])
    return tiles


def read_bytes(image: Image.Image) -> Pixels:
    """Return a colour image as (H, W, 3), converted in strips: converting all at once needs three times the memory."""
    result = np.empty((image.height, image.width, 3), dtype=np.uint8)
    rows = max(1, _STRIP // max(1, image.width))
    for top in range(0, image.height, rows):
        box = (0, top, image.width, min(image.height, top + rows))
        result[top : top + rows] = np.asarray(image.crop(box).convert("RGB"))
    return result


def is_deep_png(image: Image.Image) -> bool:
    """Return whether this is a PNG with 16 bits per colour, of which Pillow reads only the high bytes."""
    return image.format == "PNG" and any(tile.args in ("RGB;16B", "RGBA;16B") for tile in list_file_parts(image))


def read_deep_png(source: Source) -> npt.NDArray[np.uint16]:
    """Return the pixels of such a PNG, (H, W, 3), not turned.

    The low bytes are those that Pillow reads with the byte order swapped. Without them, a 12-bit image, whose high
    bytes are 0 to 15, would be nearly black.
    """
    with open_image(source, ("PNG",)) as image:
        high = read_bytes(image).astype(np.uint16)
    with open_image(source, ("PNG",)) as image:
        list_file_parts(image)[:] = [
            tile._replace(args=tile.args.replace("16B", "16L")) for tile in list_file_parts(image)
        ]
        low = read_bytes(image)
    return (high << 8 | low).astype(np.uint16, copy=False)
