"""Read tables as people and spreadsheets save them: commas, semicolons, tabs, UTF-8 or UTF-16, decimal commas."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence
from typing import NamedTuple

_NUMBER = re.compile(r"[+-]?(\d+|\d*[.,]\d+)(e[+-]?\d+)?|nan|inf|", re.IGNORECASE)
_THOUSANDS = re.compile(r"[+-]?[1-9]\d{0,2}(,\d{3})+")


class TableError(ValueError):
    """Problem of a table: the rule and the value found."""


class Table(NamedTuple):
    """The cells of a table as stripped texts."""

    names: tuple[str, ...]
    """Names of the columns, as written; columns without a name are left out."""
    rows: list[tuple[int, tuple[str, ...]]]
    """Number of the line, and a cell for each name; rows of empty cells are left out."""
    separator: str


def decode_text(raw: bytes, errors: str = "strict") -> str:
    """Decode a file: UTF-16 if its first bytes indicate it, else UTF-8.

    Raises:
        UnicodeDecodeError: if it is neither.
    """
    two = raw[:2]
    is_little = two == b"\xff\xfe" or two[1:] == b"\0"
    wide = "utf-16-le" if is_little else "utf-16-be"
    is_marked = two in (b"\xff\xfe", b"\xfe\xff") or b"\0" in two
    is_wide = len(raw) > 2 and is_marked
    return raw.decode(wide if is_wide else "utf-8", errors).removeprefix("\ufeff")


def parse_table(text: str) -> Table:
    """Parse a table; the separator is the one of `,` `;` tab and `|` that splits the header into most columns.

    A first line `sep=;` is Excel's, and no header.

    Raises:
        TableError: if a name occurs twice, a row is longer than the header, or a quote does not end.
    """
    before, text = (1, text.partition("\n")[2]) if text[:4].lower() == "sep=" else (0, text)
    first = next((line for line in text.splitlines() if line.strip()), "")
    separator = max(",;\t|", key=lambda mark: len(next(csv.reader([first], delimiter=mark), [])))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True, skipinitialspace=True)
    rows: list[tuple[int, tuple[str, ...]]] = []
    try:
        every = [(reader.line_num + before, tuple(map(str.strip, row))) for row in reader]
        lines = [(line, cells) for line, cells in every if any(cells)]
    except csv.Error as error:
        raise TableError(
            f"line {reader.line_num + before}: must be comma-separated text, or with semicolons or tabs ({error})"
        ) from error
    header = lines[0][1] if lines else ()
    names = tuple(filter(None, header))
    twice = [name for name in names if names.count(name) > 1]
    if twice:
        raise TableError(f"column {twice[0]!r} must occur once")
    for line, cells in lines[1:]:
        if any(cells[len(header) :]):
            raise TableError(f"line {line} must have {len(header)} entries like the header, found {len(cells)}")
        padded = (*cells, *[""] * (len(header) - len(cells)))
        rows.append((line, tuple(cell for cell, name in zip(padded, header, strict=False) if name)))
    return Table(names, rows, separator)


def replace_decimal_commas(cells: Sequence[str], separator: str) -> Sequence[str]:
    """Replace decimal commas in a column by points, if all of its fractions have commas; else return the cells.

    In comma-separated text, 1,234 may be a thousand: if all numbers look so, they stay.
    """
    commas = [cell for cell in cells if "," in cell]
    unclear = separator == "," and all(_THOUSANDS.fullmatch(cell) for cell in commas)
    if not commas or unclear:
        return cells
    if any("." in cell or not _NUMBER.fullmatch(cell) for cell in cells):
        return cells
    return [cell.replace(",", ".") for cell in cells]
