"""Decode images to arrays, upright, with 8 or 16 bits, and masks to labels.

Masks keep their stored numbers: of a palette PNG the index, not the colour, unless a map of colours is given.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image
from PIL.ImageFile import ImageFile

from sweeper.core.records import IGNORE
from sweeper.core.text import abbreviate
from sweeper.data.colours import Colour, ColourMap, translate_colours
from sweeper.data.label_values import OBJECTS_STEP
from sweeper.data.open_image import (
    DEEP_GREY,
    IMAGE_FORMATS,
    LOSSY_FORMATS,
    MASK_FORMATS,
    Source,
    TiffHeader,
    check_size,
    is_deep_png,
    open_image,
    read_array,
    read_bytes,
    read_deep_png,
    read_orientation,
    read_stack,
    read_stored,
    read_tiff,
    turn_upright,
)
from sweeper.data.store import ImagePixels, Pixels
from sweeper.data.text_tables import UnreadableFileError

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
    if tiff.is_deep:
        _check_deep(tiff)
        return ImageKind(tiff.height, tiff.width, tiff.channels, 8 * tiff.dtype.itemsize, tiff.orientation)
    with open_image(source, IMAGE_FORMATS, tiff) as image:
        is_deep = image.mode in DEEP_GREY or is_deep_png(image)
        channels = 1 if image.mode in _GREY + DEEP_GREY else 3
        return ImageKind(image.height, image.width, channels, 16 if is_deep else 8, read_orientation(image))


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
    if tiff.is_deep:
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


def _read_pillow(image: ImageFile, source: Source, tiff: TiffHeader) -> ImagePixels:
    """Return the pixels (H, W, 1 or 3) of an opened image, not turned."""
    if is_deep_png(image):
        return read_deep_png(source)
    if image.mode in DEEP_GREY:
        values = _make_unsigned(np.asarray(image), tiff)
        is_inverted = tiff.photometric == 0  # Pillow inverts only 8 bits
        return (65535 - values if is_inverted else values)[:, :, None]
    if image.mode == "F":
        raise UnreadableFileError("images must have 8 or 16 bits, found floating-point pixels; save it with 8")
    return np.array(image.convert("L"))[:, :, None] if image.mode in _GREY else read_bytes(image)


def _check_deep(header: TiffHeader) -> None:
    """Refuse an image for tifffile if its type is unsupported or it is too large."""
    if header.dtype.kind not in "ui" or header.dtype.itemsize > 2:
        raise UnreadableFileError(f"images must have 8 or 16 bits per channel, found {header.dtype}; save it with 16")
    check_size(header.height, header.width, header.channels * header.dtype.itemsize)


def _make_unsigned(pixels: npt.NDArray[Any], tiff: TiffHeader) -> ImagePixels:
    """Return whole numbers as uint8 or uint16, with 0 for no data: the value of the no-data tag, by default −1.

    Raises:
        UnreadableFileError: values are outside these types.
    """
    if pixels.dtype.kind != "u":
        pixels = np.where(pixels == (-1 if tiff.no_data is None else tiff.no_data), 0, pixels)
    low, high = int(pixels.min()), int(pixels.max())
    if not 0 <= low <= high <= 65535:
        raise UnreadableFileError(
            f"values must be within 0 and 65535, found {low} to {high}; add an offset and save it as unsigned numbers "
            "of 8 or 16 bits, or set its no-data tag: gdal_edit.py -a_nodata NUMBER FILE"
        )
    return pixels.astype(np.uint8 if pixels.dtype.itemsize == 1 else np.uint16, copy=False)


Note = Callable[[str], None]

NO_DATA = "with pixels without data (by tag, NaN or a negative number), which are ignored"
_RAW = re.compile(r"\W*[1L](?:;([0-9])?(I?))?")
"""Pillow's raw mode of grey pixels: bits, and whether 0 is white."""
MAX_COLOURS = 40
"""Most colours of a mask; masks with more were smoothed."""
_LEAST_COLOUR = 32
"""Colour bands of a grey mask that was stored as JPEG differ by less than this."""


class ColourMaskError(UnreadableFileError):
    """Fault of a mask with colours for which there is no map."""

    def __init__(self, finding: str) -> None:
        self.finding = finding
        """Rule and value found, without a next step, which depends on the colours of the whole set."""
        super().__init__(
            f"{finding}; save class indices as an 8-bit PNG, or write colors.txt with one `name:r,g,b::` a line"
        )


