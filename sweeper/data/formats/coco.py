"""COCO: one JSON for many images, with objects as polygons or run-length masks.

Crowds of a class that has other objects are painted first, as 255; those of a class that has nothing else, as CVAT's
brush writes them, are objects. Then come objects by area (the file's `area`, else counted), largest first, so that
smaller ones stay visible. Objects with only a box are painted as 255 with the crowds. Class 0 is the background, then
come the categories by id, those of one name joined; `classes.txt` overrides the order.
"""

from __future__ import annotations

import json
import math
import re
import shlex
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from sweeper.core.records import SplitName
from sweeper.core.text import join_words
from sweeper.data.formats.annotation_files import find_image, find_json, number_list
from sweeper.data.formats.base import AnnotationFormat, DataSource, FormatLayout, ReadResult, Size, find_split
from sweeper.data.formats.shapes import ImageShapes, Shape, make_shapes_result, note_boxes
from sweeper.data.formats.word_labels import number_words
from sweeper.data.label_values import abbreviate
from sweeper.data.text_tables import ALL_IMAGES, SplitAssignment, UnreadableFileError, load_json, normalise_text

_KEYS = (b"images", b"annotations", b"categories")
_WHOLE = re.compile(r"\s*(-?(?:0|[1-9][0-9]{0,17}))(?:\.0*)?\s*")
_LARGE = 1e18
"""Limit of coordinates and areas; NaN is not below it either."""


@dataclass
class CocoFile:
    """Content of one JSON file."""

    path: Path
    split: SplitName | None
    images: dict[Any, tuple[str, Size | None]] = field(default_factory=dict)
    """Image id → its file and size, as written in the JSON."""
    categories: dict[int, str] = field(default_factory=dict)
    supers: set[str] = field(default_factory=set)
    objects: dict[Any, list[tuple[int, Shape]]] = field(default_factory=lambda: defaultdict(list))
    """Image id → its objects: category and shape, whose label is not known yet."""
    respelled: dict[str, Any] = field(default_factory=dict)
    """Field → an id that is read as a whole number, but is written otherwise."""


def find_coco(place: DataSource) -> FormatLayout | None:
    """Find JSON files that look like COCO's; if some are named instances_*, only these."""
    coco_files = find_json(place, _KEYS)
    files = [path for path in coco_files if path.name.startswith("instances_")] or coco_files
    line = f"COCO's JSON ({', '.join(place.format_name(path) for path in files[:3])})"
    return FormatLayout(line, partial(_read_coco, place, files)) if files else None


def _read_coco(place: DataSource, paths: Sequence[Path]) -> ReadResult:
    """Read every JSON that looks like COCO's, or the one requested."""
    files = [_parse_file(place, path) for path in paths]
    where = place.format_name(files[0].path)
    used = {file.categories[category] for file in files for category in _read_categories(file) & file.categories.keys()}
    # A category that is only a supercategory of others, as some exporters write it, is no class.
    ordered = [
        word for file in files for _, word in sorted(file.categories.items()) if word in used or word not in file.supers
    ]
    words = number_words(place, ordered, used, "*.json")
    crowded = _find_crowded(place, files, where)
    drawings = []
    for file, key, path in _locate_images(place, files):
        written, size = file.images[key]
        shapes = [
            _name_class(shape, file.categories.get(category), crowded) for category, shape in file.objects.get(key, ())
        ]
        source = f"{place.format_name(file.path)} ({written[:200]})"
        drawings.append(ImageShapes(source, path, shapes, size, SplitAssignment(file.split)))
    return make_shapes_result(place, drawings, words, where, "areas")


def _find_crowded(place: DataSource, files: Sequence[CocoFile], where: str) -> set[str]:
    """Return the classes whose crowds are regions of many objects, as they have other objects, too; note both kinds."""
    kinds: dict[str, Counter[bool]] = defaultdict(Counter)
    for file in files:
        for category, shape in (pair for objects in file.objects.values() for pair in objects):
            if shape.kind != "box":
                kinds[file.categories.get(category, "")][shape.behind] += 1
    crowded = {name: of_class[True] for name, of_class in kinds.items() if of_class[True]}
    mixed = {name for name in crowded if kinds[name][False]}
    if mixed:
        total = sum(kinds[name].total() for name in mixed)
        paths = shlex.join(str(file.path) for file in files)
        place.notes.append(
            f"{where}: {sum(crowded[name] for name in mixed)} of {total} objects of {abbreviate(sorted(mixed))} are "
            "crowds (iscrowd 1), whose pixels are ignored; where they are objects, "
            f"`sed -i.bak -E 's/(\"iscrowd\": *)1/\\10/g' {paths}` makes them count."
        )
    if crowded.keys() - mixed:
        place.notes.append(
            f"{where}: all objects of {abbreviate(sorted(crowded.keys() - mixed))} are crowds (iscrowd 1), as CVAT's "
            "brush writes them; they are read as objects."
        )
    return mixed


