"""Draw shapes as masks, for all formats with shapes: classes, order, holes, and shapes outside the image.

A format's module returns one `ImageShapes` for each image; `make_shapes_result` does the rest. Coordinates are (x, y)
in pixels of the upright image. `draw_outlines` draws like LabelMe's own tools and Ultralytics (Pillow, outlines
included). `draw_areas` draws like COCO's (pycocotools, with the checks that its C code lacks), but with a ring inside
another as a hole.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw
from pycocotools import mask as coco

from sweeper.core.label_planes import LabelMap
from sweeper.core.records import IGNORE
from sweeper.core.text import abbreviate
from sweeper.data.formats.annotation_files import ClassNames
from sweeper.data.formats.base import DataSource, ReadResult, Sample, Size, drop_repeated, make_unique_stems
from sweeper.data.open_image import Source
from sweeper.data.store import Pixels
from sweeper.data.text_tables import SplitAssignment, UnreadableFileError

LINE_WIDTH = 10
"""Pixels, as in LabelMe."""
POINT_RADIUS = 5
"""Pixels, as in LabelMe."""
MAX_SIDES_AWAY = 10
"""Limit of coordinates in multiples of the image's larger side; beyond it they belong to another image."""
KINDS: dict[str, tuple[int, int | None]] = {
    "polygon": (3, None),
    "oriented_rectangle": (4, 4),
    "rotation": (4, 4),
    "quadrilateral": (4, 4),
    "rectangle": (2, 4),
    "circle": (2, 2),
    "line": (2, 2),
    "linestrip": (2, None),
    "point": (1, 1),
    "points": (1, None),
    "mask": (2, 2),
}
"""Kind of shape → fewest and most points."""

Points = npt.NDArray[np.float64]
Bits = npt.NDArray[np.bool_]
Rle = dict[str, Any]
"""{"size": [height, width], "counts": bytes}: compact, unlike the pixels of a thousand objects."""
_NESTED = 0.99
"""Share of a ring's pixels that must already be covered to make it a hole."""


class Shape(NamedTuple):
    """One labelled shape, stored compactly: there may be a million."""

    where: str
    """Its name in messages: `annotation 17`."""
    label: str | None
    """Name of its class; None = its pixels are ignored."""
    rings: tuple[bytes, ...] = ()
    """float64 x, y, x, y …; several are one object with holes."""
    kind: str = "polygon"
    mask: Any = None
    """COCO's run-length mask; for the kind `mask` a PNG, not 0 inside the shape, with its top left corner at the first
    point."""
    behind: bool = False
    """Whether it is drawn before all others."""
    area: float | None = None
    """Area as written in the file."""


class ImageShapes(NamedTuple):
    """The shapes of one image."""

    source: str
    """Annotation file, for messages."""
    path: Path
    """The image, or the file that embeds it."""
    shapes: Sequence[Shape]
    size: Size | None = None
    """Size of the image, as written in the file."""
    side: SplitAssignment = SplitAssignment()
    inside: Source | None = None
    """The image if it is embedded in `path`."""
    shares: bool = False
    """Whether coordinates are fractions of the image's width and height."""


def note_boxes(place: DataSource, where: str, shapes: Sequence[Shape]) -> None:
    """Note how many shapes are boxes, whose pixels are ignored; a problem if all are."""
    boxes = sum(shape.kind == "box" for shape in shapes)
    if 0 < boxes == len(shapes):
        place.problems.append(
            f"{where}: objects must have outlines, found only boxes ({boxes} of {boxes}): these are annotations for "
            "detection; draw polygons or masks, or make masks of the boxes with a tool"
        )
    elif boxes:
        place.notes.append(
            f"{where}: {boxes} of {len(shapes)} objects have a box and no segmentation; what they cover is ignored."
        )


