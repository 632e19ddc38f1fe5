"""LabelMe: one JSON per image with its shapes, and the image beside it or inside.

Shapes are drawn in the file's order, as LabelMe's own tools draw them. `__ignore__` is 255, `_background_` is class 0.
Classes are those of `classes.txt`, else of LabelMe's `labels.txt`, else the labels that occur, in alphabetical order.
"""

from __future__ import annotations

import base64
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sweeper.core.records import IGNORE
from sweeper.data.decode import UnreadableFileError
from sweeper.data.draw_shapes import KINDS, Shape, draw, point_fault, reaches_out
from sweeper.data.formats.base import (
    Format,
    Place,
    Reading,
    Sample,
    Size,
    background_index,
    drop_repeated,
    find_image,
    head_and_tail,
    is_background,
    is_file,
    note_unused,
    number_list,
    split_of,
    unique_stems,
)
from sweeper.data.json_file import load_json
from sweeper.data.label_values import some
from sweeper.data.store import Pixels
from sweeper.data.text_tables import MAX_CLASSES, Side, normal, shown, text_of

IGNORED = "__ignore__"
_MARKS = (b'"shapes"', b'"imagePath"', b'"imageData"')
_LARGE = 1 << 20
"""Bytes of a JSON from which its ends tell whether it is LabelMe's."""
_SOME = 20
"""Files that detection opens."""


class _Drawn(NamedTuple):
    """A shape whose label is still a word."""

    label: str
    number: int
    shape: Shape


class _Annotation(NamedTuple):
    """What one JSON says."""

    path: Path
    image_path: str
    embedded: bool
    size: Size | None
    """As written there."""
    shapes: list[_Drawn]


def detect(place: Place) -> str | None:
    """Whether some of the JSON files look like LabelMe's."""
    files = _candidates(place)
    ours = [path for path in files[:_SOME] if sum(mark in head_and_tail(path) for mark in _MARKS) >= 2]
    return f"LabelMe's JSON ({place.name(ours[0])}, …; {len(files)} JSON files)" if ours else None


def _candidates(place: Place) -> list[Path]:
    if place.entry is not None:
        return [place.entry] if place.entry.suffix.lower() == ".json" else []
    return [path for path in place.files if path.suffix.lower() == ".json"]


def read(place: Place) -> Reading:
    """Read every JSON that holds shapes."""
    annotations = []
    for path in _candidates(place):
        if place.full():
            break
        if place.inside(path) and (found := _parse(place, path)) is not None:
            annotations.append(found)
    occurring = {drawn.label for annotation in annotations for drawn in annotation.shapes}
    names, numbers, background = _numbering(place, occurring)
    images = [_image(place, annotation) for annotation in annotations]
    there = [(a, file) for a, file in zip(annotations, images, strict=True) if file is not None or a.embedded]
    stems = unique_stems(place, [file or annotation.path for annotation, file in there])
    note_unused(place, [file for _, file in there if file is not None])
    samples = []
    for (annotation, file), stem in zip(there, stems, strict=True):
        name = place.name(annotation.path)
        samples.append(
            Sample(
                stem,
                f"{name} (imageData)" if file is None else place.name(file),
                (partial(_embedded, annotation.path) if file is None else file,),
                partial(_mask, place, annotation, numbers, background),
                name,
                Side(split_of(annotation.path.relative_to(place.root).parts[:-1])),
            )
        )
    return Reading(drop_repeated(place, samples), names, indices=True, place="*.json", mask_place="*.json")


def _parse(place: Place, path: Path) -> _Annotation | None:
    """What a file says; None where it is none of LabelMe's, or faulty."""
    name = place.name(path)
    if place.entry is None and path.stat().st_size > _LARGE and not any(mark in head_and_tail(path) for mark in _MARKS):
        return None  # another JSON, which need not be read to know it
    try:
        data = load_json(path)
    except UnreadableFileError as error:
        place.problems.append(f"{name}: {error}")
        return None
    if not isinstance(data, dict) or "shapes" not in data:
        if place.entry is not None:
            place.problems.append(f"{name}: must be LabelMe's JSON with `shapes`, found another; export it again")
        return None
    faults: list[str] = []
    shapes = data["shapes"]
    if not isinstance(shapes, list):
        faults.append(f"`shapes` must be a list, found {type(shapes).__name__}; export it again")
        shapes = []
    parsed = []
    for number, entry in enumerate(shapes, 1):
        try:
            parsed.append(_shape(number, entry, place, name))
        except ValueError as error:
            faults.append(f"{error}; draw it again")
    path_written = data.get("imagePath")
    embedded = isinstance(data.get("imageData"), str) and bool(data["imageData"])
    if not isinstance(path_written, str) and not embedded:
        faults.append("must have `imagePath` or `imageData`, found neither; export it again")
    height, width = data.get("imageHeight"), data.get("imageWidth")
    size = (height, width) if isinstance(height, int) and isinstance(width, int) else None
    place.problems.extend(f"{name}: {fault}" for fault in faults)
    if faults:
        return None
    text = path_written if isinstance(path_written, str) else ""
    return _Annotation(path, text, embedded, size, [shape for shape in parsed if shape is not None])


