"""What could not be sent to MLflow, in order, in a SQLite file that is gone when everything was sent."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

from sweeper.core.paths import spool_file
from sweeper.tracking.mlflow_writes import FILES, Operation

_TABLES = """
CREATE TABLE IF NOT EXISTS operation (
    number INTEGER PRIMARY KEY AUTOINCREMENT, document TEXT NOT NULL, attempted INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS run (key TEXT PRIMARY KEY, run_id TEXT NOT NULL, kept INTEGER NOT NULL);
"""


class Spooled(NamedTuple):
    """The operation whose turn it is."""

    number: int
    operation: Operation
    attempted: bool
    """It was sent once, and what became of it is not known."""


class Spool:
    """A queue of operations on disk. Every call is a transaction: a crash loses none and repeats none unnoticed.

    Raises, from every method:
        sqlite3.Error, OSError: if the disk does not take it.
    """

    def __init__(self, folder: Path, study: str, uri: str) -> None:
        """The queue of this study and this MLflow store; no file is made before there is something to keep."""
        self.path = spool_file(folder, study, uri)

    def __bool__(self) -> bool:
        """Whether operations wait."""
        return len(self) > 0

    def __len__(self) -> int:
        """How many operations wait."""
        if not self.path.exists():
            return 0
        with self._open() as connection:
            return int(connection.execute("SELECT count(*) FROM operation").fetchone()[0])

    def append(self, operation: Operation, *, attempted: bool = False) -> None:
        """Put an operation at the end. Files of a folder wait once: what is sent is what lies there then."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self._open() as connection:
            if operation.kind == FILES:
                for spooled in list(_in_order(connection)):
                    other = spooled.operation
                    if (other.kind, other.key, other.folder) == (FILES, operation.key, operation.folder):
                        connection.execute("DELETE FROM operation WHERE number = ?", (spooled.number,))
            connection.execute(
                "INSERT INTO operation (document, attempted) VALUES (?, ?)",
                (operation.model_dump_json(exclude_defaults=True), attempted),
            )

    def first(self) -> Spooled | None:
        """The operation that waits longest; files come after all else, as nothing depends on them."""
        if not self.path.exists():
            return None
        files = None
        with self._open() as connection:
            for spooled in _in_order(connection):
                if spooled.operation.kind != FILES:
                    return spooled
                files = files or spooled
        return files

    def attempt(self, number: int) -> None:
        """Note that it is being sent now."""
        with self._open() as connection:
            connection.execute("UPDATE operation SET attempted = 1 WHERE number = ?", (number,))

    def done(self, number: int, key: str, run_id: str, *, kept: bool) -> None:
        """It is there: forget it, and remember the id of its run; `kept` = this ended a training that counts."""
        with self._open() as connection:
            connection.execute(
                "INSERT INTO run VALUES (?, ?, ?) ON CONFLICT (key) DO UPDATE SET kept = max(kept, excluded.kept)",
                (key, run_id, kept),
            )
            connection.execute("DELETE FROM operation WHERE number = ?", (number,))

    def postpone(self, number: int) -> None:
        """Put an operation that waits at the end."""
        with self._open() as connection:
            connection.execute(
                "UPDATE operation SET number = (SELECT max(number) + 1 FROM operation) WHERE number = ?", (number,)
            )

    def drop(self, number: int) -> None:
        """Forget an operation that will never be taken."""
        with self._open() as connection:
            connection.execute("DELETE FROM operation WHERE number = ?", (number,))

    def runs(self) -> dict[str, str]:
        """Ids of the runs that operations from here went to, by our keys."""
        if not self.path.exists():
            return {}
        with self._open() as connection:
            return dict(connection.execute("SELECT key, run_id FROM run").fetchall())

    def kept(self) -> dict[str, str]:
        """Ids of the runs of trainings that count and whose end was kept here, by `PURPOSE/NUMBER`."""
        if not self.path.exists():
            return {}
        with self._open() as connection:
            rows = connection.execute("SELECT key, run_id FROM run WHERE kept = 1 ORDER BY rowid").fetchall()
        return {key.rpartition("/")[0]: run_id for key, run_id in rows}

    def remove(self) -> None:
        """Delete the file, once nothing waits and the runs were noted elsewhere."""
        for name in (self.path, *(self.path.with_name(self.path.name + end) for end in ("-wal", "-shm", "-journal"))):
            name.unlink(missing_ok=True)

    @contextmanager
    def _open(self) -> Iterator[sqlite3.Connection]:
        with closing(sqlite3.connect(self.path, timeout=60)) as connection:
            connection.executescript(_TABLES)
            with connection:  # one transaction
                yield connection


def _in_order(connection: sqlite3.Connection) -> Iterator[Spooled]:
    rows = connection.execute("SELECT number, document, attempted FROM operation ORDER BY number")
    for number, document, attempted in rows:
        yield Spooled(number, Operation.model_validate_json(document), bool(attempted))