def make_shapes_result(
    place: DataSource, drawings: Sequence[ImageShapes], words: ClassNames, where: str, draw: Draw
) -> ReadResult:
    """Return the samples of drawings, and the classes of their labels; `where`: the files, for messages about all."""
    stems = make_unique_stems(place, [drawing.path for drawing in drawings])
    rings = [ring for drawing in drawings if not drawing.shares for shape in drawing.shapes for ring in shape.rings]
    if rings and all(0 <= value <= 1 for ring in rings for value in np.frombuffer(ring)):
        place.problems.append(
            f"{where}: coordinates must be in pixels, found only numbers from 0 to 1: if they are fractions of the "
            "image's size, multiply x by its width and y by its height"
        )
    samples = [
        Sample(
            stem,
            drawing.source + " (imageData)" if drawing.inside else place.format_name(drawing.path),
            (drawing.inside or drawing.path,),
            partial(_draw_mask, place, drawing, words, draw),
            drawing.source,
            drawing.side,
            drawing.size is not None,
        )
        for drawing, stem in zip(drawings, stems, strict=True)
    ]
    used = {drawing.path for drawing in drawings if drawing.inside is None}
    folders = {path.parent for path in used}
    others = {path for path in place.images if path.parent in folders} - used
    place.tally.add("image", "without an annotation, passed over", *map(place.format_name, others))
    return ReadResult(drop_repeated(place, samples), words.names, indices=True, place=where)


class DrawableShape(NamedTuple):
    """A shape ready to be drawn."""

    label: int
    shape: Shape
    rings: list[Points]
    """(n, 2) each, x and y."""


Draw = Callable[[Sequence[DrawableShape], Size, int], Pixels]
"""Draws shapes on a background, later ones over earlier ones."""


def _draw_mask(
    place: DataSource, drawing: ImageShapes, words: ClassNames, draw: Draw, size: Size | None
) -> LabelMap | None:
    """Return the labels of one image, (H, W)."""
    if size is None:
        return None
    written = drawing.size or size
    if written not in (size, size[::-1]):  # perhaps drawn before the image was turned upright: the caller handles it
        (height, width), (written_height, written_width) = size, written
        raise UnreadableFileError(
            f"width and height must be its image's {width}×{height} (upright), found "
            f"{written_width}×{written_height}; is it another image? Else annotate the image as it is now"
        )
    ready: list[DrawableShape] = []
    faults = []
    for shape in drawing.shapes:
        rings = _list_rings(place, drawing, shape, written)
        fault = next(filter(None, (find_point_fault(ring, written) for ring in rings)), None)
        if fault is not None:
            faults.append(f"{shape.where} {fault}")
        elif rings or shape.mask is not None:
            label = IGNORE if shape.label is None else words.numbers.get(shape.label, IGNORE)
            ready.append(DrawableShape(label, shape, rings))
    if not faults:
        try:
            flat = draw(ready, written, words.background)
            found = sorted({one.label for one in ready} - {IGNORE, words.background})
            each = [[one for one in ready if one.label == label] for label in found]
            masks = (
                [draw(shapes, written, words.background) for shapes in each] if len(found) > 1 else [flat] * len(found)
            )
            parts = {label: mask == label for label, mask in zip(found, masks, strict=True)}
            return place.join_classes(parts, flat)
        except ValueError as error:
            faults.append(str(error))
    raise UnreadableFileError(f"{abbreviate(faults)}; correct them, or remove them")


def _list_rings(place: DataSource, drawing: ImageShapes, shape: Shape, size: Size) -> list[Points]:
    """Return the points of a shape in pixels, (n, 2) for each ring; rings with too few points are left out."""
    rings = [np.frombuffer(ring, dtype=np.float64).reshape(-1, 2) for ring in shape.rings]
    fewest, _ = KINDS.get(shape.kind, (4, 4))  # other kinds are boxes
    usable = [ring for ring in rings if len(ring) >= fewest]
    name = place.format_name(drawing.path)
    if len(usable) < len(rings):
        place.tally.add("image", f"with a {shape.kind} of fewer than {fewest} points, which covers nothing", name)
    if drawing.shares:
        # The text has fewer digits than a float: without rounding, a corner at 21 may be drawn from 20.9999.
        usable = [(ring * (size[1], size[0])).round(2) for ring in usable]
    if any(ring.min() < -1 or (ring > np.add(size[::-1], 1)).any() for ring in usable):  # by more than one pixel
        place.tally.add("image", "with shapes that reach out of the image, cut off at its edge", name)
    return usable


