"""Readers of scores: CSV and parquet files, nnU-Net's trees, trainers' logs, MLflow's experiments."""

from __future__ import annotations

from pathlib import Path

from sweeper.core.errors import UsageError
from sweeper.core.spreadsheet import TableError, decode_text, parse_table, replace_decimal_commas
from sweeper.core.text import suggest_path
from sweeper.judging.rows import Columns, ScoreRequest, ScoreRows, ScoresError

MLFLOW, WANDB = "mlflow:", "wandb:"
"""Prefixes of the name of an experiment, and of ENTITY/PROJECT."""


def read_score_file(source: str, request: ScoreRequest) -> ScoreRows:
    """Read the scores of a file, a folder, `mlflow:EXPERIMENT` or `wandb:ENTITY/PROJECT`.

    Raises:
        ScoresError: if there are no readable scores.
        UsageError: if an option does not apply to this source, or a server does not answer.
    """
    if source.startswith(WANDB):
        from sweeper.judging.run_logs import read_wandb_project

        return read_wandb_project(source.removeprefix(WANDB), request)
    path = Path(source)
    if request.where and not source.startswith(MLFLOW):
        raise UsageError(f"--where is for `{MLFLOW}EXPERIMENT` and `{WANDB}ENTITY/PROJECT`, got {source}; leave it out")
    if path.is_dir():
        from sweeper.judging.nnunet import read_tree
        from sweeper.judging.run_logs import find_logs, read_logs

        if next(path.rglob("summary.json"), None) is None and find_logs(path):
            return read_logs(path, request)
    if source.startswith(MLFLOW):
        from sweeper.judging.mlflow_runs import read_runs

        return read_runs(source.removeprefix(MLFLOW), request)
    if request.at is not None:
        raise UsageError(f"--at is for logs of trainings, got {source}; leave it out")
    if path.is_dir():
        return read_tree(path)
    if not path.exists():
        rule = "a file of scores, or a folder of nnU-Net results or of logs, must be there, got nothing"
        raise ScoresError(str(path), [rule + suggest_path(path)])
    return ScoreRows(read_table(path), str(path))


def read_table(path: Path) -> Columns:
    """Read the columns of a CSV or parquet file.

    Raises:
        ScoresError: if it is neither, or has no columns.
    """
    columns = _read_parquet(path) if path.suffix.lower() in (".parquet", ".pq") else _read_csv(path)
    if not any(str(name).strip() for name in columns):
        rule = "a table must begin with the names of its columns, got an empty file"
        raise ScoresError(str(path), [f"{rule}; write method,seed,image,score, and a row below for each score"])
    return columns


def _read_csv(path: Path) -> Columns:
    try:
        table = parse_table(decode_text(path.read_bytes()))
    except (OSError, UnicodeDecodeError) as error:
        raise ScoresError(str(path), [f"a CSV file in UTF-8, or parquet, must be given, got {error}"]) from error
    except TableError as error:
        raise ScoresError(str(path), [str(error)]) from error
    columns = zip(*(cells for _, cells in table.rows), strict=True) if table.rows else ([] for _ in table.names)
    return {
        name: replace_decimal_commas(cells, table.separator) for name, cells in zip(table.names, columns, strict=True)
    }


def _read_parquet(path: Path) -> Columns:
    from pyarrow import ArrowException, parquet

    try:
        columns: Columns = parquet.read_table(path).to_pydict()
    except (OSError, ArrowException) as error:
        raise ScoresError(str(path), [f"a parquet file must be readable, got {error}"]) from error
    return columns
