"""COCO: one JSON for many images, with objects as polygons or run-length masks.

Crowds of a class that has other objects are painted first, as 255; those of a class that has nothing else, as CVAT's
brush writes them, are objects. Then come objects by area (the file's `area`, else counted), largest first, so that
smaller ones stay visible. Objects with only a box are painted as 255 with the crowds. Class 0 is the background, then
come the categories by id, those of one name joined; `classes.txt` overrides the order.
"""

from __future__ import annotations

import re
from array import array
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, StrictInt, StrictStr, StringConstraints

from sweeper.core.records import SplitName
from sweeper.core.text import abbreviate
from sweeper.data.formats.annotation_files import (
    ClassName,
    Number,
    explain_fault,
    find_image,
    find_json,
    format_typed,
    make_size,
    number_words,
)
from sweeper.data.formats.base import AnnotationFormat, DataSource, FormatLayout, ReadResult, find_split
from sweeper.data.formats.shapes import ImageShapes, Shape, draw_areas, make_shapes_result, note_boxes
from sweeper.data.text_tables import (
    ALL_IMAGES,
    SplitAssignment,
    UnreadableFileError,
    load_json,
    normalise_text,
    point_to_lines,
)

_KEYS = (b"images", b"annotations", b"categories")
_WHOLE = re.compile(r"\s*(-?(?:0|[1-9][0-9]{0,17}))(?:\.0*)?\s*")
_LARGE = 1e18
"""Limit of coordinates and areas; NaN is not below it either."""


def _read_whole(value: Any) -> Any:
    """Return a whole number in any notation (3, 3.0, "3") as such; other values are unchanged."""
    match = _WHOLE.fullmatch(str(value)) if isinstance(value, float | str) else None
    return int(match[1]) if match else value


def _check_pairs(ring: list[float]) -> list[float]:
    if len(ring) % 2:
        raise ValueError(f"must be x, y, x, y …, found {len(ring)} numbers; export it again")
    return ring


_WholeNumber = Annotated[StrictInt, BeforeValidator(_read_whole)]
_ImageId = Annotated[StrictInt | StrictStr, BeforeValidator(_read_whole)]
_Ring = Annotated[list[Number], AfterValidator(_check_pairs)]
_Coordinate = Annotated[float, Field(strict=True, gt=-_LARGE, lt=_LARGE)]


class CocoImage(BaseModel):
    """An entry of `images`."""

    id: _ImageId
    file_name: Annotated[str, StringConstraints(pattern=r"\S")]
    height: Any = None
    width: Any = None


class CocoCategory(BaseModel):
    """An entry of `categories`."""

    id: _WholeNumber
    name: ClassName
    supercategory: Any = ""


class CocoBox(BaseModel):
    """The box of an annotation without a segmentation."""

    bbox: tuple[_Coordinate, _Coordinate, _Coordinate, _Coordinate] = Field(validation_alias="segmentation or bbox")


class CocoAnnotation(BaseModel):
    """An entry of `annotations`."""

    id: Any = None
    image_id: _ImageId
    category_id: _WholeNumber
    segmentation: dict[str, Any] | list[_Ring] | None = None
    bbox: Any = None
    area: Any = None
    iscrowd: Any = None

    def make_shape(self) -> Shape:
        """Return the shape, whose label is not known yet.

        Raises:
            ValidationError: there is neither a segmentation nor a box.
        """
        is_written = isinstance(self.area, int | float) and 0 < self.area < _LARGE
        shape = Shape(
            f"annotation {str(self.id)[:40]}",
            None,
            behind=self.iscrowd in (1, "1"),
            area=float(self.area) if is_written else None,
        )
        if isinstance(self.segmentation, dict):
            return shape._replace(mask=self.segmentation)
        if self.segmentation:
            return shape._replace(rings=tuple(array("d", ring).tobytes() for ring in self.segmentation))
        left, top, width, height = CocoBox.model_validate({"segmentation or bbox": self.bbox}).bbox
        right, bottom = left + width, top + height
        corners = array("d", [left, top, right, top, right, bottom, left, bottom])
        return shape._replace(rings=(corners.tobytes(),), kind="box", behind=True)


class CocoLists(BaseModel):
    """Content of a JSON, whose entries are not checked yet."""

    images: list[Any] = []
    annotations: list[Any] = []
    categories: list[Any] = []


_ENTRIES: dict[str, type[BaseModel]] = {"images": CocoImage, "annotations": CocoAnnotation, "categories": CocoCategory}


@dataclass
class CocoFile:
    """Content of one JSON file."""

    path: Path
    split: SplitName | None
    images: dict[Any, CocoImage] = field(default_factory=dict)
    categories: dict[int, CocoCategory] = field(default_factory=dict)
    objects: dict[Any, list[tuple[int, Shape]]] = field(default_factory=lambda: defaultdict(list))
    """Image id → its objects: category and shape, whose label is not known yet."""

    @cached_property
    def names(self) -> dict[int, str]:
        """Class name of each category."""
        return {number: category.name for number, category in self.categories.items()}

    @property
    def every(self) -> list[tuple[int, Shape]]:
        """Category and shape of all objects."""
        return [pair for of_image in self.objects.values() for pair in of_image]

    def keep_entry(self, key: str, entry: Any) -> None:
        """Check and add an entry of one of the lists.

        Raises:
            ValueError: with the fault: rule and value found.
        """
        one: Any = _ENTRIES[key].model_validate(entry)
        if isinstance(one, CocoAnnotation):
            self.objects[one.image_id].append((one.category_id, one.make_shape()))
            return
        kept: dict[Any, Any] = getattr(self, key)
        if one.id in kept:
            rule = "must have an id of its own, whatever its type"
            raise ValueError(f"{rule}, found {format_typed(entry['id'])} again; export it again")
        kept[one.id] = one


