"""Decode one file to one array: images and masks through Pillow and tifffile, within limits for untrusted files.

Masks keep their stored numbers: of a palette PNG the index, not the colour, unless a map of colours is given.
"""

from __future__ import annotations

import io
import logging
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps, UnidentifiedImageError

from sweeper.core.text import format_count
from sweeper.data.colours import ColourMap, format_colour, translate_colours
from sweeper.data.label_values import Note, labels_of
from sweeper.data.store import ImagePixels, Pixels
from sweeper.data.text_tables import POINTER, POINTER_STEP, UnreadableFileError, open_file
from sweeper.data.tiff import TiffHeader, read_pixels, read_tiff_header, turn_upright

IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".ppm", ".pgm")
LOSSY_SUFFIXES = (".jpg", ".jpeg", ".webp")
MASK_SUFFIXES = (".png", ".bmp", ".tif", ".tiff", ".gif", ".ppm", ".pgm", *LOSSY_SUFFIXES)
MAX_PIXELS = 100_000_000
"""Larger images are refused before decoding."""
MAX_BYTES = 4 * MAX_PIXELS
"""Limit of an image's bytes over all channels."""

# Only these decoders are tried: Pillow would pass other formats to external programs.
_IMAGE_FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "WEBP", "PPM")
_MASK_FORMATS = (*_IMAGE_FORMATS, "GIF")
_GREY = ("1", "L", "LA", "La")
_DEEP_GREY = ("I", "I;16", "I;16B", "I;16L", "I;16N")
_RAW = re.compile(r"\W*[1L](?:;([0-9])?(I?))?")
"""Pillow's raw mode of grey pixels: bits, and whether 0 is white."""
_LEAST_COLOUR = 32
"""Colour bands of a grey mask that was stored as JPEG differ by less than this."""
_STRIP = 1 << 24

Source = Path | Callable[[], bytes]
"""A file, or a function that returns the bytes of an image embedded in another file."""


class ColourMaskError(UnreadableFileError):
    """Fault of a mask with colours for which there is no map."""

    def __init__(self, finding: str) -> None:
        self.finding = finding
        """Rule and value found, without a next step, which depends on the colours of the whole set."""
        super().__init__(
            f"{finding}; save class indices as an 8-bit PNG, or write colors.txt with one `name:r,g,b::` a line"
        )


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


def read_image_kind(source: Source) -> ImageKind:
    """Return size, channels and depth from the header alone.

    Raises:
        UnreadableFileError: not an image, animated, or larger than `MAX_PIXELS`.
    """
    tiff = _read_tiff(source)
    if tiff is not None and tiff.is_deep:
        _check_deep(tiff)
        return ImageKind(tiff.height, tiff.width, tiff.channels, 8 * tiff.dtype.itemsize, tiff.orientation)
    with _open_image(source, _IMAGE_FORMATS, tiff) as image:
        bits = 16 if image.mode in _DEEP_GREY or _is_deep_png(image) else 8
        channels = 1 if image.mode in _GREY + _DEEP_GREY else 3
        return ImageKind(image.height, image.width, channels, bits, _read_orientation(image))


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
    tiff = _read_tiff(source)
    if tiff is not None and tiff.is_deep:
        _check_deep(tiff)
        pixels = np.ascontiguousarray(_make_unsigned(turn_upright(_read_stored(source), tiff.orientation), tiff))
    else:
        pixels = _read_pillow(source, tiff)
    if pixels.dtype != dtype:
        pixels = (pixels >> 8).astype(np.uint8) if dtype is np.uint8 else pixels.astype(np.uint16) * np.uint16(257)
    if pixels.shape[2] == 1 and channels > 1:
        pixels = np.repeat(pixels, channels, axis=2)
    if pixels.shape[2] != channels:
        raise UnreadableFileError(f"must have {channels} channels like the others, found {pixels.shape[2]}")
    return pixels


def _read_pillow(source: Source, tiff: TiffHeader | None) -> ImagePixels:
    with _open_image(source, _IMAGE_FORMATS, tiff) as image:
        deep, inverted = _is_deep_png(image), tiff is not None and tiff.photometric == 0
        upright = ImageOps.exif_transpose(image, in_place=True) or image
        if upright.mode in _DEEP_GREY:
            values = _make_unsigned(np.asarray(upright), tiff)
            return (65535 - values if inverted else values)[:, :, None]  # Pillow inverts only 8 bits
        if upright.mode == "F":
            raise UnreadableFileError("images must have 8 or 16 bits, found floating-point pixels; save it with 8")
        if upright.mode in _GREY:
            return np.array(upright.convert("L"))[:, :, None]
        high_bytes = _read_bytes(upright)
    return (high_bytes.astype(np.uint16) << 8 | _read_low_bytes(source)).astype(np.uint16) if deep else high_bytes


