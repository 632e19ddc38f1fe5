"""COCO: one JSON for many images, with objects as polygons or run-length masks.

Crowds are painted first, as 255; then objects, large areas (as written in `area`, else counted) first, so that what
lies in front stays. A ring inside another of the same object is a hole. An object with a box alone is painted as 255
with the crowds. Class 0 is the background, then the categories by their id, those of one name as one; or `classes.txt`
gives the order.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sweeper.core.records import IGNORE
from sweeper.data.decode import UnreadableFileError
from sweeper.data.draw_shapes import point_fault, reaches_out
from sweeper.data.formats.base import (
    Format,
    Lost,
    Place,
    Reading,
    Sample,
    Size,
    background_index,
    drop_repeated,
    find_image,
    head_and_tail,
    is_background,
    note_unused,
    unique_stems,
)
from sweeper.data.formats.coco_json import CocoFile, CocoImage, CocoObject, parse_coco
from sweeper.data.label_values import some
from sweeper.data.rle import Rle, area, checked_rle, pixels, polygon_rle
from sweeper.data.store import Pixels
from sweeper.data.text_tables import MAX_CLASSES, Side, shown

_MARKS = (b'"images"', b'"annotations"', b'"categories"')
MAX_OBJECTS = 100_000
"""Of one image."""
_SOME = 50
"""Files that detection opens."""


def detect(place: Place) -> str | None:
    """Whether there are JSON files that look like COCO's."""
    files = _candidates(place)
    return f"COCO's JSON ({', '.join(place.name(path) for path in files[:3])})" if files else None


def _candidates(place: Place) -> list[Path]:
    """Files that look like COCO's; where some are called instances_*, these alone."""
    if place.entry is not None:
        return [place.entry] if place.entry.suffix.lower() == ".json" and _looks_right(place.entry) else []
    found = []
    names = [path for path in place.files if path.suffix.lower() == ".json"]
    folders: Counter[Path] = Counter()
    for path in names:
        folders[path.parent] += 1
        if folders[path.parent] <= _SOME and _looks_right(path):
            found.append(path)
    return [path for path in found if path.name.startswith("instances_")] or found


def _looks_right(path: Path) -> bool:
    text = head_and_tail(path)
    return sum(mark in text for mark in _MARKS) >= 2


def read(place: Place) -> Reading:
    """Read the annotations; masks are made when they are asked for."""
    files = [parse_coco(place, path) for path in _candidates(place) if place.inside(path)]
    names, numbers, background = _numbering(place, files)
    entries = list(_located(place, files))
    stems = unique_stems(place, [image for _, _, image in entries])
    note_unused(place, [image for _, _, image in entries])
    samples = []
    for (file, key, image), stem in zip(entries, stems, strict=True):
        labels = {category: numbers.get(name, IGNORE) for category, name in file.categories.items()}
        mask = partial(_mask, place, file.images[key], file.objects.get(key, []), labels, background, image)
        mask_name = f"{place.name(file.path)} ({shown(file.images[key].file)[:200]})"
        samples.append(Sample(stem, place.name(image), (image,), mask, mask_name, Side(file.split)))
    where = place.name(files[0].path) if files else "*.json"
    return Reading(drop_repeated(place, samples), names, indices=True, place=where, mask_place=where)


def _numbering(place: Place, files: list[CocoFile]) -> tuple[tuple[str, ...] | None, dict[str, int], int]:
    """Class names, the label of each category's name, and the label of what no object covers."""
    used = {file.categories.get(o.category) for file in files for found in file.objects.values() for o in found}
    words: dict[str, None] = {}
    for file in files:
        repeated = [n for n, count in Counter(file.categories.values()).items() if count > 1]
        if repeated:
            which = some(sorted(map(shown, repeated)))
            place.notes.append(f"{place.name(file.path)}: categories of one name are read as one class: {which}.")
        for number in sorted(file.categories):
            word = file.categories[number]
            if word not in used and word in file.supers:
                place.notes.append(
                    f"{place.name(file.path)}: category {shown(word)} only stands above others and has no object; it "
                    "is left out."
                )
            elif not is_background(word):
                words[word] = None
    supers = frozenset().union(*(file.supers for file in files))
    names = place.classes or ("background", *words)
    if not 2 <= len(names) <= MAX_CLASSES:
        place.problems.append(
            f"*.json: there must be 1 to {MAX_CLASSES - 1} categories, found {len(names) - 1}; write classes.txt"
        )
        return None, {}, 0
    numbers = {name: index for index, name in enumerate(names)}
    background = background_index(place, names, words) if place.classes else 0
    numbers |= {n: background for f in files for n in f.categories.values() if is_background(n) and n not in numbers}
    unknown = sorted(shown(word) for word in words if word not in numbers and (word in used or word not in supers))
    if place.classes and (missing := [word for word in unknown if word in used]):
        place.problems.append(
            f"*.json: categories must be those of classes.txt ({len(names)} classes), found {some(missing)}; add them "
            "there"
        )
    return names, numbers, background


