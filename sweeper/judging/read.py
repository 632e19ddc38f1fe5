"""Scores from where they lie: CSV and parquet files, trees of nnU-Net, experiments of MLflow."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sweeper.core import paths
from sweeper.core.errors import UsageError
from sweeper.judging.rows import Asked, Columns, Scores, ScoresError

MLFLOW = "mlflow:"
"""What is put before the name of an experiment."""


@dataclass(frozen=True)
class Runs:
    """Which runs of an MLflow experiment count."""

    tracking_uri: str = paths.TRACKING
    where: Mapping[str, str] = field(default_factory=dict)
    """Parameter, tag or `status` → the value that they have."""


def read_scores(source: str, asked: Asked, runs: Runs | None = None) -> Scores:
    """The scores of a file, a folder, or `mlflow:EXPERIMENT`.

    Args:
        source: which.
        asked: what is asked of them.
        runs: which runs of an experiment count, and where MLflow is.

    Raises:
        ScoresError: if nothing there can be read as scores.
        UsageError: if `runs` are told of what is no experiment, or MLflow does not answer.
    """
    runs = runs or Runs()
    if source.startswith(MLFLOW):
        from sweeper.judging.mlflow_runs import read_runs

        return read_runs(source.removeprefix(MLFLOW), runs, asked)
    if runs.where:
        raise UsageError(f"--where is for `{MLFLOW}EXPERIMENT`, got {source}; leave it out")
    path = Path(source)
    if path.is_dir():
        from sweeper.judging.nnunet import read_tree

        return read_tree(path)
    if not path.exists():
        raise ScoresError(str(path), ["a file of scores, or a folder of nnU-Net results, must be there, got nothing"])
    return Scores(read_table(path), str(path))


def read_table(path: Path) -> Columns:
    """The columns of a CSV or parquet file.

    Raises:
        ScoresError: if it is none.
    """
    return _parquet(path) if path.suffix.lower() in (".parquet", ".pq") else _csv(path)


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
