"""LabelMe: one JSON per image with its shapes, and the image next to it or embedded.

Shapes are drawn in the file's order, as by LabelMe's own tools. `__ignore__` is 255, `_background_` is class 0. Classes
come from `classes.txt`, else LabelMe's `labels.txt`, else the labels that occur, sorted.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from sweeper.data.formats.annotation_files import find_image, find_json, number_list
from sweeper.data.formats.base import AnnotationFormat, DataSource, FormatLayout, ReadResult, find_split
from sweeper.data.formats.shapes import KINDS, ImageShapes, Shape, make_shapes_result
from sweeper.data.formats.word_labels import number_words
from sweeper.data.text_tables import SplitAssignment, UnreadableFileError, load_json, normalise_text

IGNORED_LABEL = "__ignore__"
_KEYS = (b"shapes", b"imagePath", b"imageData")


def find_labelme(place: DataSource) -> FormatLayout | None:
    """Find JSON files, if some look like LabelMe's."""
    matching = find_json(place, _KEYS)
    if not matching:
        return None
    every = place.files if place.entry is None else (place.entry,)
    files = [path for path in every if path.suffix.lower() == ".json"]
    line = f"LabelMe's JSON ({place.format_name(matching[0])}, …; {len(files)} JSON files)"
    return FormatLayout(line, partial(_read_labelme, place, files))


def _read_labelme(place: DataSource, files: Sequence[Path]) -> ReadResult:
    """Read every JSON that contains shapes."""
    drawings = []
    occurring: set[str] = set()
    for path in files:
        if (parsed := _parse_file(place, path)) is not None:
            drawing, usable = parsed
            occurring |= {shape.label for shape in drawing.shapes if shape.label is not None}
            drawings += [drawing] if usable else []
    own_list = place.read_lines(place.root / "labels.txt") if place.classes is None else []
    listed = [word for line in own_list if (word := normalise_text(line.strip())) not in ("", IGNORED_LABEL)]
    listed_in = "classes.txt" if place.classes else "labels.txt"
    words = number_words(place, listed or sorted(occurring), occurring, "*.json", listed_in)
    return make_shapes_result(place, drawings, words, "*.json", "in order")


def _parse_file(place: DataSource, path: Path) -> tuple[ImageShapes, bool] | None:
    """Parse a file, and return whether its image exists; None if it is not LabelMe's, or faulty."""
    try:
        data = load_json(path)
    except UnreadableFileError as error:
        place.add_problem(path, error)
        return None
    if not isinstance(data, dict) or "shapes" not in data:
        if place.entry is not None:
            place.add_problem(path, "must be LabelMe's JSON with `shapes`, found another; export it again")
        return None
    if not isinstance(data["shapes"], list):
        place.add_problem(path, f"`shapes` must be a list, found {type(data['shapes']).__name__}; export it again")
        return None
    shapes = []
    for number, entry in enumerate(data["shapes"], 1):
        try:
            shapes.append(parse_shape(number, entry))
        except ValueError as error:
            place.add_problem(path, error)
    written = data.get("imagePath")
    embedded = isinstance(data.get("imageData"), str) and bool(data["imageData"])
    if not isinstance(written, str) and not embedded:
        place.add_problem(path, "must have `imagePath` or `imageData`, found neither; export it again")
        return None
    height, width = data.get("imageHeight"), data.get("imageWidth")
    size = (height, width) if isinstance(height, int) and isinstance(width, int) else None
    name, here = place.format_name(path), path.parent
    near = [here, here.parent / "images", here.parent / "JPEGImages"]
    missing = [] if embedded else place.problems
    image = find_image(place, written if isinstance(written, str) else "", near, name, missing)
    side = SplitAssignment(find_split(path.relative_to(place.root).parts[:-1]))
    if image is not None:
        return ImageShapes(name, image, shapes, size, side), True
    return ImageShapes(name, path, shapes, size, side, partial(_decode_embedded, path)), embedded


def parse_shape(number: int, entry: Any) -> Shape:
    """Parse shape `number` of the file.

    Raises:
        ValueError: with the fault: rule, value found and next step.
    """
    if not isinstance(entry, dict):
        raise ValueError(f"shape {number} must be an object, found {type(entry).__name__}; draw it again")
    label, kind, raw = entry.get("label"), entry.get("shape_type") or "polygon", entry.get("points")
    if not isinstance(label, str) or not label.strip() or not label.isprintable():
        raise ValueError(f"shape {number} must have a printable label, found {str(label)[:80]!r}; draw it again")
    where = f"shape {number} ({label[:40]})"
    if not isinstance(kind, str) or kind not in KINDS:
        step = "convert all of its kind to polygons at once, in the tool that drew them"
        raise ValueError(f"{where} must be one of {', '.join(KINDS)}, found {str(kind)[:40]!r}; {step}")
    pairs = [number_list(pair) for pair in raw] if isinstance(raw, list) else [None]
    numbers = [pair for pair in pairs if pair is not None and len(pair) == 2]
    if len(numbers) != len(pairs):
        raise ValueError(f"{where} must have `points` as pairs of numbers, found something else; draw it again")
    fewest, most = KINDS[kind]
    too_few = len(numbers) < fewest and kind not in ("polygon", "linestrip")  # these cover nothing then
    if too_few or (most is not None and len(numbers) > most):
        wanted = f"{fewest}" if most == fewest else f"at least {fewest}"
        raise ValueError(f"{where} must have {wanted} points as a {kind}, found {len(numbers)}; draw it again")
    try:
        points = np.array(numbers, dtype=np.float64)
        mask = base64.b64decode(entry["mask"]) if kind == "mask" else None
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(
            f"{where} must have finite points and, as a mask, an image ({error}); draw it again"
        ) from error
    if not np.isfinite(points).all():
        raise ValueError(f"{where}: coordinates must be finite, found NaN or infinity; draw it again")
    word = normalise_text(label.strip())
    return Shape(where, None if word == IGNORED_LABEL else word, (points.tobytes(),), kind, mask)


def _decode_embedded(path: Path) -> bytes:
    """Return the image embedded in a JSON."""
    data = load_json(path)
    try:
        return base64.b64decode(data["imageData"])
    except (ValueError, TypeError, KeyError) as error:
        raise UnreadableFileError(
            f"`imageData` must be an image in base64, and is not ({error}); save it again"
        ) from error


FORMAT = AnnotationFormat("LabelMe's JSON files next to (or around) their images", find_labelme)
