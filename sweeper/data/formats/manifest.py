"""A CSV of pairs: columns `image`, `mask`, and optionally `split` and `group`, paths relative to the file.

Masks are read like those of image and mask folders (`sweeper.data.formats.patterns`).
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from sweeper.data.formats.annotation_files import find_image
from sweeper.data.formats.base import (
    AnnotationFormat,
    DataSource,
    FormatLayout,
    ReadResult,
    Sample,
    drop_repeated,
    make_unique_stems,
)
from sweeper.data.formats.patterns import read_mask_file
from sweeper.data.text_tables import SplitAssignment, parse_assignment, read_header, read_table_rows


def find_manifest(place: DataSource) -> FormatLayout | None:
    """Find a CSV with the columns image and mask: manifest.csv, or another in the root."""
    every = place.files if place.entry is None else (place.entry,)
    tables = [path for path in every if path.parent == place.root and path.suffix.lower() == ".csv"]
    if place.entry is None:
        tables = [path for path in tables if {"image", "mask"} <= {*read_header(path)}]
    if not tables:
        return None
    path = next((path for path in tables if path.name == "manifest.csv"), tables[0])
    return FormatLayout(f"the pairs of {place.format_name(path)}", partial(_read_manifest, place, path))


def _read_manifest(place: DataSource, path: Path) -> ReadResult:
    """Read the table."""
    rows = _read_rows(place, path)
    stems = make_unique_stems(place, [image for image, _, _ in rows])
    samples = []
    for (image, mask, side), stem in zip(rows, stems, strict=True):
        read = partial(read_mask_file, place, mask, None)
        samples.append(Sample(stem, place.format_name(image), (image,), read, place.format_name(mask), side))
    where = place.format_name(path)
    return ReadResult(drop_repeated(place, samples), place.names, place=where, mask_place=where)


def _read_rows(place: DataSource, path: Path) -> list[tuple[Path, Path, SplitAssignment]]:
    """Return image, mask and side of each row; faults become problems."""
    rows: list[tuple[Path, Path, SplitAssignment]] = []
    for line, row in read_table_rows(path, place.format_name(path), ("image", "mask"), place.problems) or ():
        where = f"{place.format_name(path)}: line {line}"
        image, mask = (
            find_image(place, (row[key] or "").strip(), [path.parent], f"{where}: {key}") for key in ("image", "mask")
        )
        side = parse_assignment(row, where, place.problems)
        if image and mask and side is not None:
            rows.append((image, mask, side))
    return rows


FORMAT = AnnotationFormat("a CSV with the columns image and mask", find_manifest)
