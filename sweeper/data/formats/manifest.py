"""A CSV of pairs: columns `image`, `mask`, and optionally `split` and `group`, paths relative to the file.

Masks are those of image and mask folders (`sweeper.data.formats.folder`).
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from sweeper.data.formats.base import Format, Layout, Place, Reading, Sample, drop_repeated, find_image, unique_stems
from sweeper.data.formats.patterns import mask_file
from sweeper.data.text_tables import Side, header_of, side_of, table_rows


def find(place: Place) -> Layout | None:
    """A CSV with the columns image and mask: manifest.csv, or another in the root."""
    path = _file(place)
    return None if path is None else Layout(f"the pairs of {place.name(path)}", partial(_read, place, path))


def _file(place: Place) -> Path | None:
    if place.entry is not None:
        return place.entry if place.entry.suffix.lower() == ".csv" else None
    tables = [path for path in place.files if path.parent == place.root and path.suffix.lower() == ".csv"]
    found = [path for path in tables if {"image", "mask"} <= set(header_of(path))]
    return next((path for path in found if path.name == "manifest.csv"), found[0] if found else None)


def _read(place: Place, path: Path) -> Reading:
    """Read the table."""
    rows = _rows(place, path)
    stems = unique_stems(place, [image for image, _, _ in rows])
    samples = [
        Sample(stem, place.name(image), (image,), mask_file(place, mask), place.name(mask), side)
        for (image, mask, side), stem in zip(rows, stems, strict=True)
    ]
    where = place.name(path)
    return Reading(drop_repeated(place, samples), place.names, place=where, mask_place=where)


def _rows(place: Place, path: Path) -> list[tuple[Path, Path, Side]]:
    """Image, mask and side of each row; faults become problems."""
    rows: list[tuple[Path, Path, Side]] = []
    for line, row in table_rows(path, place.name(path), ("image", "mask"), place.problems) or ():
        where = f"{place.name(path)}: line {line}"
        image, mask = (
            find_image(place, (row[key] or "").strip(), [path.parent], f"{where}: {key}") for key in ("image", "mask")
        )
        side = side_of(row, where, place.problems)
        if image and mask and side is not None:
            rows.append((image, mask, side))
    return rows


FORMAT = Format("a CSV with the columns image and mask", find)