def _located(place: Place, files: list[CocoFile]) -> Iterator[tuple[CocoFile, Any, Path]]:
    """Each image that has a file, with its JSON and its key there."""
    for file in files:
        here = file.path.parent
        beside = [here, here.parent, here / "images", here.parent / "images", place.root, place.root / "images"]
        named = [here.parent / name for name in _folders_of(file.path)]
        near = list(dict.fromkeys([*beside, *named, *(folder / "images" for folder in named)]))
        for key, image in file.images.items():
            if place.full():
                return
            path = find_image(place, image.file, near, place.name(file.path))
            if isinstance(path, Lost):
                place.problems.append(path.problem)
            else:
                yield file, key, path


def _folders_of(path: Path) -> list[str]:
    """Folders whose images a file's name speaks of: instances_train2017.json → train2017, images/train2017."""
    last = path.stem.rsplit("_", 1)[-1]
    return [last, f"images/{last}"]


def _mask(  # noqa: PLR0917
    place: Place,
    image: CocoImage,
    objects: list[CocoObject],
    labels: dict[int, int],
    background: int,
    path: Path,
    size: Size | None,
) -> Pixels | None:
    """The labels of one image."""
    if size is None:
        return None
    if image.size is not None and image.size != size:
        (height, width), (written_height, written_width) = size, image.size
        raise UnreadableFileError(
            f"width and height must be its image's {width}×{height} (upright), found "
            f"{written_width}×{written_height}; is it another image? Else annotate the image as it is now"
        )
    if len(objects) > MAX_OBJECTS:
        raise UnreadableFileError(f"an image may have {MAX_OBJECTS:,} objects, found {len(objects):,}; is it an image?")
    faults: list[str] = []
    behind: list[Rle] = []
    front: list[tuple[float, int, Rle]] = []
    written = all(each.area is not None for each in objects)
    for each in objects:
        rle = _covers(place, each, size, place.name(path), faults)
        if rle is None:
            continue
        if each.crowd or each.box is not None:
            behind.append(rle)
        else:
            front.append(((each.area if written else None) or area(rle), labels.get(each.category, IGNORE), rle))
    if faults:
        raise UnreadableFileError(f"{some(faults)}; mend them, or remove them")
    mask = np.full(size, background, dtype=np.uint8)
    for rle in behind:
        mask[pixels(rle)] = IGNORE
    for _, label, rle in sorted(front, key=lambda item: -item[0]):
        mask[pixels(rle)] = label
    return mask


def _covers(place: Place, each: CocoObject, size: Size, name: str, faults: list[str]) -> Rle | None:
    """Pixels of one object; None where it covers nothing, or is faulty."""
    if each.rle is not None:
        try:
            return checked_rle(each.rle, size)
        except ValueError as error:
            faults.append(f"annotation {shown(each.number)}: an RLE {error}")
            return None
    rings = [_points(ring) for ring in each.rings] or [_corners(each.box or (0, 0, 0, 0))]
    usable = [ring for ring in rings if len(ring) >= 3]
    if len(usable) < len(rings):
        place.tally.add("image", "with polygons of fewer than 3 points, which cover nothing", name)
    for ring in usable:
        if fault := point_fault(ring, size):
            faults.append(f"annotation {shown(each.number)} {fault}")
            return None
        if reaches_out(ring, size):
            place.tally.add("image", "with objects that reach out, cut off at the edge", name)
    if not usable:
        return None
    rle, holes = polygon_rle(usable, size)
    if holes:
        place.tally.add("image", "with a ring of an object inside another, which is read as a hole", name)
    return rle


def _points(ring: bytes) -> npt.NDArray[np.float64]:
    return np.frombuffer(ring, dtype=np.float64).reshape(-1, 2)


def _corners(box: tuple[float, ...]) -> npt.NDArray[np.float64]:
    left, top, width, height = box
    return np.array([[left, top], [left + width, top], [left + width, top + height], [left, top + height]])


FORMAT = Format("a COCO JSON (images, annotations, categories) and its images", detect, read)
