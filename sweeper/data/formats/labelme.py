"""LabelMe: one JSON per image with its shapes, and the image next to it or embedded.

Shapes are drawn in the file's order, as by LabelMe's own tools. `__ignore__` is 255, `_background_` is class 0. Classes
come from `classes.txt`, else LabelMe's `labels.txt`, else the labels that occur, sorted.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, BeforeValidator, model_validator

from sweeper.data.formats.annotation_files import (
    ClassName,
    Number,
    explain_fault,
    find_image,
    find_json,
    make_size,
    number_words,
)
from sweeper.data.formats.base import AnnotationFormat, DataSource, FormatLayout, ReadResult, find_split
from sweeper.data.formats.shapes import KINDS, ImageShapes, Shape, draw_outlines, make_shapes_result
from sweeper.data.text_tables import SplitAssignment, UnreadableFileError, load_json, normalise_text

IGNORED_LABEL = "__ignore__"
_KEYS = (b"shapes", b"imagePath", b"imageData")


def find_labelme(place: DataSource) -> FormatLayout | None:
    """Find JSON files, if some look like LabelMe's."""
    matching = find_json(place, _KEYS)
    if not matching:
        return None
    files = place.list_candidates(".json")
    line = f"LabelMe's JSON ({place.format_name(matching[0])}, …; {len(files)} JSON files)"
    return FormatLayout(line, partial(_read_labelme, place, files))


def _read_labelme(place: DataSource, files: Sequence[Path]) -> ReadResult:
    """Read every JSON that contains shapes."""
    parsed = [_parse_file(place, path) for path in files]
    drawings = [drawing for drawing in parsed if drawing is not None]
    occurring = {shape.label for drawing in drawings for shape in drawing.shapes if shape.label is not None}
    own_list = place.read_lines(place.root / "labels.txt") if place.classes is None else []
    own_words = [normalise_text(line.strip()) for line in own_list]
    listed = [word for word in own_words if word not in ("", IGNORED_LABEL)]
    listed_in = "classes.txt" if place.classes else "labels.txt"
    words = number_words(place, listed or sorted(occurring), occurring, "*.json", listed_in)
    return make_shapes_result(place, drawings, words, "*.json", draw_outlines)


class LabelmeFile(BaseModel):
    """Content of a JSON, whose shapes are not checked yet."""

    shapes: list[Any]
    imagePath: str | None = None  # noqa: N815 (LabelMe's name)
    imageData: str | None = None  # noqa: N815
    imageHeight: Any = None  # noqa: N815
    imageWidth: Any = None  # noqa: N815


class LabelmeShape(BaseModel):
    """A shape of a JSON."""

    label: ClassName
    shape_type: Annotated[str, BeforeValidator(lambda kind: kind or "polygon")] = "polygon"
    points: list[tuple[Number, Number]]
    mask: Any = None

    @model_validator(mode="after")
    def check_points(self) -> LabelmeShape:
        """Refuse unknown kinds, and numbers of points that a kind cannot have; lines and polygons may be too short."""
        kind = self.shape_type
        if kind not in KINDS:
            step = "convert all of its kind to polygons at once, in the tool that drew them"
            raise ValueError(f"must be one of {', '.join(KINDS)}, found {kind[:40]!r}; {step}")
        fewest, most = KINDS[kind]
        fewest = 0 if kind in ("polygon", "linestrip") else fewest
        if not fewest <= len(self.points) <= (most or len(self.points)):
            wanted = f"{fewest}" if most == fewest else f"at least {fewest}"
            raise ValueError(f"must have {wanted} points as a {kind}, found {len(self.points)}; draw it again")
        return self


def _parse_file(place: DataSource, path: Path) -> ImageShapes | None:
    """Parse a file; None if it is not LabelMe's, or, with a problem, if it is faulty or its image is missing."""
    try:
        data = load_json(path)
        keys = data if isinstance(data, dict) else ()
        if place.entry is None and "shapes" not in keys:
            return None
        file = LabelmeFile.model_validate(data)
    except (UnreadableFileError, ValueError) as error:
        place.add_problem(path, explain_fault(error))
        return None
    shapes = []
    for number, entry in enumerate(file.shapes, 1):
        try:
            shapes.append(parse_shape(number, entry))
        except ValueError as error:
            place.add_problem(path, f"shape {number} {explain_fault(error)}")
    name, here, is_embedded = place.format_name(path), path.parent, bool(file.imageData)
    near = [here, here.parent / "images", here.parent / "JPEGImages"]
    problems = [] if is_embedded else place.problems
    image = find_image(place, file.imagePath or "", near, name, problems)
    size = make_size(file.imageHeight, file.imageWidth)
    side = SplitAssignment(find_split(path.relative_to(place.root).parts[:-1]))
    if image is not None:
        return ImageShapes(name, image, shapes, size, side)
    return ImageShapes(name, path, shapes, size, side, partial(_decode_embedded, path)) if is_embedded else None


def parse_shape(number: int, entry: Any) -> Shape:
    """Parse shape `number` of the file.

    Raises:
        ValueError: with the fault.
    """
    shape = LabelmeShape.model_validate(entry)
    points = np.array(shape.points, dtype=np.float64)
    mask = base64.b64decode(f"{shape.mask}") if shape.shape_type == "mask" else None
    label = None if shape.label == IGNORED_LABEL else shape.label
    return Shape(f"shape {number} ({shape.label[:40]})", label, (points.tobytes(),), shape.shape_type, mask)


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