def find_point_fault(points: Points, size: Size) -> str | None:
    """Return why points cannot be in an image of this (height, width): rule and value found; else None."""
    low, high = points.min(axis=0), points.max(axis=0)
    is_near = np.abs(points).max() <= MAX_SIDES_AWAY * max(size)  # not of NaN
    is_inside = (low <= size[::-1]).all() and (high >= 0).all()
    if is_near and is_inside:
        return None
    (left, top), (right, bottom) = low, high
    found = f"x {left:.6g} to {right:.6g}, y {top:.6g} to {bottom:.6g}"
    return f"must be in the image of {size[1]}×{size[0]}, found {found}"


def draw_areas(ready: Sequence[DrawableShape], size: Size, background: int) -> Pixels:
    """Draw labels (H, W) uint8 as COCO's tools do: crowds and boxes first, then from large to small areas.

    Raises:
        ValueError: a run-length mask is invalid, or not of an image of this size.
    """
    rles = []
    for one in ready:
        try:
            written = one.shape.mask
            rle = encode_polygons(one.rings, size) if written is None else check_rle(written, size)
        except ValueError as error:
            raise ValueError(f"{one.shape.where}: an RLE {error}") from error
        rles.append((one, rle))
    all_written = all(one.shape.area is not None for one, _ in rles)

    def place_in_order(pair: tuple[DrawableShape, Rle]) -> tuple[bool, float]:
        one, rle = pair
        written = one.shape.area if all_written else None
        return not one.shape.behind, -(written or int(coco.area(rle)))

    mask = np.full(size, background, dtype=np.uint8)
    for one, rle in sorted(rles, key=place_in_order):
        mask[decode_pixels(rle)] = one.label
    return mask


def draw_outlines(ready: Sequence[DrawableShape], size: Size, background: int, *, large_first: bool = False) -> Pixels:
    """Draw labels (H, W) uint8 as LabelMe's tools do, one ring each, in order or large ones first.

    Raises:
        ValueError: the image of a `mask` is unreadable, or does not have the size given by its corners.
    """
    height, width = size
    canvas = Image.new("L", (width, height), background)
    pen = ImageDraw.Draw(canvas)
    order = sorted(ready, key=lambda one: -_compute_area(one.rings[0])) if large_first else ready
    for label, shape, (points, *_) in sorted(order, key=lambda one: not one.shape.behind):
        flat: list[tuple[float, float]] = [(float(x), float(y)) for x, y in points]
        if shape.kind == "box":
            left, top, right, bottom = (round(v) for v in (*points.min(axis=0), *points.max(axis=0)))
            canvas.paste(label, (left, top, right, bottom))
        elif shape.kind == "mask":
            _paste_shape(canvas, label, points, shape.mask)
        elif shape.kind == "rectangle":
            (left, top), (right, bottom) = points.min(axis=0), points.max(axis=0)
            pen.rectangle([left, top, right, bottom], fill=label, outline=label)
        elif shape.kind == "circle":
            (x, y), (rim_x, rim_y) = flat
            pen.circle((x, y), float(np.hypot(x - rim_x, y - rim_y)), fill=label, outline=label)
        elif shape.kind in ("line", "linestrip"):
            pen.line(flat, fill=label, width=LINE_WIDTH)
        elif shape.kind in ("point", "points"):
            for point in flat:
                pen.circle(point, POINT_RADIUS, fill=label, outline=label)
        else:
            pen.polygon(flat, fill=label, outline=label)
    return np.array(canvas)


def _compute_area(points: Points) -> float:
    """Compute the area of a polygon by the shoelace formula, in square pixels."""
    x, y = points[:, 0], points[:, 1]
    return 0.5 * abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1)))