def read_mask(
    path: Path,
    colours: ColourMap | None = None,
    size: tuple[int, int] | None = None,
    *,
    note: Note = lambda what: None,
    large: Mapping[tuple[int, int], int] = MappingProxyType({}),
    note_palette: Callable[[dict[int, Colour]], None] = lambda palette: None,
    note_colours: Callable[[dict[Colour, int]], None] = lambda counts: None,
) -> Pixels:
    """Decode a mask's labels: the stored numbers, regardless of the colours that palette or tags assign to them.

    Of a GIF the grey value is used, not the index, as its writer orders the palette.

    Args:
        path: the file.
        colours: colour of each label, for RGB masks, and for palette masks whose colours are all in it.
        size: (height, width) of the upright image, by which an EXIF orientation of the mask is checked.
        note: receives remarks for the user, phrased to follow `3 masks`.
        large: first and last of numbers above 255 → label in their place; there must be no others.
        note_palette: receives number → colour of the numbers that a mask with a palette uses, if its numbers are the
            labels.
        note_colours: receives the pixels of each colour in a mask to which a map of colours would apply, if that fails
            or there is none; {} for more than `MAX_COLOURS`.

    Returns:
        (H, W) uint8: 0–254, and 255 for no label.

    Raises:
        UnreadableFileError: truncated or damaged, coloured without a map, with numbers that cannot be classes, or with
            a palette that contradicts the map.
    """
    tiff = read_tiff(path)
    inverted = tiff.photometric == 0
    if path.suffix.lower() == ".npy":
        values, turn = _merge_bands(np.atleast_3d(read_array(path))), 1
    elif tiff.is_stored:
        check_size(tiff.height, tiff.width, tiff.channels * tiff.dtype.itemsize)
        values, turn = _merge_bands(read_stored(path)), tiff.orientation
    else:
        with open_image(path, MASK_FORMATS, tiff) as image:
            # First: with the pixels Pillow turns a TIFF and drops its tag.
            values = _read_labels(path, image, colours, note_palette, note_colours)
            turn, inverted = read_orientation(image), inverted or _is_palette_inverted(image)
    if inverted:
        note("in which 0 is white by tag or palette, read by the stored numbers: 0 is the background all the same")
    labels = convert_to_labels(values, tiff.no_data, note, large)
    upright = turn_upright(labels, turn)
    fits_unturned = size is not None and upright.shape != size == labels.shape
    if turn == 1 or fits_unturned:
        return labels
    note("with an EXIF orientation of their own, turned by it")
    return upright


def read_planes(path: Path) -> npt.NDArray[np.bool_]:
    """Return the planes of a mask file, (C, H, W).

    Raises:
        UnreadableFileError: it has other numbers than 0 and 1, or 0 and 255.
    """
    planes = read_stack(path)
    values = {*np.unique(planes).tolist()}
    if values - {0} not in (set(), {1}, {IGNORE}):
        numbers = abbreviate([f"{value:g}" for value in sorted(values)])
        raise UnreadableFileError(f"planes must hold 0 and 1 (or 0 and 255), found {numbers}; save one for each class")
    return planes > 0


def convert_to_labels(
    values: npt.NDArray[Any], no_data: float | None, note: Note, large: Mapping[tuple[int, int], int]
) -> Pixels:
    """Return the labels (H, W) uint8 of stored numbers (H, W): whole numbers up to 254, else 255.

    Args:
        values: of any type; NaN, and a single negative number, mean no data.
        no_data: a further number for no data; 0 is still class 0.
        note: receives a remark if there is such a number.
        large: first and last of numbers above 255 → label in their place; there must be no others.

    Raises:
        UnreadableFileError: there are other numbers.
    """
    is_byte = values.dtype.itemsize == 1
    is_unsigned = is_byte and values.dtype.kind != "i"
    if is_unsigned and no_data is None:
        return values.astype(np.uint8, copy=False)
    if no_data == 0:
        note("whose tag says that 0 is no data: 0 is class 0 all the same (a class map with `ignore: 0` ignores it)")
    absent = np.isnan(values) | (values == (no_data or np.nan))
    if len(np.unique(values[~absent & (values < 0)])) == 1:
        absent |= values < 0
    if absent.any():
        note(NO_DATA)
        values = np.where(absent, IGNORE, values)
    if len(parts := np.argwhere(values != np.rint(values))):
        y, x = parts[0]
        raise UnreadableFileError(
            f"masks must hold whole numbers, found {values[y, x]:.6g} at x={x}, y={y}; save labels (of probabilities "
            "`(p > 0.5).astype('uint8')`)"
        )
    if values.dtype.kind == "u":  # all bits set: white, or no data
        values = np.where(values == np.iinfo(values.dtype).max, IGNORE, values)
    stored = values
    for (first, last), label in large.items() if not is_byte else ():
        is_in_range = (values == stored) & (stored >= max(first, IGNORE)) & (stored <= last)
        values = np.where(is_in_range & ~absent, label, values)
    if len(others := values[(values < 0) | (values > IGNORE)]):
        raise UnreadableFileError(
            f"labels must be below 255 (255 = ignore), found {others.max():.0f}; number the classes from 0, or, where "
            "these are class × 1000 + object, name their ranges in a class map (`car: 26000-26999`), or, where objects "
            f"are numbered, {OBJECTS_STEP}"
        )
    return values.astype(np.uint8)


