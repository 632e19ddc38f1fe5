"""Read the text files of a data set, JSON, `classes.txt` and `split.csv`, or report their problems."""

from __future__ import annotations

import json
import os
import unicodedata
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from sweeper.core.paths import open_regular_file
from sweeper.core.records import SplitName
from sweeper.core.spreadsheet import TableError, decode_text, parse_table
from sweeper.core.text import FORMULA

SPLITS: dict[str, SplitName] = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
"""Names of folders and files that define a split, and what tables call it."""
MAX_CLASSES = 255
"""Labels 0–254; 255 means ignore."""
MAX_TABLE = 1 << 25
"""Most bytes of a table or list of names; a larger file is something else."""
ONE_IMAGE = 1 << 27
"""Most bytes of a JSON about one image, which may embed the image."""
ALL_IMAGES = 1 << 30
"""Most bytes of a JSON about all images: COCO's training annotations are half of that."""

POINTER = b"version https://git-lfs.github.com/spec/"
"""Beginning of the text file that Git LFS leaves in place of a file that was not fetched."""
POINTER_STEP = "found a Git LFS pointer; run `git lfs pull` in the repository"


def point_to_lines(step: str, section: str) -> str:
    """Return a next step, with the section of docs/formats.md that has its lines of Python."""
    return f"{step} (docs/formats.md#{section} has the lines that do)"


class UnreadableFileError(Exception):
    """Problem of one file: rule, value found, next step; the caller adds the file's name."""


class SplitAssignment(NamedTuple):
    """Split and group of one image in `split.csv`."""

    split: SplitName | None = None
    group: str | None = None


def normalise_text(text: str) -> str:
    """Return Unicode's composed form, so that names from different systems compare equal."""
    return unicodedata.normalize("NFC", text)


def open_file(path: Path) -> BinaryIO:
    """Open a file of a data set for reading; all of them are opened here.

    That no link leads out of the data folder is checked earlier, when its files are listed (`DataSource.listing`).

    Raises:
        UnreadableFileError: it is not a regular file, or cannot be opened.
    """
    try:
        return open_regular_file(path)
    except OSError as error:
        raise _explain_unreadable(error) from error


def _explain_unreadable(error: OSError) -> UnreadableFileError:
    return UnreadableFileError(f"cannot be read ({error.strerror}); check where the link leads, or the permissions")


def read_beginning(path: Path, size: int) -> bytes:
    """Return the first bytes of a file, at most `size`; b"" if it cannot be read."""
    try:
        with open_file(path) as file:
            return file.read(size)
    except (OSError, UnreadableFileError):
        return b""


def _read_text(path: Path, limit: int) -> str:
    """Return the text of a file of at most `limit` bytes.

    Raises:
        UnreadableFileError: it is not UTF-8, too large, or cannot be read.
    """
    try:
        with open_file(path) as file:
            size = os.fstat(file.fileno()).st_size
            raw = b"" if size > limit else file.read(limit + 1)
        if (size := max(size, len(raw))) > limit:
            raise UnreadableFileError(
                f"must be {limit >> 20} MiB at most, found {size >> 20} MiB; divide it, or name the right file"
            )
        if raw.startswith(POINTER):
            raise UnreadableFileError(f"must be the file itself, {POINTER_STEP}")
        return decode_text(raw)
    except UnicodeDecodeError as error:
        raise UnreadableFileError(
            f"must be UTF-8 text, found byte {error.object[error.start]:#04x}; save it as UTF-8"
        ) from error
    except OSError as error:
        raise _explain_unreadable(error) from error


def read_text(path: Path, problems: list[str], where: str, limit: int = MAX_TABLE) -> str | None:
    """Return the text of a file of at most `limit` bytes; None, and a problem of `where`, if unreadable."""
    try:
        return _read_text(path, limit)
    except UnreadableFileError as error:
        problems.append(f"{where}: {error}")
        return None


def load_json(path: Path, limit: int = ONE_IMAGE) -> Any:
    """Return the data of a JSON file of at most `limit` bytes.

    Raises:
        UnreadableFileError: not JSON, too large, or nested too deeply.
    """
    text = _read_text(path, limit)
    try:
        return json.loads(text)
    except (RecursionError, ValueError) as error:  # the first for lists in lists without end
        raise UnreadableFileError(f"must be JSON, found an error: {error}; export it again") from error


def read_classes(path: Path, problems: list[str]) -> tuple[str, ...] | None:
    """Read the class names of `classes.txt`, one per line in index order.

    Return None on faults, which are appended to `problems`.
    """
    text = read_text(path, problems, path.name)
    return None if text is None else check_name_list(path.name, text.rstrip().splitlines(), problems)


