"""Tables of scores from files: CSV and parquet, and the trees of nnU-Net."""

from __future__ import annotations

import csv
from pathlib import Path

from sweeper.judging.score_table import Columns, Scores, ScoresError


def read_scores(path: Path) -> Scores:
    """The scores of a file or folder.

    Raises:
        ScoresError: if nothing there can be read as scores.
    """
    if path.is_dir():
        from sweeper.judging.nnunet import read_tree

        return read_tree(path)
    if not path.exists():
        raise ScoresError(str(path), ["a file of scores, or a folder of nnU-Net results, must be there, got nothing"])
    read = _parquet if path.suffix.lower() in (".parquet", ".pq") else _csv
    return Scores(read(path), str(path))


def _csv(path: Path) -> Columns:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            start = file.read(4096)
            file.seek(0)
            mark = max(",;\t", key=start.split("\n")[0].count)
            header, *rows = list(csv.reader(file, delimiter=mark)) or [[]]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ScoresError(str(path), [f"a CSV file in UTF-8, or parquet, must be given, got {error}"]) from error
    names = [name.strip() for name in header]
    twice = sorted({name for name in names if names.count(name) > 1})
    rows = [row for row in rows if row]
    uneven = [number for number, row in enumerate(rows, start=1) if len(row) != len(names)]
    problems = [f"column {name!r} must occur once" for name in twice]
    if uneven:
        others = f", and {len(uneven) - 1} more" if len(uneven) > 1 else ""
        problems.append(f"row {uneven[0]} must have {len(names)} entries like the header{others}")
    if problems:
        raise ScoresError(str(path), problems)
    columns = zip(*rows, strict=True) if rows else ([] for _ in names)
    return dict(zip(names, columns, strict=True))


def _parquet(path: Path) -> Columns:
    from pyarrow import ArrowException, parquet

    try:
        columns: Columns = parquet.read_table(path).to_pydict()
    except (OSError, ArrowException) as error:
        raise ScoresError(str(path), [f"a parquet file must be readable, got {error}"]) from error
    return columns
