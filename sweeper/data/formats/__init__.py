"""Formats of annotations: one module each, and the choice of the format.

To add one, write a module with a finder and `FORMAT`, a line in `FORMATS`, and a section in docs/formats.md.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from sweeper.core.errors import DataError, UsageError
from sweeper.core.text import abbreviate, suggest_correction, suggest_path
from sweeper.data.formats import cityscapes, coco, guesses, labelme, nnunet, patterns, voc, yolo
from sweeper.data.formats.base import AnnotationFormat, DataSource, FormatLayout, list_entries
from sweeper.data.formats.unread import explain_unread, list_contents

FORMATS: dict[str, AnnotationFormat] = {
    "folder": guesses.FOLDER,
    "nnunet": nnunet.FORMAT,
    "voc": voc.FORMAT,
    "cityscapes": cityscapes.FORMAT,
    "yolo": yolo.FORMAT,
    "coco": coco.FORMAT,
    "labelme": labelme.FORMAT,
    "manifest": patterns.MANIFEST,
    "pairs": guesses.PAIRS,
}
"""Name → reader. The first that finds something wins, so that image and mask folders win over other annotations next to
them; guesses by names come last."""


_GUESS = "pairs"
_LEVELS = 5
"""Most nested folders with a single subfolder that are searched."""
_TEXTS = (".md", ".pdf", "readme", "license", "licence", "copying")


class FormatMatch(NamedTuple):
    """The chosen reader, and the reason."""

    name: str
    layout: FormatLayout
    """Layout, with a line of text that gives the reason."""
    place: DataSource
    """Source: the given folder, or its only subfolder."""


def choose_format(place: DataSource, requested: str | None) -> FormatMatch:
    """Return the reader that is requested, else the first that finds its files.

    Raises:
        DataError: nothing readable was found.
        UsageError: there is no such format.
    """
    allowed = [*FORMATS] if place.patterns is None else [patterns.NAME]
    if requested not in (None, *allowed):
        near = suggest_correction(str(requested), allowed)
        raise UsageError(f"--format must be one of {', '.join(allowed)}, got {requested!r}{near}")
    root = place.root
    if not root.is_dir():
        if root.is_file():
            raise DataError(str(root), [explain_unread(replace(place, root=root.parent, entry=root))])
        near = suggest_path(root, lambda path: path.is_dir() or path.suffix == ".zip")
        rule = f"{root}: must be a folder or a zip file, found nothing there{near or '; correct the path'}"
        raise DataError(str(root), [rule], refused=str(root))
    if place.patterns is not None:
        line = f"--images {place.patterns.images} --masks {place.patterns.masks}"
        read = partial(patterns.read_patterns, place, place.patterns)
        return FormatMatch(patterns.NAME, FormatLayout(line, read), place)
    at, layouts = place, dict[str, FormatLayout]()
    for inner in _list_only_folders(place):
        if below := _detect_formats(inner, requested):
            at, layouts = inner, below
        if layouts.keys() - ({_GUESS} - {requested}):
            break
    if not layouts:
        raise DataError(place.title, [_explain_nothing_found(place, requested)])
    (name, layout), *rest = layouts.items()
    where = "" if at is place else f"in {at.root.relative_to(place.root)}/, "
    others = f"; found too: {', '.join(other for other, _ in rest)}, which --format NAME would read" if rest else ""
    return FormatMatch(name, layout._replace(line=f"{where}format {name}: {layout.line}{others}"), at)


def _detect_formats(place: DataSource, requested: str | None) -> dict[str, FormatLayout]:
    """Return what each reader found, or the requested one; names are guessed only if nothing else is found."""
    turns = [[requested]] if requested else [[*FORMATS.keys() - {_GUESS}], [_GUESS]]
    for names in turns:
        found = {name: FORMATS[name].find(place) for name in FORMATS if name in names}
        layouts = {name: one for name, one in found.items() if one is not None}
        if layouts:
            return layouts
    return {}


def _list_only_folders(place: DataSource) -> Iterator[DataSource]:
    """Yield a folder, the only folder in it, as in many archives, and so on, ignoring texts such as README."""
    for _ in range(_LEVELS + 1):
        yield place
        contents = [place.root / name for name, _ in list_entries(place.root)]
        folders = [path for path in filter(Path.is_dir, contents) if not path.is_symlink()]
        texts = [path for path in contents if not {path.suffix.lower(), path.stem.lower()}.isdisjoint(_TEXTS)]
        is_alone = len(folders) == 1 and len(texts) + 1 == len(contents)
        if place.entry is not None or not is_alone:
            return
        place = replace(place, root=folders[0], called=place.name_of_set, above=f"{place.above}{folders[0].name}/")


def _explain_nothing_found(place: DataSource, requested: str | None) -> str:
    """Return the problem of a folder in which no format, or not the requested one, is found."""
    if requested:
        rule = f"must hold {FORMATS[requested].text} for --format {requested}"
        return f"{place.title}: {rule}, found {list_contents(place)}; see docs/formats.md"
    if proposal := guesses.propose(place):
        return f"{place.title}: {proposal}"
    return explain_unread(place)