def check_name_list(
    where: str, lines: Sequence[str], problems: list[str], most: int = MAX_CLASSES
) -> tuple[str, ...] | None:
    """Return class names in index order; None, and problems of `where`, if they are invalid or more than `most`."""
    names = [normalise_text(line.strip()) for line in lines]
    faults = []
    for number, name in enumerate(names, 1):
        is_text = bool(name) and name.isprintable()
        is_repeated = name in names[: number - 1]
        if not is_text or is_repeated or name.startswith("#"):
            rule = "names must be printable and different, and no comments"
            faults.append(f"line {number}: {rule}, found {name!r}; correct it")
    fewest = most + 2 - MAX_CLASSES  # a list of one class less is without the background
    if not fewest <= len(names) <= most:
        faults.append(f"must name {fewest} to {most} classes, found {len(names)}; write one name per line from index 0")
    problems.extend(f"{where}: {fault}" for fault in faults)
    return None if faults else tuple(names)


def check_numbered_names(
    where: str, pairs: Iterable[tuple[object, object]], problems: list[str], most: int = MAX_CLASSES
) -> tuple[str, ...] | None:
    """Return class names by pairs of number and name, in any order; None, and problems, if they are invalid."""
    texts = sorted({(len(str(number)), str(number), str(name)) for number, name in pairs})
    if [number for _, number, _ in texts] == [*map(str, range(len(texts)))]:
        return check_name_list(where, [name for _, _, name in texts], problems, most)
    found = ", ".join(f"{number} {name}" for _, number, name in texts)
    problems.append(
        f"{where}: classes must be numbered from 0 without gaps, each with one name in all files (regions of several "
        f"cannot be read), found {found[:200]}; correct it"
    )
    return None


def read_header(path: Path) -> tuple[str, ...]:
    """Return a table's column names in lower case; () if it cannot be read."""
    lines = decode_text(read_beginning(path, 1 << 12), "ignore").splitlines() or [""]
    try:
        header = lines[: 2 if lines[0][:4].lower() == "sep=" else 1]
        return tuple(name.casefold() for name in parse_table("\n".join(header)).names)
    except TableError:
        return ()


def read_table_rows(
    path: Path, where: str, columns: Sequence[str], problems: list[str]
) -> list[tuple[int, dict[str, str]]]:
    """Return line number and cells by column (in lower case) of each row; none, and a problem of `where`, if invalid.

    All of `columns` must be there.
    """
    text = read_text(path, problems, where)
    if text is None:
        return []
    try:
        table = parse_table(text)
        names = [name.casefold() for name in table.names]
        if not {*columns} <= {*names} or len({*names}) < len(names):
            columns_text = ", ".join(table.names)[:200] or "nothing"
            raise TableError(f"must have the columns {' and '.join(columns)}, each once, found {columns_text}")
    except TableError as error:
        problems.append(f"{where}: {error}; correct it, or save it again as CSV with commas")
        return []
    return [(line, dict(zip(names, cells, strict=True))) for line, cells in table.rows]


def parse_assignment(row: Mapping[str, str], where: str, problems: list[str]) -> SplitAssignment | None:
    """Parse split and group in a table's row at `where`; None, and a problem, if the split is invalid.

    A group that looks like a formula may have a leading apostrophe, as reports write it.
    """
    split = row.get("split", "").strip().lower()
    if split not in ("", *SPLITS):
        problems.append(f"{where}: split must be train, val, test or empty, found {split!r}; correct it")
        return None
    group = normalise_text(row.get("group", "").strip())
    if group[:1] == "'" and group[1:].startswith(FORMULA):
        group = group[1:]
    return SplitAssignment(SPLITS.get(split), group or None)


def read_split_csv(path: Path, stems: Collection[str], problems: list[str]) -> dict[str, SplitAssignment]:
    """Read split and group of each stem from `split.csv`; faults are appended to `problems`.

    Columns are stem, and split (train, val, test or empty), group or both; others are ignored. Every stem of `stems`
    must have one row, and every row a stem. A stem that looks like a formula may have a leading apostrophe, as reports
    write it.
    """
    where, before = path.name, len(problems)
    second = min({"split", "group"} & {*read_header(path)}, default="split")
    rows = read_table_rows(path, where, ("stem", second), problems)
    if len(problems) > before:
        return {}
    sides: dict[str, SplitAssignment] = {}
    seen: set[str] = set()
    for line, row in rows:
        stem, at = normalise_text(row["stem"].strip()), f"{where}: line {line}"
        if stem not in stems and stem.removeprefix("'") in stems:
            stem = stem.removeprefix("'")
        if stem in seen or stem not in stems:
            problems.append(
                f"{at}: a row must have the stem of an image (without extension), each once, found {stem!r}; remove it"
            )
        elif (side := parse_assignment(row, at, problems)) is not None:
            sides[stem] = side
        seen.add(stem)
    problems.extend(
        f"{where}: every image has a row, found none for {stem!r}; add it (an empty split is assigned for you)"
        for stem in stems
        if stem not in seen
    )
    return sides