def _shape(number: int, entry: Any, place: Place, name: str) -> _Drawn | None:
    """A shape of the file; None where it covers nothing.

    Raises:
        ValueError: its fault, as rule and value found.
    """
    if not isinstance(entry, dict):
        raise ValueError(f"shape {number} must be an object, found {type(entry).__name__}")
    label, kind, raw = entry.get("label"), entry.get("shape_type") or "polygon", entry.get("points")
    if not isinstance(label, str) or not label.strip() or not label.isprintable():
        raise ValueError(f"shape {number} must have a printable label, found {shown(label)[:80]!r}")
    where = f"shape {number} ({shown(label)[:40]})"
    if not isinstance(kind, str) or kind not in KINDS:
        raise ValueError(f"{where} must be one of {', '.join(KINDS)}, found {shown(kind)[:40]!r}")
    pairs = [number_list(pair) for pair in raw] if isinstance(raw, list) else [None]
    numbers = [pair for pair in pairs if pair is not None and len(pair) == 2]
    if len(numbers) != len(pairs):
        raise ValueError(f"{where} must have `points` as pairs of numbers, found something else")
    fewest, most = KINDS[kind]
    if kind in ("polygon", "linestrip") and len(numbers) < fewest:
        place.tally.add("file", f"with a {kind} of fewer than {fewest} points, which covers nothing", name)
        return None
    if len(numbers) < fewest or (most is not None and len(numbers) > most):
        wanted = f"{fewest}" if most == fewest else f"at least {fewest}"
        raise ValueError(f"{where} must have {wanted} points as a {kind}, found {len(numbers)}")
    try:
        points = np.array(numbers, dtype=np.float64)
        mask = base64.b64decode(entry["mask"]) if kind == "mask" else b""
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{where} must have finite points and, as a mask, an image ({error})") from error
    if not np.isfinite(points).all():
        raise ValueError(f"{where}: coordinates must be finite, found NaN or infinity")
    return _Drawn(normal(label.strip()), number, Shape(0, kind, points, mask))


def _numbering(place: Place, occurring: set[str]) -> tuple[tuple[str, ...] | None, dict[str, int], int]:
    """Class names, the label of each word, and the label of what no shape covers."""
    words = sorted(word for word in occurring if word != IGNORED and not is_background(word))
    listed = _labels_file(place) if place.classes is None else None
    names = place.classes or tuple(dict.fromkeys(["background", *(listed or words)]))
    if not 2 <= len(names) <= MAX_CLASSES:
        place.problems.append(
            f"*.json: labels must be 1 to {MAX_CLASSES - 1} words besides the background, found {len(names) - 1}; "
            "write classes.txt"
        )
        return None, {}, 0
    numbers = {name: index for index, name in enumerate(names)}
    background = background_index(place, names, words) if place.classes else 0
    numbers |= {word: background for word in occurring if is_background(word) and word not in numbers}
    numbers[IGNORED] = IGNORE
    unknown = sorted(shown(word) for word in occurring if word not in numbers)
    if unknown:
        file = "classes.txt" if place.classes else "labels.txt"
        place.problems.append(
            f"*.json: labels must be those of {file} ({len(names)} classes), found {some(unknown)}; add them there or "
            "mend the labels"
        )
    return names, numbers, background


def _labels_file(place: Place) -> list[str] | None:
    """Names of LabelMe's own list, without `__ignore__` and the background; None without one."""
    path = place.root / "labels.txt"
    if not is_file(path) or not place.inside(path) or (text := text_of(path, place.problems)) is None:
        return None
    words = [normal(line.strip()) for line in text.splitlines() if line.strip()]
    return [word for word in words if word != IGNORED and not is_background(word)]


def _image(place: Place, annotation: _Annotation) -> Path | None:
    """The image's file; None where it lies in the JSON, or is missing, which is a problem."""
    here = annotation.path.parent
    near = [here, here.parent / "images", here.parent / "JPEGImages"]
    found = find_image(place, annotation.image_path, near, place.name(annotation.path))
    if isinstance(found, Path):
        return found
    if not annotation.embedded:
        place.problems.append(found.problem)
    return None


def _embedded(path: Path) -> bytes:
    """The image inside a JSON."""
    data = load_json(path)
    try:
        return base64.b64decode(data["imageData"])
    except (ValueError, TypeError, KeyError) as error:
        raise UnreadableFileError(
            f"`imageData` must be an image in base64, and is not ({error}); save it again"
        ) from error


def _mask(
    place: Place, annotation: _Annotation, numbers: dict[str, int], background: int, size: Size | None
) -> Pixels | None:
    """The labels of one image."""
    if size is None:
        return None
    name = place.name(annotation.path)
    if annotation.size is not None and annotation.size != size:
        (height, width), (written_height, written_width) = size, annotation.size
        raise UnreadableFileError(
            f"imageWidth and imageHeight must be its image's {width}×{height} (upright), found "
            f"{written_width}×{written_height}; is it another image? Else annotate the image as it is now"
        )
    faults = []
    shapes = []
    for drawn in annotation.shapes:
        if fault := point_fault(drawn.shape.points, size):
            faults.append(f"shape {drawn.number} ({shown(drawn.label)[:40]}) {fault}")
            continue
        if reaches_out(drawn.shape.points, size):
            place.tally.add("file", "with shapes that reach out of the image, cut off at its edge", name)
        shapes.append(drawn.shape._replace(label=numbers.get(drawn.label, IGNORE)))
    if faults:
        raise UnreadableFileError(f"{some(faults)}; draw them again, or remove them")
    try:
        return draw(shapes, size, background)
    except ValueError as error:
        raise UnreadableFileError(f"a mask among the shapes: {error}; draw it again") from error


FORMAT = Format("LabelMe's JSON files beside (or around) their images", detect, read)
