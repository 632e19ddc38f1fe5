"""Studies that older versions made, put back as databases."""

from __future__ import annotations

import gzip
import sqlite3
from contextlib import closing
from pathlib import Path

from sweeper.training.hardware import probe

FOLDER = Path(__file__).parent / "data" / "studies"
OLD = "883f742"
"""Made before stored formats had numbers: format 1."""


def restore_old(folder: Path, name: str = OLD) -> Path:
    """The database of an older version as `folder/sweeper.db`.

    Its precision becomes this machine's: a study cannot be resumed on a processor that computes another.
    """
    sql = gzip.decompress((FOLDER / f"{name}.sql.gz").read_bytes()).decode()
    sql = sql.replace('"precision": "bfloat16"', f'"precision": "{probe("cpu").precision}"')
    path = folder / "sweeper.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(sql)
    return path
