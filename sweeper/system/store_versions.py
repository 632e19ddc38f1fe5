"""Check whether the installed MLflow or Optuna fits a database, without using them, which would change it."""

from __future__ import annotations

import shlex
import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, inspect, text
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from sweeper.core.redact import hide_address_secrets
from sweeper.core.text import format_address_word
from sweeper.system.locks import get_sqlite_file, get_sqlite_path, make_sqlite_uri
from sweeper.system.postgres import is_postgres, make_engine_options, make_sqlalchemy_url

LIBRARIES = {
    "--storage": ("Optuna", "storages/_rdb/alembic", "studies", "optuna storage upgrade --storage"),
    "--tracking-uri": ("MLflow", "store/db_migrations", "experiments", "mlflow db upgrade"),
}
"""Option → library, its folder of migrations, a table that is empty if nothing is stored, the migration command."""


def store_fault(option: str, url: str) -> tuple[str, str] | None:
    """Return why an option's library cannot use a database, and what to do; None if it can, or there is no database.

    Raises:
        sqlite3.Error, sqlalchemy.exc.SQLAlchemyError: if the database cannot be read.
    """
    name, folder, table, upgrade = LIBRARIES[option]
    package, path = find_spec(name.lower()), get_sqlite_path(url)
    assert package is not None and package.origin is not None
    scripts = ScriptDirectory(str(Path(package.origin).parent / folder))
    newest, *older = [script.revision for script in scripts.walk_revisions()]
    versions, holds = read_rows(url, "alembic_version", "version_num"), read_rows(url, table, "1")
    if not (versions or holds is not None) or (versions and versions[0][0] == newest):
        return None
    where, installed = path or hide_address_secrets(url), f"the installed {name} {version(name.lower())}"
    if versions and versions[0][0] not in older:
        advice = f"install that {name}, or add to the command: {option} sqlite:///{name.lower()}-2.db"
        return f"{where} has the tables of a newer {name} than {installed}", advice
    if holds:
        command = f"{upgrade} {format_address_word(option, make_address_absolute(url), driver=True)}"
        return f"{where} has the tables of an older {name} than {installed}", f"back it up, then: {command}"
    if path is None:  # PostgreSQL rolls back a partial migration
        return None
    advice = f"delete it: rm {shlex.quote(str(path.absolute()))}"
    return f"{where} was left half made by a process that was killed, and holds nothing", advice


def find_deleted_experiment(uri: str, name: str) -> str | None:
    """Return why an MLflow file cannot take a study, if its experiment of that name was deleted; else None.

    An unreadable file gives None: opening it raises the error.
    """
    experiments: Sequence[Any] = ()
    if get_sqlite_file(uri) is not None:
        with suppress(sqlite3.Error, SQLAlchemyError):
            experiments = read_rows(uri, "experiments", "name, experiment_id, lifecycle_stage") or ()
    deleted = (str(number) for other, number, stage in experiments if (other, stage) == (name, "deleted"))
    return None if (number := next(deleted, None)) is None else explain_deleted_experiment(uri, name, number)


def explain_deleted_experiment(uri: str, name: str, experiment: str) -> str:
    """Explain that the experiment of a study was deleted."""
    return (
        f"MLflow at {hide_address_secrets(uri)}: the experiment {name!r} was deleted there, and its name is still "
        "taken. Restore it, or name another --tracking-uri, and repeat the command. To restore it: "
        f"{restore_command(uri, experiment)}"
    )


def restore_command(uri: str, experiment: str) -> str:
    """Return the command that restores a deleted experiment of an MLflow store."""
    address = format_address_word("--tracking-uri", make_address_absolute(uri), driver=True)
    return f"MLFLOW_TRACKING_URI={address} mlflow experiments restore --experiment-id {experiment}"


def make_address_absolute(url: str) -> str:
    """Return an address with an absolute path to the SQLite file; any other address unchanged."""
    path = get_sqlite_path(url)
    return url if path is None else f"sqlite:///{path.absolute()}"


def read_rows(url: str, table: str, columns: str) -> Sequence[Any] | None:
    """Read columns of a table without changing the database; None if the table does not exist."""
    path = get_sqlite_path(url)
    if not is_postgres(url) if path is None else not path.exists():
        return None
    address = make_sqlalchemy_url(url) if path is None else f"sqlite:///{make_sqlite_uri(path, 'ro')}&uri=true"
    options = make_engine_options()["connect_args"] if path is None else {"timeout": 10}
    engine = create_engine(address, poolclass=NullPool, connect_args=options)
    with engine.connect() as connection:
        if not inspect(connection).has_table(table):
            return None
        return connection.execute(text(f"SELECT {columns} FROM {table}")).all()
