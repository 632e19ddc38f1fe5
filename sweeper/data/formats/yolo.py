"""YOLO-seg: `data.yaml`, images in folders or lists, and one text file of normalised polygons for each image.

A line is `class x1 y1 x2 y2 …`. Class 0 of the set is the background, then come the names of `data.yaml` in order.
Large objects are drawn first, as in Ultralytics. An image without a text file is all background.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Annotated, Any

import numpy as np
from pydantic import BaseModel, BeforeValidator

from sweeper.core.records import SplitName
from sweeper.core.text import abbreviate, format_count
from sweeper.core.yaml_file import MAX_BYTES, parse_yaml
from sweeper.data.formats.annotation_files import explain_fault, find_image, number_words
from sweeper.data.formats.base import AnnotationFormat, DataSource, FormatLayout, ReadResult
from sweeper.data.formats.shapes import ImageShapes, Shape, draw_outlines, make_shapes_result, note_boxes
from sweeper.data.text_tables import MAX_CLASSES, SplitAssignment, check_numbered_names, read_beginning, read_text

_KEYS: dict[str, SplitName] = {"train": "train", "val": "val", "valid": "val", "test": "test"}
_NAMES = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
_BEYOND = 2
"""Largest valid coordinate; larger ones are no fractions of the image's size, those above 1 are cut off at its edge."""


def _list_entries(value: Any) -> Any:
    return value if isinstance(value, list) else [value] * (value is not None)


_Entries = Annotated[list[str], BeforeValidator(_list_entries)]


class YoloData(BaseModel):
    """Content of data.yaml: names, or names of numbers, and folders or lists of images."""

    names: dict[Any, Any] | list[Any]
    path: Any = None
    train: _Entries = []
    val: _Entries = []
    valid: _Entries = []
    test: _Entries = []
    kpt_shape: Any = None


def find_yolo(place: DataSource) -> FormatLayout | None:
    """Find a data.yaml with names and a split."""
    found = [place.find_file(place.root / name) for name in _NAMES]
    usual = [path for path in found if path is not None]
    for path in place.list_candidates(".yaml", ".yml") if place.entry else usual:
        head = read_beginning(path, MAX_BYTES)
        has_keys = b"names" in head and any(key.encode() + b":" in head for key in _KEYS)
        if place.entry or has_keys:
            return FormatLayout(f"YOLO's {place.format_name(path)}", partial(_read_yolo, place, path))
    return None


def _read_yolo(place: DataSource, path: Path) -> ReadResult:
    """Read data.yaml and the text files."""
    faults: list[str] = []
    nothing = ReadResult([], indices=True, place=place.format_name(path))
    text = read_text(path, place.problems, place.format_name(path), MAX_BYTES)
    if text is None:
        return nothing
    content, data = parse_yaml(text, faults), YoloData(names=[])
    try:
        data = YoloData.model_validate(content)
    except ValueError as error:
        faults = faults or [explain_fault(error)]
    if data.kpt_shape is not None:
        faults.append("`kpt_shape` says that lines hold key points, which are no outlines; export it as YOLO-seg")
    for fault in faults:
        place.add_problem(path, fault)
    if faults:
        return nothing
    pairs = data.names.items() if isinstance(data.names, dict) else enumerate(data.names)
    names = check_numbered_names(f"{place.format_name(path)}: names", pairs, place.problems, MAX_CLASSES - 1)
    if names is None:
        return nothing
    words = number_words(place, names, names, place.format_name(path))
    splits: dict[Path, SplitName] = {}
    repeated: dict[tuple[SplitName, SplitName], list[str]] = {}
    for key, split in _KEYS.items():
        for image in _list_images(place, path, str(data.path or ""), key, getattr(data, key)):
            if (first := splits.setdefault(image, split)) != split:
                repeated.setdefault((first, split), []).append(place.format_name(image))
    for (first, second), images in repeated.items():
        rule = f"an image must be on one side of the split, found {format_count(len(images), 'image')} in {first} and "
        step = f"give {second} images of its own, or remove it, and sweeper divides the rest"
        place.add_problem(path, f"{rule}{second} ({abbreviate(images, 3)}); {step}")
    drawings = []
    for image, side in splits.items():
        labels = _find_label_file(place, image)
        if labels is None:
            place.tally.add("image", "without a text file of labels, taken as background", place.format_name(image))
        shapes = [] if labels is None else _read_polygons(place, labels, names)
        drawings.append(
            ImageShapes(place.format_name(labels or image), image, shapes, None, SplitAssignment(side), shares=True)
        )
    note_boxes(place, place.format_name(path), [shape for drawing in drawings for shape in drawing.shapes])
    draw = partial(draw_outlines, large_first=True)
    return make_shapes_result(place, drawings, words, place.format_name(path), draw)


