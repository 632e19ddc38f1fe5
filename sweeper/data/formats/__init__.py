"""Formats of annotations: one module each, and the choice among them.

To add one: a module with `find(place)` and `FORMAT`, a line in `FORMATS`, a section in docs/formats.md.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from sweeper.core.errors import DataError, UsageError
from sweeper.data.formats import cityscapes, coco, guesses, labelme, manifest, nnunet, patterns, voc, yolo
from sweeper.data.formats.base import AnnotationFormat, DataSource, FormatLayout
from sweeper.data.formats.other_tools import describe_missing, recognise_export
from sweeper.data.label_values import abbreviate
from sweeper.data.text_tables import escape_for_display

FORMATS: dict[str, AnnotationFormat] = {
    "folder": guesses.FOLDER,
    "nnunet": nnunet.FORMAT,
    "voc": voc.FORMAT,
    "cityscapes": cityscapes.FORMAT,
    "yolo": yolo.FORMAT,
    "coco": coco.FORMAT,
    "labelme": labelme.FORMAT,
    "manifest": manifest.FORMAT,
    "pairs": guesses.PAIRS,
}
"""Name → reader. The first that finds something wins, so image and mask folders win over what lies beside them;
guesses by names come last."""


_GUESS = "pairs"
_LEVELS = 5
"""Folders that hold one folder alone, and are looked into."""
_TEXTS = ("readme", "license", "licence", "copying")


class FormatMatch(NamedTuple):
    """The reader that was chosen, and why."""

    name: str
    layout: FormatLayout
    """With a line for people that says why."""
    place: DataSource
    """Where: what was named, or the one folder in it."""


def choose_format(place: DataSource, asked: str | None) -> FormatMatch:
    """The reader that `asked` names, else the first that finds its files.

    Raises:
        DataError: nothing that can be read is there.
        UsageError: there is no such format.
    """
    if place.patterns is not None:
        if asked not in (None, patterns.NAME):
            raise UsageError(
                f"--format {escape_for_display(asked)} and --images with --masks exclude each other; leave one of "
                "them out"
            )
        _check_place(place)
        return FormatMatch(patterns.NAME, patterns.make_pattern_layout(place), place)
    if asked is not None and asked not in FORMATS:
        raise UsageError(f"--format must be one of {', '.join(FORMATS)}, got {escape_for_display(asked)!r}")
    _check_place(place)
    at, found = place, _detect_formats(place, asked)
    inner = _find_only_folder(place)
    for _ in range(_LEVELS):
        if inner is None or (found.keys() - {_GUESS} if asked is None else asked in found):
            break
        if below := _detect_formats(inner, asked):
            at, found = inner, below
        inner = _find_only_folder(inner)
    where = "" if at is place else f"in {escape_for_display(at.root.relative_to(place.root))}/, "
    if asked is not None:
        if asked not in found:
            rule = f"must hold {FORMATS[asked].text} for --format {asked}"
            found_there = f"found {_describe_contents(place.root)}; see docs/formats.md"
            raise DataError(place.title, [f"{place.title}: {rule}, {found_there}"])
        return FormatMatch(asked, found[asked]._replace(line=f"{where}format {asked}: {found[asked].line}"), at)
    if not found:
        raise DataError(place.title, [_explain_nothing_found(place)])
    name, layout = next(iter(found.items()))
    others = f"; found too: {', '.join([*found][1:])}, which --format NAME would read" if len(found) > 1 else ""
    return FormatMatch(name, layout._replace(line=f"{where}format {name}: {layout.line}{others}"), at)


def _detect_formats(place: DataSource, asked: str | None) -> dict[str, FormatLayout]:
    """What each reader found; names are guessed at where nothing else is found, or that is asked for."""
    found = {name: one for name, fmt in FORMATS.items() if name != _GUESS and (one := fmt.find(place)) is not None}
    if (not found or asked == _GUESS) and (one := FORMATS[_GUESS].find(place)) is not None:
        found[_GUESS] = one
    return found


def _find_only_folder(place: DataSource) -> DataSource | None:
    """The one folder in a folder that holds nothing else, as archives are made; a text for people may lie beside it."""
    if place.entry is not None:
        return None
    there = [path for path in place.root.iterdir() if not path.name.startswith(".") and path.name != "__MACOSX"]
    folders = [path for path in there if path.is_dir() and not path.is_symlink()]
    texts = [path for path in there if path.suffix.lower() in (".md", ".pdf") or path.stem.lower() in _TEXTS]
    alone = len(folders) == 1 and len(texts) + 1 == len(there)
    return replace(place, root=folders[0], called=place.name_of_set) if alone else None


def _check_place(place: DataSource) -> None:
    root = place.root
    if not root.is_dir():
        what = "a file" if root.exists() else "nothing"
        raise DataError(
            str(root),
            [f"{escape_for_display(root)}: must be a folder or a zip file, found {what} there; {guesses.LAYOUT}"],
        )


def _explain_nothing_found(place: DataSource) -> str:
    """The problem of a folder in which no format finds anything."""
    if (export := recognise_export(place)) is not None:
        return export
    root = place.root
    others = "; ".join(f"{name}: {fmt.text}" for name, fmt in FORMATS.items() if name not in ("folder", _GUESS))
    missing, contents = describe_missing(root), _describe_contents(root)
    return f"{missing} in {place.title}, which holds {contents}; {guesses.LAYOUT}; or {others}"


def _describe_contents(root: Path) -> str:
    return (
        abbreviate(sorted(escape_for_display(path.name) for path in root.iterdir() if not path.name.startswith(".")))
        or "nothing"
    )
