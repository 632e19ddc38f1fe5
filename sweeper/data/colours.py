"""Masks stored as colours: read the file that maps colours to classes, and translate masks.

A line is `name:r,g,b::` (CVAT's `labelmap.txt`; text after the third number is ignored), `r g b name` (CamVid's
`label_colors.txt`) or `number name r g b` (RUGD); a CSV has the columns name, r, g and b (`class_dict.csv`). Lines that
begin with `#` are comments. Classes are numbered in the file's order. The names `ignore` and `void` mean 255.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sweeper.core.records import IGNORE
from sweeper.data.class_words import is_ignored
from sweeper.data.text_tables import (
    MAX_CLASSES,
    UnreadableFileError,
    normalise_text,
    read_header,
    read_table_rows,
    read_text,
)

COLOUR_FILES = ("colors.txt", "labelmap.txt", "label_colors.txt")
"""Names of map files, in order of preference; tables come after them."""
Colour = tuple[int, ...]
"""Red, green and blue, 0 to 255."""
_RGB = ("r", "g", "b", "red", "green", "blue")
VOC_BORDER = (224, 224, 192)
"""Pascal VOC's colour of borders; ignored unless the map contains it."""
_LINES = (
    re.compile(r"(?P<name>.+?):\s*(?P<rgb>\d+\s*,\s*\d+\s*,\s*\d+)\s*(?::.*)?"),
    re.compile(r"(?P<rgb>\d+[\s,]+\d+[\s,]+\d+)\s+(?P<name>.+)"),
    re.compile(r"\d+\s+(?P<name>.*[^\W\d].*?)\s+(?P<rgb>\d+\s+\d+\s+\d+)"),
)


class ColourMap(NamedTuple):
    """Labels of colours."""

    names: tuple[str, ...]
    """Class names in index order, without ignored ones."""
    labels: Mapping[Colour, int]
    """Label of each colour: class index or 255."""


def read_colours(path: Path, declared: tuple[str, ...] | None, problems: list[str]) -> ColourMap | None:
    """Read a map of colours; on faults append them to `problems` and return None.

    `declared`: names of `classes.txt`, which set the class order; every name of the map must be among them.
    """
    before = len(problems)
    lines = _read_lines(path, problems)
    if len(problems) > before:
        return None
    faults: list[str] = []
    entries: dict[Colour, str] = {}
    for number, line in lines:
        match = next(filter(None, (form.fullmatch(line.strip()) for form in _LINES)), None)
        rgb = tuple(int(v) for v in re.split(r"[\s,]+", match["rgb"])) if match else (256,)
        name = normalise_text(match["name"].strip()) if match else ""
        if max(rgb) > 255 or not name.isprintable():
            faults.append(f"line {number} must be `name:r,g,b::` with numbers below 256, found {line!r}; correct it")
            continue
        if entries.setdefault(rgb, name) != name:
            faults.append(f"line {number}: a colour names one class, found {rgb} again for {name!r}; change one")
    found = [name for name in dict.fromkeys(entries.values()) if not is_ignored(name)]
    names = declared or tuple(found)
    unknown = [name for name in found if name not in names]
    if unknown:
        faults.append(f"names must be those of classes.txt, found {unknown[0]!r}; correct one of the files")
    if not 2 <= len(names) <= MAX_CLASSES:
        faults.append(f"must name 2 to {MAX_CLASSES} classes, found {len(names)}; write one `name:r,g,b::` a line")
    problems.extend(f"{path.name}: {fault}" for fault in faults)
    if faults:
        return None
    labels = {VOC_BORDER: IGNORE} | {rgb: names.index(n) if n in names else IGNORE for rgb, n in entries.items()}
    return ColourMap(names, labels)


def is_colour_table(path: Path) -> bool:
    """Return whether a CSV has columns for a name and a colour, as `class_dict.csv` has: name,r,g,b."""
    names = read_header(path) if path.suffix.lower() == ".csv" else ()
    channels = sorted(name[0] for name in names if name in _RGB)
    return len(names) > 3 and channels == ["b", "g", "r"]


def _read_lines(path: Path, problems: list[str]) -> list[tuple[int, str]]:
    """Return the numbered lines of a map, rows of a table as `name:r,g,b`; none, and a problem, if unreadable."""
    if not is_colour_table(path):
        lines = (read_text(path, problems, path.name) or "").splitlines()
        return [pair for pair in enumerate(lines, 1) if not re.match(r"\s*(#|$)", pair[1])]
    rows = read_table_rows(path, path.name, (), problems)
    header = read_header(path)
    rgb = sorted((column for column in header if column in _RGB), reverse=True)
    others = [column for column in header if column not in _RGB]
    name = next((column for column in others if re.search("name|class|label", column)), others[0])
    return [(number, f"{row[name]}:{','.join(row[column] for column in rgb)}") for number, row in rows]


def translate_colours(pixels: npt.NDArray[np.uint8], colours: ColourMap) -> npt.NDArray[np.uint8]:
    """Translate an image of colours, (H, W, 3) uint8, to labels, (H, W) uint8.

    Raises:
        UnreadableFileError: a colour is missing from the map.
    """
    known = sorted((r << 16 | g << 8 | b, label) for (r, g, b), label in colours.labels.items())
    known_keys, known_labels = np.array(known, dtype=np.uint32).T
    labels = np.empty(pixels.shape[:2], dtype=np.uint8)
    rows = max(1, (1 << 22) // max(1, pixels.shape[1]))  # a few million pixels at a time, as keys take four bytes each
    for top in range(0, len(pixels), rows):
        part = pixels[top : top + rows].astype(np.uint32)
        keys = part[..., 0] << 16 | part[..., 1] << 8 | part[..., 2]
        place = np.minimum(np.searchsorted(known_keys, keys), len(known) - 1)
        missing = known_keys[place] != keys
        if missing.any():
            y, x = np.argwhere(missing)[0]
            colour = tuple(int(value) for value in pixels[top + y, x])
            raise UnreadableFileError(
                f"colours must be those of the map of colours, found {colour} at x={x}, y={top + y}; add it to the "
                "map, or export the mask again without smoothing"
            )
        labels[top : top + rows] = known_labels[place]
    return labels
