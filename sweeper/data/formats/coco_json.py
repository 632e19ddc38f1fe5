"""What a COCO JSON says: images, categories and objects, checked and small in memory; faults become problems."""

from __future__ import annotations

import math
from array import array
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any, NamedTuple

from sweeper.core.records import SplitName
from sweeper.data.decode import UnreadableFileError
from sweeper.data.formats.base import Place, Size, number_list, split_of
from sweeper.data.json_file import stream_entries
from sweeper.data.label_values import some
from sweeper.data.text_tables import normal, shown

_LARGE = 1e18
"""No coordinate and no area; NaN is not below it either."""


class CocoObject(NamedTuple):
    """One annotation, small in memory: there may be a million of them."""

    number: str
    """Its id, for messages."""
    category: int
    crowd: bool
    rings: tuple[bytes, ...]
    """float64 x, y, x, y …; empty where it has a run-length mask or a box."""
    rle: Any
    box: tuple[float, ...] | None
    area: float | None
    """As written there; exporters put the box's there, and it is what they painted by."""


class CocoImage(NamedTuple):
    """One entry of `images`."""

    file: str
    size: Size | None
    """As written there."""


class CocoFile(NamedTuple):
    """What one JSON says."""

    path: Path
    split: SplitName | None
    images: dict[Any, CocoImage]
    categories: dict[int, str]
    supers: frozenset[str]
    objects: dict[Any, list[CocoObject]]


def parse_coco(place: Place, path: Path) -> CocoFile:
    """Images, categories and objects of a file; faults become problems."""
    name = place.name(path)
    split = split_of([*path.relative_to(place.root).parts[:-1], *path.stem.replace("-", "_").split("_")])
    split = split or split_of([path.stem.rstrip("0123456789").rsplit("_", 1)[-1]])
    images: dict[Any, CocoImage] = {}
    categories: dict[int, str] = {}
    supers: set[str] = set()
    objects: dict[Any, list[CocoObject]] = defaultdict(list)
    counts: Counter[str] = Counter()
    try:
        for key, entry in stream_entries(path, ("images", "annotations", "categories")):
            counts[key] += 1
            if place.full():
                place.problems.append(f"{name}: so many faults are enough; the rest was not looked at")
                break
            try:
                _take(key, entry, images, categories, supers, objects)
            except ValueError as error:
                place.problems.append(f"{name}: {key}[{counts[key] - 1}] {error}; export it again")
    except UnreadableFileError as error:
        place.problems.append(f"{name}: {error}")
    lost = [shown(o.number) for key, found in objects.items() if key not in images for o in found]
    if lost and not place.full():
        place.problems.append(
            f"{name}: annotations must be of one of the images, found {len(lost)} with an unknown image_id (id "
            f"{some(lost)}); export them together"
        )
    unknown = Counter(o.category for found in objects.values() for o in found if o.category not in categories)
    if unknown and not place.full():
        place.problems.append(
            f"{name}: annotations must be of one of the {len(categories)} categories, found category_id "
            f"{some([f'{c} ({n} times)' for c, n in unknown.most_common()])}; add it to `categories`"
        )
    shapes = [o for found in objects.values() for o in found]
    boxes = [o for o in shapes if not o.rings and o.rle is None]
    if boxes and len(boxes) == len(shapes):
        place.problems.append(
            f"{name}: objects must have a `segmentation`, found boxes alone in all {len(boxes)}; these are annotations "
            "for detection"
        )
    elif boxes:
        place.notes.append(
            f"{name}: {len(boxes)} of {len(shapes)} objects have a box and no segmentation; what they cover is ignored."
        )
    return CocoFile(path, split, images, categories, frozenset(supers), objects)


def _take(  # noqa: PLR0917
    key: str,
    entry: Any,
    images: dict[Any, CocoImage],
    categories: dict[int, str],
    supers: set[str],
    objects: dict[Any, list[CocoObject]],
) -> None:
    """Keep an entry.

    Raises:
        ValueError: its fault, as rule and value found.
    """
    if not isinstance(entry, dict):
        raise ValueError(f"must be an object, found {type(entry).__name__}")
    number = entry.get("image_id" if key == "annotations" else "id")
    if not isinstance(number, int | str):
        raise ValueError(
            f"must have a number as {'image_id' if key == 'annotations' else 'id'}, found {shown(number)[:60]}"
        )
    if key == "annotations":
        objects[number].append(parse_object(entry))
        return
    name = entry.get("file_name" if key == "images" else "name")
    if not isinstance(name, str) or not name.strip():
        raise ValueError(f"must have a {'file_name' if key == 'images' else 'name'}, found {shown(name)[:60]!r}")
    if number in (images if key == "images" else categories):
        raise ValueError(f"must have an id of its own, found {shown(number)[:60]} again")
    if key == "images":
        height, width = entry.get("height"), entry.get("width")
        both = isinstance(height, int) and isinstance(width, int)
        images[number] = CocoImage(name, (height, width) if both else None)  # type: ignore[arg-type]
        return
    if not name.isprintable() or not isinstance(number, int):
        raise ValueError(
            f"must have a printable name and a number as id, found {shown(name)[:60]!r} and {shown(number)[:60]}"
        )
    categories[number] = normal(name.strip())
    if isinstance(over := entry.get("supercategory"), str):
        supers.add(normal(over.strip()))


def parse_object(entry: dict[str, Any]) -> CocoObject:
    """An annotation.

    Raises:
        ValueError: its fault.
    """
    number, category = str(entry.get("id"))[:40], entry.get("category_id")
    if not isinstance(category, int):
        raise ValueError(f"must have a number as category_id, found {shown(category)[:60]}")
    size = entry.get("area")
    written = float(size) if isinstance(size, int | float) and 0 < size < _LARGE else None
    crowd, what = bool(entry.get("iscrowd")), entry.get("segmentation")
    if isinstance(what, dict):
        return CocoObject(number, category, crowd, (), what, None, written)
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
        return CocoObject(number, category, crowd, packed, None, None, written)
    box = number_list(entry.get("bbox"))
    if box is None or len(box) != 4 or not all(abs(value) < _LARGE for value in box):
        raise ValueError("must have a segmentation (or a bbox of four numbers), found neither")
    return CocoObject(number, category, crowd, (), None, tuple(float(v) for v in box), written)