def _read_bytes(image: Image.Image) -> Pixels:
    """Return a colour image as (H, W, 3), converted in strips: converting all at once needs three times the memory."""
    result = np.empty((image.height, image.width, 3), dtype=np.uint8)
    rows = max(1, _STRIP // max(1, image.width))
    for top in range(0, image.height, rows):
        box = (0, top, image.width, min(image.height, top + rows))
        result[top : top + rows] = np.asarray(image.crop(box).convert("RGB"))
    return result


def _is_deep_png(image: Image.Image) -> bool:
    """Return whether this is a PNG with 16 bits per colour, of which Pillow reads only the high bytes."""
    return image.format == "PNG" and bool(_list_tiles(image)) and _list_tiles(image)[0].args in ("RGB;16B", "RGBA;16B")


def _list_tiles(image: Image.Image) -> list[Any]:
    """Return the arguments of Pillow's decoder, one entry per part of the file; [] for images without a file."""
    tiles: list[Any] = getattr(image, "tile", [])
    return tiles


def _read_low_bytes(source: Source) -> Pixels:
    """Return the low bytes of a 16-bit PNG, by decoding it with the byte order swapped.

    Without them, a 12-bit image, whose high bytes are 0 to 15, would be nearly black.
    """
    with _open_image(source, _IMAGE_FORMATS) as image:
        _list_tiles(image)[:] = [t._replace(args=str(t.args).replace("16B", "16L")) for t in _list_tiles(image)]
        return _read_bytes(ImageOps.exif_transpose(image, in_place=True) or image)


def _read_orientation(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8; 1 if it is missing or invalid."""
    orientation = image.getexif().get(274, 1)
    return int(orientation) if orientation in range(1, 9) else 1


def _read_tiff(source: Source) -> TiffHeader | None:
    """Return the header of a TIFF; None for other files and damaged ones, whose error Pillow reports."""
    try:
        with _open_file(source) as file:
            if file.read(4)[:2] not in (b"II", b"MM"):
                return None
            file.seek(0)
            return read_tiff_header(file)
    except UnreadableFileError:
        raise
    except Exception:
        return None


def _check_deep(header: TiffHeader) -> None:
    """Refuse an image for tifffile if its type is unsupported or it is too large."""
    if header.dtype.kind not in "ui" or header.dtype.itemsize > 2:
        raise UnreadableFileError(f"images must have 8 or 16 bits per channel, found {header.dtype}; save it with 16")
    _check_size(header.height, header.width, header.channels * header.dtype.itemsize)


def _read_stored(source: Source) -> npt.NDArray[Any]:
    try:
        with _open_file(source) as file:
            return read_pixels(file)
    except UnreadableFileError:
        raise
    except Exception as error:
        raise _explain_undecodable(error) from error


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


def read_mask(
    path: Path,
    colours: ColourMap | None = None,
    size: tuple[int, int] | None = None,
    *,
    note: Note = lambda what: None,
    large: tuple[int, int] | None = None,
    note_palette: Callable[[dict[int, int]], None] = lambda palette: None,
) -> Pixels:
    """Decode a mask's labels: the stored numbers, regardless of the colours that palette or tags assign to them.

    Of a GIF the grey value is used, not the index, as its writer orders the palette.

    Args:
        path: the file.
        colours: colour of each label, for RGB masks, and for palette masks whose colours are all in it.
        size: (height, width) of the upright image, by which an EXIF orientation of the mask is checked.
        note: receives remarks for the user, phrased to follow `3 masks`.
        large: label for numbers from 255 on, and the largest of them; None = there must be none.
        note_palette: receives number → colour (r·65536 + g·256 + b) of the numbers that a mask with a palette uses, if
            its numbers are the labels.

    Returns:
        (H, W) uint8: 0–254, and 255 for no label.

    Raises:
        UnreadableFileError: truncated or damaged, coloured without a map, with numbers that cannot be classes, or with
            a palette that contradicts the map.
    """
    tiff = _read_tiff(path)
    inverted = tiff is not None and tiff.photometric == 0
    if tiff is not None and tiff.is_stored:
        _check_size(tiff.height, tiff.width, tiff.channels * tiff.dtype.itemsize)
        values, turn = _merge_bands(_read_stored(path)), tiff.orientation
    else:
        with _open_image(path, _MASK_FORMATS, tiff) as image:
            # First: with the pixels Pillow turns a TIFF and drops its tag.
            values = _read_labels(path, image, colours, note_palette)
            turn, inverted = _read_orientation(image), inverted or _is_palette_inverted(image)
    if inverted:
        note("in which 0 is white by tag or palette, read by the stored numbers: 0 is the background all the same")
    labels = labels_of(values, tiff and tiff.no_data, note, large)
    upright = turn_upright(labels, turn)
    if turn == 1 or (size is not None and upright.shape != size == labels.shape):
        return labels
    note("with an EXIF orientation of their own, turned by it")
    return upright


def _read_labels(
    path: Path, image: Image.Image, colours: ColourMap | None, note_palette: Callable[[dict[int, int]], None]
) -> npt.NDArray[Any]:
    """Return the numbers stored in a mask, (H, W), or the labels of its colours."""
    mode = image.mode
    if image.format in ("JPEG", "WEBP"):
        if colours is not None or (np.ptp(_read_bytes(image), axis=2) >= _LEAST_COLOUR).any():
            rule = "masks must be lossless where they are coloured"
            raise UnreadableFileError(f"{rule}, found {image.format}; export it again as PNG")
        return np.asarray(image.convert("L"))
    tile: Any = next(iter(_list_tiles(image)), None)
    is_spread = tile is not None and tile.codec_name in ("ppm", "ppm_plain") and mode in ("L", "I", "RGB")
    most = tile.args[1] if is_spread else 255
    if mode == "RGB" and most > 255:  # Pillow keeps only bytes
        raise UnreadableFileError(f"coloured masks must store numbers up to 255, found {most}; save it as PNG")
    palette = _list_used_colours(image) if mode == "P" else {}
    is_numbered = image.format != "GIF"  # its writer ordered the palette, so that the index has no meaning
    if colours is not None and (mode in ("RGB", "RGBA") or (palette and _is_mapped(palette, colours, is_numbered))):
        return translate_colours(_read_bytes(image), colours)
    if palette and is_numbered:
        note_palette(palette)
    if _is_deep_png(image):
        return _merge_bands(_read_bytes(image).astype(np.uint16) << 8 | _read_low_bytes(path))
    raw = None if tile is None else _RAW.match(str(tile.args))
    mode = mode if is_numbered else "RGBA"
    values: npt.NDArray[Any] = np.asarray(image if is_numbered else image.convert(mode))
    if is_spread:  # Pillow scales PPM and PGM to 0–255 or 0–65535; undo it
        values = np.rint(values * (most / (65535 if mode == "I" else 255))).astype(values.dtype)
    if mode in ("RGB", "RGBA", "LA"):
        return _merge_bands(values, alpha=mode != "RGB")
    if mode not in ("1", "L", "P", "F", *_DEEP_GREY):
        raise UnreadableFileError(
            f"masks must hold one whole number per pixel, found Pillow mode {mode}; save it as an 8-bit index PNG"
        )
    if raw is not None and mode in ("1", "L"):  # Pillow scales few bits to 0–255, and inverts where 0 is white
        most = 1 if mode == "1" else 2 ** int(raw[1] or 8) - 1
        values = values.astype(np.uint8) // (1 if mode == "1" else 255 // most)
        return most - values if raw[2] else values
    return values


def _is_palette_inverted(image: Image.Image) -> bool:
    """Return whether a palette shows 0 as white, and 1 or 255 as black."""
    palette = image.getpalette("RGB") if image.mode == "P" and image.format != "GIF" else None
    return palette is not None and palette[:3] == [255] * 3 and [0] * 3 in (palette[3:6], palette[765:])


def _list_used_colours(image: Image.Image) -> dict[int, int]:
    """Return number → colour (r·65536 + g·256 + b) of the numbers that a mask with a palette uses."""
    used: Any = image.getcolors(256)
    palette = [*(image.getpalette("RGB") or []), *[0] * 768]  # Pillow shows numbers beyond a palette in black, too
    return {i: palette[3 * i] << 16 | palette[3 * i + 1] << 8 | palette[3 * i + 2] for _, i in used}


def _is_mapped(palette: dict[int, int], colours: ColourMap, is_numbered: bool) -> bool:
    """Return whether the map contains every colour that a palette mask uses; then colours define the classes.

    Raises:
        UnreadableFileError: only a part is in the map, and its labels are not the mask's numbers, which have a meaning.
    """
    labels = dict(zip(colours.keys.tolist(), colours.labels.tolist(), strict=True))
    missing = [colour for colour in palette.values() if colour not in labels]
    wrong = [colour for number, colour in palette.items() if labels.get(colour, number) != number]
    if is_numbered and missing and wrong:
        one, other = format_colour(missing[0]), format_colour(wrong[0])
        raise UnreadableFileError(
            f"all colours of a palette must be in the map of colours, found {one}, which is not, and {other}, whose "
            f"number is not that of the map; add {one} to the map"
        )
    return not missing


def count_colours(path: Path, limit: int) -> dict[int, int] | None:
    """Count the pixels of each colour (r·65536 + g·256 + b) in a mask to which a map of colours would apply.

    Args:
        path: the file.
        limit: largest number of colours.

    Returns:
        None if there are more colours; {} for a mask of numbers, to which no map of colours applies.

    Raises:
        UnreadableFileError: the file cannot be decoded.
    """
    tiff = _read_tiff(path)
    with _open_image(path, _MASK_FORMATS, tiff) as image:
        is_coloured = image.mode in ("RGB", "RGBA") or (image.mode == "P" and image.format == "GIF")
        if (tiff is not None and tiff.is_stored) or image.format in ("JPEG", "WEBP") or not is_coloured:
            return {}
        colours: Any = image.convert("RGB").getcolors(limit)
    return None if colours is None else {r << 16 | g << 8 | b: count for count, (r, g, b) in colours}


def _merge_bands(pixels: npt.NDArray[Any], *, alpha: bool = False) -> npt.NDArray[Any]:
    """Reduce (H, W, bands) with equal colour bands, and an opaque alpha as the last band, to (H, W)."""
    colours = pixels[:, :, :-1] if alpha else pixels
    if colours.shape[2] > 1 and (colours != colours[:, :, :1]).any():
        y, x = np.argwhere((colours != colours[:, :, :1]).any(axis=2))[0]
        raise ColourMaskError(
            f"masks must hold one number per pixel, found a colour image ({tuple(int(v) for v in colours[y, x])} at "
            f"x={x}, y={y})"
        )
    if alpha and (pixels[:, :, -1] != 255).any():
        raise UnreadableFileError("masks must not be transparent, found an alpha channel below 255; save it without")
    return colours[:, :, 0]


def _check_size(height: int, width: int, bytes_per_pixel: int = 1) -> None:
    if width * height > MAX_PIXELS or width * height * bytes_per_pixel > MAX_BYTES:
        raise UnreadableFileError(
            f"images may have {MAX_PIXELS // 10**6} megapixels and {MAX_BYTES // 10**6} MB at most, found "
            f"{width}×{height} with {format_count(bytes_per_pixel, 'byte')} per pixel; cut it into tiles"
        )


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


def _explain_undecodable(error: Exception) -> UnreadableFileError:
    text = " ".join(str(error).split())[:300]
    return UnreadableFileError(f"cannot be decoded ({type(error).__name__}: {text}); copy it again or remove it")


@contextmanager
def _open_image(source: Source, formats: tuple[str, ...], tiff: TiffHeader | None = None) -> Iterator[Image.Image]:
    """Open an image after checking its header; all errors on damaged bytes become `UnreadableFileError`."""
    try:
        with _open_file(source) as file, Image.open(file, formats=formats) as image:
            _check_size(image.height, image.width)
            if tiff is not None and tiff.pages == 1 < tiff.page + 1:
                image.seek(tiff.page)
            # Phones save JPEGs with a preview as a second frame (MPO); these count as single images.
            frames = getattr(image, "n_frames", 1) if tiff is None else tiff.pages
            if frames > 1 and image.format != "MPO":
                raise UnreadableFileError(f"must be a single image, found {frames} frames; save one of them alone")
            if image.format == "BMP" and image.mode in ("1", "L"):
                file.seek(28)
                if (bits := file.read(1)[0]) != (1 if image.mode == "1" else 8):
                    raise UnreadableFileError(
                        f"a grey BMP must have 1 or 8 bits for its colours, found {bits}; save it as PNG"
                    )
            yield image
    except UnreadableFileError:
        raise
    except Image.DecompressionBombError as error:
        limit = f"images may have {MAX_PIXELS // 10**6} megapixels at most"
        raise UnreadableFileError(f"{limit}, found more ({error}); cut it into tiles") from error
    except UnidentifiedImageError as error:
        format_names = ", ".join(formats)
        raise UnreadableFileError(
            f"must be one of {format_names}, found other bytes; save it again or remove it"
        ) from error
    except Exception as error:  # decoders raise arbitrary exceptions on damaged bytes
        raise _explain_undecodable(error) from error
