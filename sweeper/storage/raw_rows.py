"""A study's rows as the database holds them, without Optuna: its reading of a study ends at the first damaged value."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, create_engine, text
from sqlalchemy.pool import NullPool

from sweeper.system.locks import sqlite_path
from sweeper.system.postgres import named_url


def lenient(path: Path) -> sqlite3.Connection:
    """A SQLite connection that also gives text that is no UTF-8; bytes that are none become lone surrogates."""
    connection = sqlite3.connect(path, timeout=60, check_same_thread=False)
    connection.text_factory = lambda raw: raw.decode("utf-8", "surrogateescape")
    return connection


@contextmanager
def rows_of(url: str) -> Iterator[Connection]:
    """A connection in one transaction, which is kept when the block ends well."""
    path = sqlite_path(url)
    if path is None:
        engine = create_engine(named_url(url, "records"), poolclass=NullPool)
    else:
        engine = create_engine("sqlite://", creator=lambda: lenient(path), poolclass=NullPool)
    try:
        with engine.begin() as connection:
            yield connection
    finally:
        engine.dispose()


def fetch(connection: Connection, statement: str, **values: Any) -> list[Any]:
    """All rows of a query."""
    return list(connection.execute(text(statement), values))


def change(connection: Connection, statement: str, **values: Any) -> None:
    """Run a statement that changes rows."""
    connection.execute(text(statement), values)