def _list_images(place: DataSource, path: Path, base: str, key: str, entries: Sequence[str]) -> Iterator[Path]:
    """Yield the images of one key, whose entries are folders, or lists of images relative to them or to the root."""
    for entry in entries:
        target = _resolve_target(place, [path.parent / base, path.parent], entry)
        if target is None:
            place.add_problem(path, f"{key}: must be a folder or list in here, found {entry[:200]}; copy it")
        elif target.is_dir():
            yield from (file for file in place.images if file.is_relative_to(target))
        else:
            for number, line in enumerate(place.read_lines(target), 1):
                at, near = f"{place.format_name(target)}: line {number}", (target.parent, place.root)
                image = find_image(place, line.strip(), near, at, place.problems) if line.strip() else None
                if image is not None:
                    yield image


def _resolve_target(place: DataSource, folders: Sequence[Path], entry: str) -> Path | None:
    """Return the target of an entry in data.yaml.

    Exporters write `../train/images` for a folder next to the file, and a path of their machine, whose end counts.
    """
    plain = entry.replace("\\", "/")
    parts = [part for part in PurePosixPath(plain).parts if part not in ("..", "/")]
    ends = len(parts) if re.match(r"/|[A-Za-z]:/", plain) else 1
    names = [plain, *("/".join(parts[begin:]) for begin in range(ends))]
    for below in (os.path.relpath(folder / name, place.root) for folder in folders for name in names):
        with suppress(OSError, ValueError):  # a name that is too long, or has a zero
            target = None if below.startswith("..") else place.find_file(place.root / below)
            if target is not None and (target.suffix == ".txt" or target.is_dir()):
                return target
    return None


def _find_label_file(place: DataSource, image: Path) -> Path | None:
    """Return the text file of an image: in labels/ if the image is in images/, else next to it."""
    parts = image.relative_to(place.root).parts
    inside = [depth for depth, part in enumerate(parts) if part.lower() == "images"]
    beside = (place.root.joinpath(*parts[:depth], "labels", *parts[depth + 1 :]) for depth in reversed(inside))
    found = (place.find_file(path.with_suffix(".txt")) for path in (*beside, image))
    return next((file for file in found if file is not None), None)


def _read_polygons(place: DataSource, path: Path, names: Sequence[str]) -> list[Shape]:
    """Return the polygon of each line, as fractions of the image's size; faults become problems."""
    polygons = []
    for number, line in enumerate(place.read_lines(path), 1):
        words = line.split()
        if not words:
            continue
        try:
            values = np.array([float(word) for word in words])
        except ValueError:
            values = np.array([np.nan])
        points = values[1:]
        are_pairs = len(points) % 2 == 0 and (np.abs(points) <= _BEYOND).all()
        if values[0] not in range(len(names)) or not are_pairs:
            rule = f"must be a class from 0 to {len(names) - 1} and pairs of coordinates from 0 to 1"
            fault = f"{rule}, found {line[:60]!r}; export it again, or add the class to `names`"
            place.add_problem(path, f"line {number}: {fault}")
        elif len(points) == 4:
            (x, y), (right, bottom) = points[:2] - points[2:] / 2, points[:2] + points[2:] / 2
            corners = np.array([x, y, right, y, right, bottom, x, bottom])
            polygons.append(Shape(f"line {number}", None, (corners.tobytes(),), "box", behind=True))
        else:
            polygons.append(Shape(f"line {number}", names[int(values[0])], (points.tobytes(),)))
    return polygons


FORMAT = AnnotationFormat("YOLO's data.yaml with images and text files of polygons", find_yolo)