def find_coco(place: DataSource) -> FormatLayout | None:
    """Find JSON files that look like COCO's; if some are named instances_*, only these."""
    coco_files = find_json(place, _KEYS)
    instances = [path for path in coco_files if path.name.startswith("instances_")]
    files = instances or coco_files
    line = f"COCO's JSON ({', '.join(place.format_name(path) for path in files[:3])})"
    return FormatLayout(line, partial(_read_coco, place, files)) if files else None


def _read_coco(place: DataSource, paths: Sequence[Path]) -> ReadResult:
    """Read every JSON that looks like COCO's, or the one requested."""
    files = [_parse_file(place, path) for path in paths]
    where = place.format_name(files[0].path)
    used = {file.names[number] for file in files for number, _ in file.every if number in file.names}
    supers = {normalise_text(str(one.supercategory).strip()) for file in files for one in file.categories.values()}
    # A category that is only a supercategory of others, as some exporters write it, is no class.
    unused = supers.difference(used)
    ordered = [word for file in files for _, word in sorted(file.names.items()) if word not in unused]
    words = number_words(place, ordered, used, "*.json")
    crowded = _find_crowded(place, files, where)
    drawings = []
    for file, key, path in _locate_images(place, files):
        image = file.images[key]
        size = make_size(image.height, image.width)
        shapes = [_name_class(shape, file.names.get(number), crowded) for number, shape in file.objects.get(key, ())]
        source = f"{place.format_name(file.path)} ({image.file_name[:200]})"
        drawings.append(ImageShapes(source, path, shapes, size, SplitAssignment(file.split)))
    return make_shapes_result(place, drawings, words, where, draw_areas)


def _find_crowded(place: DataSource, files: Sequence[CocoFile], where: str) -> set[str]:
    """Return the classes whose crowds are regions of many objects, as they have other objects, too; note both kinds."""
    kinds: dict[str, Counter[bool]] = defaultdict(Counter)
    for file in files:
        for category, shape in file.every:
            if shape.kind != "box":
                kinds[file.names.get(category, "")][shape.behind] += 1
    crowded = {name: of_class[True] for name, of_class in kinds.items() if of_class[True]}
    mixed = {name for name in crowded if kinds[name][False]}
    for names, what in ((mixed, "ignored (write 0 where they are objects)"), (crowded.keys() - mixed, "objects")):
        if names:
            counted = f"{sum(crowded[name] for name in names)} of {sum(kinds[name].total() for name in names)}"
            place.notes.append(
                f"{where}: {counted} objects of {abbreviate(sorted(names))} are crowds (iscrowd 1), read as {what}."
            )
    return mixed


def _name_class(shape: Shape, name: str | None, crowded: set[str]) -> Shape:
    """Return a shape with its class; crowds, and boxes without a segmentation, are ignored."""
    is_crowd = shape.kind == "box" or name in crowded
    if shape.behind and is_crowd:
        return shape._replace(label=None)
    return shape._replace(label=name, behind=False)


def _locate_images(place: DataSource, files: list[CocoFile]) -> Iterator[tuple[CocoFile, Any, Path]]:
    """Yield each image that has a file, with its JSON and its id."""
    for file in files:
        here = file.path.parent
        beside = [here, here.parent, here / "images", here.parent / "images", place.root, place.root / "images"]
        split = file.path.stem.rsplit("_", 1)[-1]  # instances_train2017.json is about train2017
        named = [here.parent / split, here.parent / split / "images", here.parent / "images" / split]
        near = list(dict.fromkeys([*beside, *named]))
        for key, image in file.images.items():
            path = find_image(place, image.file_name, near, place.format_name(file.path), place.problems)
            if path is not None:
                yield file, key, path


def _parse_file(place: DataSource, path: Path) -> CocoFile:
    """Parse images, categories and objects of a file; faults, and other content, become problems."""
    words = re.findall(r"[^\W\d_]+", path.stem)  # instances_train2017.json has train
    split = find_split([*path.relative_to(place.root).parts[:-1], *words])
    file, faulty, lists = CocoFile(path, split), set(), CocoLists()
    try:
        lists = CocoLists.model_validate(load_json(path, ALL_IMAGES))
    except (UnreadableFileError, ValueError) as error:
        place.add_problem(path, explain_fault(error))
    for key, (number, entry) in ((name, pair) for name in _ENTRIES for pair in enumerate(getattr(lists, name))):
        try:
            file.keep_entry(key, entry)
        except ValueError as error:
            if isinstance(entry, dict) and "segments_info" in entry:
                rule = "annotations must have polygons or run-length masks, found COCO's panoptic ones"
                place.add_problem(path, f"{rule}; {point_to_lines('write PNGs into masks/', 'panoptic-masks')}")
                return file
            faulty.add(key)
            place.add_problem(path, f"{key}[{number}] {explain_fault(error)}")
    numbers = Counter(category for category, _ in file.every)
    images = Counter({key: len(objects) for key, objects in file.objects.items()})
    for key, used, known in (("images", images, file.images), ("categories", numbers, file.categories)):
        unknown = {one: times for one, times in used.items() if one not in known}
        if unknown and key not in faulty:  # else these are the cause
            there, others = (abbreviate([format_typed(one) for one in ids], 2) or "none" for ids in (known, unknown))
            place.add_problem(
                path,
                f"annotations must be of one of the {key}, found {sum(unknown.values())} of unknown ones ({others}; "
                f"`{key}` has {there}); export them together",
            )
    note_boxes(place, place.format_name(path), [shape for _, shape in file.every])
    return file


FORMAT = AnnotationFormat("a COCO JSON (images, annotations, categories) and its images", find_coco)