def _name_class(shape: Shape, name: str | None, crowded: set[str]) -> Shape:
    """Return a shape with its class; crowds, and boxes without a segmentation, are ignored."""
    is_ignored = shape.behind and (shape.kind == "box" or name in crowded)
    return shape._replace(label=None) if is_ignored else shape._replace(label=name, behind=False)


def _read_categories(file: CocoFile) -> set[int]:
    return {category for objects in file.objects.values() for category, _ in objects}


def _locate_images(place: DataSource, files: list[CocoFile]) -> Iterator[tuple[CocoFile, Any, Path]]:
    """Yield each image that has a file, with its JSON and its id."""
    for file in files:
        here = file.path.parent
        beside = [here, here.parent, here / "images", here.parent / "images", place.root, place.root / "images"]
        split = file.path.stem.rsplit("_", 1)[-1]  # instances_train2017.json is about train2017
        named = [here.parent / split, here.parent / split / "images", here.parent / "images" / split]
        near = list(dict.fromkeys([*beside, *named]))
        for key, (written, _) in file.images.items():
            path = find_image(place, written, near, place.format_name(file.path))
            if path is not None:
                yield file, key, path


def _parse_file(place: DataSource, path: Path) -> CocoFile:
    """Parse images, categories and objects of a file; faults become problems."""
    name = place.format_name(path)
    split = find_split([*path.relative_to(place.root).parts[:-1], *path.stem.replace("-", "_").split("_")])
    split = split or find_split([path.stem.rstrip("0123456789").rsplit("_", 1)[-1]])
    file = CocoFile(path, split)
    faulty = set()
    for key, number, entry in _list_entries(place, path):
        if key == "annotations" and isinstance(entry, dict) and "segments_info" in entry:
            rule = "annotations must have polygons or run-length masks, found COCO's panoptic ones"
            step = "write PNGs into masks/ (docs/formats.md#panoptic-masks has the lines that do)"
            step += ", or read masks of classes that are there, too, with --format pairs"
            place.add_problem(path, f"{rule}; {step}")
            return file
        try:
            _keep_entry(key, entry, file)
        except ValueError as error:
            faulty.add(key)
            place.add_problem(path, f"{key}[{number}] {error}; export it again")
    shapes = [(key, *pair) for key, objects in file.objects.items() for pair in objects]
    lost = [key for key, _, _ in shapes if key not in file.images]
    if lost and "images" not in faulty:  # else these are the cause
        images_text = f"`images` has {abbreviate([_format_typed(key) for key in file.images], 2) or 'none'}"
        lost_text = abbreviate([_format_typed(key) for key in dict.fromkeys(lost)], 2)
        place.add_problem(
            path,
            f"annotations must be of one of the images, found {len(lost)} with an unknown image_id ({lost_text}; "
            f"{images_text}); export them together",
        )
    unknown = Counter(category for _, category, _ in shapes if category not in file.categories)
    if unknown and "categories" not in faulty:
        unknown_text = abbreviate([f"{category} ({number} times)" for category, number in unknown.most_common()])
        place.add_problem(
            path,
            f"annotations must be of one of the {len(file.categories)} categories, found category_id {unknown_text}; "
            "add it to `categories`",
        )
    note_boxes(place, name, [shape for _, _, shape in shapes])
    if file.respelled and not faulty and not lost and not unknown:
        examples = join_words([f"{key} {_format_typed(value)}" for key, value in sorted(file.respelled.items())])
        place.notes.append(f"{name}: some ids are not written as whole numbers ({examples}); they are read as such.")
    return file


def _format_typed(value: Any) -> str:
    """Format an id as in JSON, with its type."""
    kind = "text" if isinstance(value, str) else "number" if type(value) in (int, float) else "neither number nor text"
    return f"{json.dumps(value)[:60]} ({kind})"