def _paste_shape(canvas: Image.Image, label: int, corners: Points, mask: bytes) -> None:
    (left, top), (right, bottom) = corners.astype(np.int64)
    wanted = (int(right - left) + 1, int(bottom - top) + 1)
    rule = f"a mask among the shapes: its image must have the size of its corners {wanted[0]}×{wanted[1]}"
    try:
        with Image.open(io.BytesIO(mask), formats=("PNG",)) as image:
            if image.size != wanted:
                raise ValueError(f"{rule}, found {image.width}×{image.height}")
            stencil = image.convert("L").point([0] + [255] * 255)
    except Image.DecompressionBombError as error:
        raise ValueError(f"{rule}, found a far larger one") from error
    except (OSError, SyntaxError) as error:
        raise ValueError(
            f"a mask among the shapes: its image must be a PNG, and cannot be decoded ({error})"
        ) from error
    canvas.paste(label, (int(left), int(top)), stencil)


def decode_pixels(rle: Rle) -> Bits:
    """Decode a mask to (H, W)."""
    bits: Bits = coco.decode(rle).astype(bool)
    return bits


def encode_polygons(rings: Sequence[npt.NDArray[np.float64]], size: tuple[int, int]) -> Rle:
    """Encode the mask of one object made of rings, (n, 2) each.

    COCO itself unites all rings. Here a ring inside another is a hole, and a ring inside a hole an island. Rings that
    only touch or overlap are united.
    """
    parts: list[Rle] = coco.frPyObjects([ring.ravel().tolist() for ring in rings], *size)
    if len(parts) == 1:
        return parts[0]
    covered = np.zeros(size, dtype=bool)
    earlier: list[int] = []
    for rle in sorted(parts, key=lambda each: -int(coco.area(each))):
        part, part_area = decode_pixels(rle), int(coco.area(rle))
        repeated = any(abs(part_area - other) <= 0.01 * other for other in earlier)  # a repeated ring is no hole
        earlier.append(part_area)
        is_new = bool(part_area) and not repeated
        if is_new and int((part & covered).sum()) >= _NESTED * part_area:
            covered &= ~part
        else:
            covered |= part
    whole: Rle = coco.encode(np.asfortranarray(covered, dtype=np.uint8))
    return whole


def check_rle(rle: Any, size: tuple[int, int]) -> Rle:
    """Check and convert a run-length mask from a file: compressed (text) or not (a list of runs, column by column).

    Raises:
        ValueError: it is invalid, or not of an image of this (height, width).
    """
    written = rle if isinstance(rle, dict) else {}
    counts = written.get("counts")
    runs = _read_run_text(counts) if isinstance(counts, str) else counts
    if not isinstance(runs, list) or not all(type(run) is int and 0 <= run < 1 << 31 for run in runs):
        runs = []
    if written.get("size") != [*size] or sum(runs) != size[0] * size[1]:
        raise ValueError(
            f"must have its image's size {[*size]}, and as counts runs ≥ 0 that fill it, or COCO's text of them, found "
            f"size {str(written.get('size'))[:60]} and {sum(runs)} pixels"
        )
    checked: Rle = coco.frPyObjects({"size": [*size], "counts": runs}, *size)
    return checked


def _read_run_text(counts: str) -> list[int]:
    """Return the runs of COCO's compressed text; none of an invalid text.

    A character has five bits of a run, the lowest first, and a sixth that marks that more follow; the last bit of a run
    is its sign. From the fourth run on, the text stores the difference from the run before the last.

    pycocotools reads past the end of a truncated text, and leaves pixels that a short one does not cover undefined.
    """
    runs: list[int] = []
    value = bits = 0
    for digit in (code - 48 for code in counts.encode("utf-8")):
        value |= (digit & 0x1F) << bits
        bits += 5
        if not 0 <= digit < 64 or bits > 35:
            return []
        if not digit & 0x20:
            sign = (digit & 0x10) >> 4
            runs.append(value - (sign << bits) + (runs[-2] if len(runs) > 2 else 0))
            value = bits = 0
    return [] if bits else runs