def _read_labels(
    path: Path,
    image: ImageFile,
    colours: ColourMap | None,
    note_palette: Callable[[dict[int, Colour]], None],
    note_colours: Callable[[dict[Colour, int]], None],
) -> npt.NDArray[Any]:
    """Return the numbers stored in a mask, (H, W), or the labels of its colours."""
    tile = next(iter(image.tile), None)
    is_deep = is_deep_png(image)  # before its pixels are decoded
    _check_storage(image, tile, is_mapped=colours is not None)
    if image.format in LOSSY_FORMATS:
        return np.asarray(image.convert("L"))
    palette = _list_used_colours(image) if image.mode == "P" else {}
    is_numbered = image.format != "GIF"  # its writer ordered the palette, so that the index has no meaning
    has_bytes = image.mode in ("RGB", "RGBA")
    if colours is not None:
        is_mapped = _is_mapped(palette, colours, is_numbered) if palette else has_bytes
        if is_mapped:
            return translate_colours(read_bytes(image), colours)
    if palette and is_numbered:
        note_palette(palette)
    elif palette or has_bytes:
        counted: Any = image.convert("RGB").getcolors(MAX_COLOURS) or ()
        note_colours({colour: count for count, colour in counted})
    if is_deep:
        return _merge_bands(read_deep_png(path))
    plain: Image.Image = image if is_numbered else image.convert("RGBA")
    if plain.mode not in ("1", "L", "LA", "P", "F", "RGB", "RGBA", *DEEP_GREY):
        raise UnreadableFileError(
            f"masks must hold one whole number per pixel, found Pillow mode {plain.mode}; save it as an 8-bit index PNG"
        )
    return _merge_bands(np.atleast_3d(_read_numbers(plain, tile)), alpha=plain.mode in ("LA", "RGBA"))


def _check_storage(image: Image.Image, tile: Any, *, is_mapped: bool) -> None:
    """Refuse a file that does not hold the colours or numbers of its mask."""
    if image.format in LOSSY_FORMATS:
        is_coloured = (np.ptp(read_bytes(image), axis=2) >= _LEAST_COLOUR).any()
        if is_mapped or is_coloured:
            rule = "masks must be lossless where they are coloured"
            raise UnreadableFileError(f"{rule}, found {image.format}; export it again as PNG")
    most = _find_maximum(image, tile) if image.mode == "RGB" else 0
    if most > 255:  # Pillow keeps only bytes
        raise UnreadableFileError(f"coloured masks must store numbers up to 255, found {most}; save it as PNG")


def _find_maximum(image: Image.Image, tile: Any) -> int:
    """Return the largest number of a PPM or PGM, which Pillow scales; 0 for other files."""
    is_scaled = getattr(tile, "codec_name", "") in ("ppm", "ppm_plain") and image.mode != "1"
    return int(tile.args[1]) if is_scaled else 0


def _read_numbers(image: Image.Image, tile: Any) -> npt.NDArray[Any]:
    """Return the numbers of an image as its file stores them, without the scale that Pillow gives them."""
    mode = image.mode
    values: npt.NDArray[Any] = np.asarray(image)
    if most := _find_maximum(image, tile):  # scaled to 0–255 or 0–65535
        return np.rint(values * (most / (65535 if mode == "I" else 255))).astype(values.dtype)
    raw = _RAW.match(str(getattr(tile, "args", "")))
    if raw is None or mode not in ("1", "L"):
        return values
    bits = int(raw[1] or 8)
    most = 1 if mode == "1" else 2**bits - 1  # few bits are scaled to 0–255, and inverted if 0 is white
    values = values.astype(np.uint8) // (1 if mode == "1" else 255 // most)
    return most - values if raw[2] else values


def _is_palette_inverted(image: Image.Image) -> bool:
    """Return whether a palette shows 0 as white, and 1 or 255 as black."""
    if image.mode != "P" or image.format == "GIF":
        return False
    palette = image.getpalette("RGB") or []
    return palette[:3] == [255] * 3 and [0] * 3 in (palette[3:6], palette[765:])


def _list_used_colours(image: Image.Image) -> dict[int, Colour]:
    """Return number → colour of the numbers that a mask with a palette uses."""
    used: Any = image.getcolors(256)
    palette = [*(image.getpalette("RGB") or []), *[0] * 768]  # Pillow shows numbers beyond a palette in black, too
    return {number: tuple(palette[3 * number : 3 * number + 3]) for _, number in used}


def _is_mapped(palette: dict[int, Colour], colours: ColourMap, is_numbered: bool) -> bool:
    """Return whether the map contains every colour that a palette mask uses; then colours define the classes.

    Raises:
        UnreadableFileError: only a part is in the map, and its labels are not the mask's numbers, which have a meaning.
    """
    missing = [colour for colour in palette.values() if colour not in colours.labels]
    wrong = [colour for number, colour in palette.items() if colours.labels.get(colour, number) != number]
    is_of_both = bool(missing) and bool(wrong)
    if is_numbered and is_of_both:
        raise UnreadableFileError(
            f"all colours of a palette must be in the map of colours, found {missing[0]}, which is not, and "
            f"{wrong[0]}, whose number is not that of the map; add {missing[0]} to the map"
        )
    return not missing


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
