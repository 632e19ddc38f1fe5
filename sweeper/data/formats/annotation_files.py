"""Files with annotations: those of a format by its keys, and the images that they refer to."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import unquote

from pydantic import AfterValidator, Field, ValidationError

from sweeper.data.formats.base import DataSource, Size
from sweeper.data.text_tables import UnreadableFileError, normalise_text, open_file

ELSEWHERE = "image", "not where the annotations say; the file of that name in the data folder is used"
_LOOKED_AT = 1 << 16
"""Bytes searched at each end of a file."""
_SOME = 50
"""Most files of a folder that detection opens."""


def find_json(place: DataSource, keys: Sequence[bytes]) -> list[Path]:
    """Return the JSON files that have two of three keys, among the first `_SOME` in each folder."""
    files, seen = [], Counter[Path]()
    for path in place.files if place.entry is None else (place.entry,):
        if path.suffix.lower() == ".json":
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
    return sum(b'"%b"' % key in text for key in keys) >= 2


def find_image(
    place: DataSource, written: str, near: Sequence[Path], source: str, problems: list[str] | None = None
) -> Path | None:
    """Return the image that an annotation file refers to; None, and a problem, if there is no usable one.

    It is a file below the root: at the written path relative to a folder of `near`, else with its name in such a
    folder, else the only one with that name, or with that name in another case. A path that is quoted as in an address
    (`%20`) is also looked for unquoted. `source` is the annotation file's name; `problems` defaults to those of
    `place`.
    """
    text = normalise_text(written.replace("\\", "/"))
    plain = normalise_text(unquote(text))
    base, plain_base = (path.rsplit("/", 1)[-1] for path in (text, plain))
    for name in dict.fromkeys((text, plain, base, plain_base)):
        for folder in near:
            path = place.by_path.get(normalise_text(os.path.abspath(folder / name)))  # noqa: PTH100 (links stay what they are)
            if path is not None:
                if name not in (text, plain):
                    place.tally.add(*ELSEWHERE, base)
                return path
    alike = place.image_files.get(base.casefold()) or place.image_files.get(plain_base.casefold(), [])
    others = [path for path in alike if normalise_text(path.name) in (base, plain_base)] or alike
    if len(others) == 1:
        if "/" in text:
            place.tally.add(*ELSEWHERE, base)
        return others[0]
    reason = f"{len(others)} files of that name" if others else "no such file (hidden ones are not read)"
    fault = f"{source}: the file {text[:300]!r} must be in the data folder, found {reason}; add it"
    if not base:
        fault = f"{source}: a file must be named, found {text[:300]!r}; name it, or remove the entry"
    (place.problems if problems is None else problems).append(fault)
    return None


def note_unused(place: DataSource, used: Sequence[Path]) -> None:
    """Warn of images without an annotation in the folders of the used ones."""
    folders = {path.parent for path in used}
    every = {path for paths in place.image_files.values() for path in paths if path.parent in folders}
    place.tally.add("image", "without an annotation, passed over", *map(place.format_name, every - {*used}))


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
    return (height, width) if isinstance(height, int) and isinstance(width, int) else None


def format_typed(value: Any) -> str:
    """Format a value as in JSON, with its type."""
    kind = "text" if isinstance(value, str) else "number" if type(value) in (int, float) else "neither number nor text"
    return f"{json.dumps(value)[:60]} ({kind})"


def explain_fault(error: Exception) -> str:
    """Return rule, value found and next step of a file, or of a part of it that is not as the format's model says."""
    if not isinstance(error, ValidationError):
        return str(error)
    first = max(error.errors(include_url=False), key=lambda one: len(one["loc"]))  # of several types the one it is like
    where = "".join(f"{part}: " for part in first["loc"][:1])
    if first["type"] == "value_error":
        return f"{where}{first['ctx']['error']}"
    return f"{where}{first['msg']}, found {format_typed(first['input'])}; correct it, or export it again"
