"""Readers of scores: CSV and parquet files, nnU-Net's trees, trainers' logs, MLflow's experiments."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from sweeper.core import paths
from sweeper.core.errors import UsageError
from sweeper.core.spreadsheet import TableError, decode_text, parse_table, replace_decimal_commas
from sweeper.judging.rows import Columns, ScoreRequest, ScoreRows, ScoresError

MLFLOW = "mlflow:"
"""Prefix of an experiment's name."""


@dataclass(frozen=True)
class RunSelection:
    """Selection of runs of an MLflow experiment."""

    tracking_uri: str = paths.TRACKING
    where: Mapping[str, str] = field(default_factory=dict)
    """Parameter, tag or `status` → the value that they have."""


def read_score_file(source: str, request: ScoreRequest, runs: RunSelection | None = None) -> ScoreRows:
    """Return the scores of a file, a folder, or `mlflow:EXPERIMENT`.

    Args:
        source: which.
        request: what is asked of them.
        runs: which runs of an experiment count, and where MLflow is.

    Raises:
        ScoresError: if nothing there can be read as scores.
        UsageError: if `runs` is given for what is no experiment, or MLflow does not answer.
    """
    runs = runs or RunSelection()
    if source.startswith(MLFLOW):
        from sweeper.judging.mlflow_runs import read_runs

        return read_runs(source.removeprefix(MLFLOW), runs, request)
    if runs.where:
        raise UsageError(f"--where is for `{MLFLOW}EXPERIMENT`, got {source}; leave it out")
    path = Path(source)
    if path.is_dir():
        from sweeper.judging.nnunet import read_tree
        from sweeper.judging.run_logs import find_logs, read_logs

        is_nnunet = next(path.rglob("summary.json"), None) is not None
        return read_logs(path, request) if not is_nnunet and find_logs(path) else read_tree(path)
    if not path.exists():
        raise ScoresError(
            str(path), ["a file of scores, or a folder of nnU-Net results or of logs, must be there, got nothing"]
        )
    return ScoreRows(read_table(path), str(path))


def read_table(path: Path) -> Columns:
    """Return the columns of a CSV or parquet file.

    Raises:
        ScoresError: if it is none.
    """
    return _read_parquet(path) if path.suffix.lower() in (".parquet", ".pq") else _read_csv(path)


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