def _read_id(entry: dict[str, Any], key: str, *, text: bool = False) -> int | str:
    """Read an id: a whole number in any notation (3, 3.0, "3"), else its text if `text` is allowed.

    Raises:
        ValueError: it is neither.
    """
    value = entry.get(key)
    if type(value) is int:
        return value
    if isinstance(value, float | str) and (match := _WHOLE.fullmatch(str(value))):
        return int(match[1])
    if text and isinstance(value, str):
        return value
    raise ValueError(f"must have a whole number as {key}, found {_format_typed(value)}")


def _list_entries(place: DataSource, path: Path) -> Iterator[tuple[str, int, Any]]:
    """Yield the list, index and value of each entry in the three lists; other content is a problem."""
    try:
        data = load_json(path, ALL_IMAGES)
    except UnreadableFileError as error:
        place.add_problem(path, error)
        return
    for key in ("images", "annotations", "categories"):
        listed = data.get(key, []) if isinstance(data, dict) else None
        if not isinstance(listed, list):
            place.add_problem(path, f"{key!r} must be a list, found something else; is it COCO?")
            return
        yield from ((key, number, entry) for number, entry in enumerate(listed))


def _keep_entry(key: str, entry: Any, file: CocoFile) -> None:
    """Add an entry to `file`.

    Raises:
        ValueError: with the fault: rule and value found.
    """
    if not isinstance(entry, dict):
        raise ValueError(f"must be an object, found {type(entry).__name__}")
    where = "image_id" if key == "annotations" else "id"
    number = _read_id(entry, where, text=key != "categories")
    if number is not entry[where]:
        file.respelled.setdefault(f"{where} in {key}", entry[where])
    if key == "annotations":
        category, shape = parse_object(entry)
        file.objects[number].append((category, shape))
        if category is not entry["category_id"]:
            file.respelled.setdefault(f"category_id in {key}", entry["category_id"])
        return
    name = entry.get("file_name" if key == "images" else "name")
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"must have a {'file_name' if key == 'images' else 'name'}, found {str(name)[:60]!r}")
    if number in (file.images if key == "images" else file.categories):
        raise ValueError(f"must have an id of its own, whatever its type, found {_format_typed(entry['id'])} again")
    if key == "images":
        height, width = entry.get("height"), entry.get("width")
        both = isinstance(height, int) and isinstance(width, int)
        file.images[number] = name, (height, width) if both else None  # type: ignore[assignment]
        return
    if not name.isprintable():
        raise ValueError(f"must have a printable name, found {str(name)[:60]!r}")
    file.categories[int(number)] = normalise_text(name.strip())
    if isinstance(over := entry.get("supercategory"), str):
        file.supers.add(normalise_text(over.strip()))


def parse_object(entry: dict[str, Any]) -> tuple[int, Shape]:
    """Parse an annotation's category and shape.

    Raises:
        ValueError: with the fault.
    """
    where, category = f"annotation {str(entry.get('id'))[:40]}", int(_read_id(entry, "category_id"))
    size = entry.get("area")
    written = float(size) if isinstance(size, int | float) and 0 < size < _LARGE else None
    crowd, what = entry.get("iscrowd") in (1, "1"), entry.get("segmentation")
    if isinstance(what, dict):
        return category, Shape(where, None, mask=what, behind=crowd, area=written)
    if what:
        rings = [number_list(ring) for ring in what] if isinstance(what, list) else [None]
        if any(ring is None or len(ring) % 2 for ring in rings):
            raise ValueError("must have as segmentation lists of x, y, x, y … or an RLE, found something else")
        try:
            finite = all(all(map(math.isfinite, ring)) for ring in rings if ring is not None)
            packed = tuple(array("d", ring).tobytes() for ring in rings if ring is not None)
        except OverflowError as error:
            raise ValueError("coordinates must be finite, found a number without end") from error
        if not finite:
            raise ValueError("coordinates must be finite, found NaN or infinity")
        return category, Shape(where, None, packed, behind=crowd, area=written)
    box = number_list(entry.get("bbox"))
    if box is None or len(box) != 4 or not all(abs(value) < _LARGE for value in box):
        raise ValueError("must have a segmentation (or a bbox of four numbers), found neither")
    left, top, width, height = box
    right, bottom = left + width, top + height
    corners = array("d", [left, top, right, top, right, bottom, left, bottom])
    return category, Shape(where, None, (corners.tobytes(),), "box", behind=True, area=written)


FORMAT = AnnotationFormat("a COCO JSON (images, annotations, categories) and its images", find_coco)
