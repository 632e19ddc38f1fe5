"""Formats of annotations: one module each, and the choice among them.

To add one: a module with `detect(place)`, `read(place)` and `FORMAT`, a line in `FORMATS`, a section in
docs/formats.md.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from sweeper.core.errors import DataError, UsageError
from sweeper.data.formats import cityscapes, coco, folder, labelme, manifest, nnunet, voc, yolo
from sweeper.data.formats.base import Format, Place
from sweeper.data.label_values import some
from sweeper.data.text_tables import shown

FORMATS: dict[str, Format] = {
    "folder": folder.FORMAT,
    "nnunet": nnunet.FORMAT,
    "voc": voc.FORMAT,
    "cityscapes": cityscapes.FORMAT,
    "yolo": yolo.FORMAT,
    "coco": coco.FORMAT,
    "labelme": labelme.FORMAT,
    "manifest": manifest.FORMAT,
}
"""Name → reader. The first that finds something wins, so image and mask folders win over what lies beside them."""


_ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".7z", ".rar")


class Found(NamedTuple):
    """The reader that was chosen, and why."""

    name: str
    format: Format
    line: str
    """What was found, in one line for people."""


def choose(place: Place, asked: str | None) -> Found:
    """The reader that `asked` names, else the first that finds its files.

    Raises:
        DataError: nothing that can be read is there.
        UsageError: there is no such format.
    """
    if asked is not None and asked not in FORMATS:
        raise UsageError(f"--format must be one of {', '.join(FORMATS)}, got {shown(asked)!r}")
    _check_place(place)
    found = {name: line for name, fmt in FORMATS.items() if (line := fmt.detect(place)) is not None}
    if asked is not None:
        if asked not in found:
            raise DataError(
                shown(place.root),
                [
                    f"{shown(place.root)}: must hold {FORMATS[asked].text} for --format {asked}, found "
                    f"{_contents(place.root)}; see docs/formats.md"
                ],
            )
        return Found(asked, FORMATS[asked], f"{found[asked]}, as --format {asked} asks")
    if not found:
        raise DataError(shown(place.root), _nothing(place.root))
    name = next(iter(found))
    others = f"; found too: {_listed(found)}, which --format NAME would read" if len(found) > 1 else ""
    return Found(name, FORMATS[name], f"format {name}: {found[name]}{others}")


def _listed(found: Iterable[str]) -> str:
    return ", ".join([*found][1:])


def _check_place(place: Place) -> None:
    root = place.root
    if not root.is_dir():
        what = "a file" if root.exists() else "nothing"
        if root.is_file() and root.suffix.lower() in _ARCHIVES:
            raise DataError(
                str(root), [f"{shown(root)}: is an archive, and must be a folder; unpack it, and name that"]
            )
        raise DataError(str(root), [f"{shown(root)}: must be a folder, found {what} there; {folder.LAYOUT}"])


def _nothing(root: Path) -> list[str]:
    """Problems of a folder in which no format finds anything."""
    others = "; ".join(f"{name}: {fmt.text}" for name, fmt in FORMATS.items() if name != "folder")
    return [
        f"{what} in {shown(root)}, which holds {_contents(root)}; {folder.LAYOUT}; or {others}"
        for what in folder.missing(root)
    ]


def _contents(root: Path) -> str:
    return some(sorted(shown(path.name) for path in root.iterdir() if not path.name.startswith("."))) or "nothing"
