"""Readers of scores: CSV and parquet files, nnU-Net's trees, MLflow's experiments."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from sweeper.core.errors import UsageError
from sweeper.core.spreadsheet import TableError, decode_text, parse_table, replace_decimal_commas
from sweeper.core.text import suggest_path
from sweeper.judging.request import ScoreRequest
from sweeper.judging.rows import ScoreRows, ScoresError

MLFLOW = "mlflow:"
"""Prefix of the name of an experiment."""


def read_score_file(source: str, request: ScoreRequest) -> ScoreRows:
    """Read the scores of a file, a folder or `mlflow:EXPERIMENT`.

    Raises:
        ScoresError: if there are no readable scores.
        UsageError: if an option does not apply to this source, or a server does not answer.
    """
    if source.startswith(MLFLOW):
        from sweeper.judging.mlflow_runs import read_runs

        return read_runs(source.removeprefix(MLFLOW), request)
    if request.where:
        raise UsageError(f"--where is for {MLFLOW}EXPERIMENT, got {source}; leave it out")
    path = Path(source)
    if path.is_dir():
        from sweeper.judging.nnunet import read_tree

        return read_tree(path, request)
    return ScoreRows(read_table(path), str(path))


def read_table(path: Path) -> pd.DataFrame:
    """Read the columns of a CSV or parquet file.

    Raises:
        ScoresError: if it is neither, or has no columns.
    """
    if not path.is_file():
        rule = (
            f"a regular file of scores, or a folder of nnU-Net's results, must be there, got none{suggest_path(path)}"
        )
        rule += f"; {MLFLOW}{path} would be an experiment, `sweeper report` is for studies"
        raise ScoresError(str(path), [rule], refused=str(path))
    try:
        if path.suffix.lower() in (".parquet", ".pq"):
            return pd.read_parquet(path)
        table = parse_table(decode_text(path.read_bytes()))
    except (OSError, ValueError, TableError) as error:
        rule = f"a CSV file in UTF-8, or parquet, must be given, got {error}"
        step = (
            "pandas makes a row of each score of a pivot table with two rows of names: `table = pd.read_csv("
            f"{str(path)!r}, header=[0, 1], index_col=0).stack([0, 1]).rename('score').reset_index()`"
        )
        raise ScoresError(str(path), [f"{rule}; {step}"]) from error
    if not table.names:
        rule = "a table must begin with the names of its columns, got an empty file"
        raise ScoresError(str(path), [f"{rule}; write method,seed,image,score, and a row below for each score"])
    cells = pd.DataFrame([row for _, row in table.rows], columns=list(table.names), dtype=object)
    return pd.DataFrame({name: replace_decimal_commas(cells[name].tolist(), table.separator) for name in cells})
