"""Files with annotations: those of a format by its keys, the images that they refer to, and their words for classes.

The words are those of shapes, or of masks of one class each.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Collection, Sequence
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, NamedTuple
from urllib.parse import unquote

from pydantic import AfterValidator, Field, ValidationError

from sweeper.core.label_planes import MOST_CLASSES
from sweeper.core.records import IGNORE
from sweeper.core.text import abbreviate
from sweeper.data.class_map import KEEP
from sweeper.data.class_words import find_background, is_background, is_ignored
from sweeper.data.formats.base import DataSource, Size
from sweeper.data.text_tables import MAX_CLASSES, UnreadableFileError, normalise_text, open_file

ELSEWHERE = "image", "not where the annotations say; the file of that name in the data folder is used"
_LOOKED_AT = 1 << 16
"""Bytes searched at each end of a file."""
_SOME = 50
"""Most files of a folder that detection opens."""


def find_json(place: DataSource, keys: Sequence[bytes]) -> list[Path]:
    """Return the JSON files that have two of three keys, among the first `_SOME` in each folder."""
    files, seen = [], Counter[Path]()
    for path in place.list_candidates(".json"):
        seen[path.parent] += 1
        if seen[path.parent] <= _SOME and _has_keys(path, keys):
            files.append(path)
    return files


def _has_keys(path: Path, keys: Sequence[bytes]) -> bool:
    """Return whether the beginning or the end of a JSON file has two of three keys; False if unreadable."""
    try:
        with open_file(path) as file:
            text = file.read(_LOOKED_AT)
            length = file.seek(0, os.SEEK_END)
            file.seek(max(len(text), length - _LOOKED_AT))
            text += b"\n" + file.read(_LOOKED_AT)
    except (OSError, UnreadableFileError):
        return False
    text = text.replace(b"\0", b"")  # of UTF-16
    return sum(b'"%b"' % key in text for key in keys) >= 2


def find_image(place: DataSource, written: str, near: Sequence[Path], source: str, problems: list[str]) -> Path | None:
    """Return the image that an annotation file refers to; None, and a problem, if there is no usable one.

    It is a file below the root: at the written path relative to a folder of `near`, else with its name in such a
    folder, else the only one with that name, or with that name in another case. A path that is quoted as in an address
    (`%20`) is also looked for unquoted. `source` is the annotation file's name.
    """
    text = normalise_text(written.replace("\\", "/"))
    texts = [text, normalise_text(unquote(text))]
    bases = [one.rsplit("/", 1)[-1] for one in texts]

    def find_near(names: Sequence[str]) -> list[Path]:
        paths = (normalise_text(os.path.abspath(folder / name)) for name in names for folder in near)  # noqa: PTH100 (links stay)
        return [*islice((place.by_path[path] for path in paths if path in place.by_path), 1)]

    if exact := find_near(texts):
        return exact[0]
    named = ([path for path in place.by_name.get(base.casefold(), ()) if path in place.images] for base in bases)
    alike = {path: normalise_text(path.name) for path in next(filter(None, named), ())}  # as written, if there
    exact = [path for path, name in alike.items() if name in bases]
    others = exact or [*alike]
    for found in (find_near(bases), others):
        if len(found) == 1:
            place.tally.add(*ELSEWHERE, *bases[: "/" in text])
            return found[0]
    fault = f"{source}: the file {text[:300]!r} must be in the data folder, found {len(others)} files of that name"
    problems.append(f"{fault} (hidden ones are not read); add it")
    return None


def _clean_name(text: str) -> str:
    name = normalise_text(text.strip())
    if not name or not name.isprintable():
        raise ValueError(f"must be printable and not empty, found {text[:60]!r}; rename it")
    return name


ClassName = Annotated[str, AfterValidator(_clean_name)]
"""Name of a class in an annotation file."""
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
"""Finite number in an annotation file."""


def make_size(height: Any, width: Any) -> Size | None:
    """Return the size that an annotation file gives; None if it gives none."""
    is_size = isinstance(height, int) and isinstance(width, int)
    return (height, width) if is_size else None


def format_typed(value: Any) -> str:
    """Format a value as in JSON, which has quotes around text."""
    return json.dumps(value)[:60]


def explain_fault(error: Exception) -> str:
    """Return rule, value found and next step of a file, or of a part of it that is not as the format's model says."""
    if not isinstance(error, ValidationError):
        return str(error)
    first = max(error.errors(include_url=False), key=lambda one: len(one["loc"]))  # of several types the one it is like
    where = "".join(f"{part}: " for part in first["loc"][:1])
    if first["type"] == "value_error":
        return f"{where}{first['ctx']['error']}"
    return f"{where}{first['msg']}, found {format_typed(first['input'])}; correct it, or export it again"


class ClassNames(NamedTuple):
    """Class names, and the label of each word in the annotations."""

    names: tuple[str, ...]
    """In index order; empty if they are faulty."""
    numbers: dict[str, int]
    background: int
    """Label of pixels without an annotation."""


def list_objects(names: Sequence[str]) -> tuple[str, ...]:
    """Return the names, once each, that mean neither the background nor what is ignored."""
    objects = [name for name in dict.fromkeys(names) if not is_background(name)]
    return tuple(name for name in objects if not is_ignored(name))


def number_words(
    place: DataSource, ordered: Sequence[str], occurring: Collection[str], where: str, listed_in: str = "classes.txt"
) -> ClassNames:
    """Return class names and the label of each word; none, and a problem, if there are too few or too many.

    Args:
        place: with the names of `classes.txt`, if any, which set the order.
        ordered: words that are classes, in order.
        occurring: words of annotations.
        where: the annotation files, for messages.
        listed_in: the file that lists the classes.
    """
    words = list_objects(ordered)
    names, most = place.classes or ("background", *words), MAX_CLASSES
    if place.overlap == KEEP and len(list_objects(names)) > 1:
        place.planes = list_objects(names)
        names, most = ("background", *place.planes), MOST_CLASSES + 1
    if not 2 <= len(names) <= most:
        if not place.problems or len(names) > most:  # else these may be the cause
            place.problems.append(
                f"{where}: there must be 1 to {most - 1} labels besides the background, found {len(names) - 1}; "
                "write classes.txt"
            )
        return ClassNames((), {}, 0)
    background = _find_background_index(place, names, words)
    numbers = {word: background for word in occurring if is_background(word)}
    numbers |= {word: IGNORE for word in occurring if is_ignored(word)}
    numbers |= {name: index for index, name in enumerate(names)}
    if unknown := sorted({*occurring} - numbers.keys()):
        place.problems.append(
            f"{where}: labels must be those of {listed_in} ({len(names)} classes), found {abbreviate(unknown)}; add "
            "them there or correct the labels"
        )
    return ClassNames(names, numbers, background)


def _find_background_index(place: DataSource, names: Sequence[str], labels: Sequence[str]) -> int:
    """Return the label of pixels without an annotation.

    It is the background class, else the first if no annotation has it, else 255.
    """
    used = {name for name in labels if not is_background(name)}
    free = ["" if name in used else name for name in names]
    if (index := find_background(free)) is not None:
        return index
    if names[0] not in labels:
        return 0
    place.notes.append(
        f"classes.txt begins with {names[0]}, of which there are annotations too, and names no background: "
        "what no annotation covers is ignored. Put background first to make it a class."
    )
    return IGNORE
