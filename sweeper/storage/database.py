"""The database of a study: open or create it, hold a study for one process, and copy it while in use."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import optuna
from filelock import Timeout
from optuna.storages import RDBStorage
from sqlalchemy import inspect
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from sweeper.core.errors import (
    LostStudyError,
    MissingStudyError,
    StudyError,
    SweeperError,
    UsageError,
    check_address,
    get_cause,
)
from sweeper.core.redact import hide_address_secrets
from sweeper.core.text import format_resume_command
from sweeper.storage.plan import read_plan
from sweeper.storage.resilient_storage import RetryingStorage, explain_damage, explain_damaged_file
from sweeper.system.leases import LeaseTakenError, hold_lease
from sweeper.system.locks import (
    get_sqlite_path,
    lock_beside,
    lock_database_creation,
    make_sqlite_uri,
    require_database_file,
)
from sweeper.system.postgres import (
    is_postgres,
    make_engine_options,
    make_read_only_engine,
    make_sqlalchemy_url,
    retry_until_accepting,
)
from sweeper.system.whole_files import remove_left, replace_atomically

TIMEOUT_SECONDS = 60


def open_storage(url: str, *, create: bool = True, warn: Callable[[str], None] = lambda _: None) -> RetryingStorage:
    """Open Optuna's storage: a SQLite file in write-ahead mode with a patient lock, or a PostgreSQL database.

    With `create`, file and tables are created if missing, only once even if several processes start at the same time.
    `warn` is called when the database goes away for a while, and when it is back.

    Raises:
        StudyError: if the address is neither a SQLite file's nor a PostgreSQL database's, cannot be opened, or without
            `create` has no studies.
        SweeperError: if its file is damaged.
        UsageError: if PostgreSQL's driver is not installed, or its server does not answer.
    """
    check_address("--storage", url)
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # sweeper's own display reports events
    try:
        if not is_postgres(url):
            return _open_sqlite(url, create, warn)
        opened = retry_until_accepting(url, lambda: _open_postgres(url, create, warn), warn=warn)
        opened.address = url
        return opened
    except (sqlite3.Error, SQLAlchemyError, RuntimeError, OSError) as error:
        if (damage := explain_damage(url, error)) is not None:
            raise damage from error
        raise StudyError(
            f"--storage {hide_address_secrets(url)} must be a database of Optuna's (a SQLite file or PostgreSQL) that "
            f"can be written: {get_cause(error)}"
        ) from error


def check_optuna_schema(url: str) -> None:
    """Check that the installed Optuna fits a database, without changing it.

    Raises:
        RuntimeError: with Optuna's advice if it does not fit.
    """
    engine = make_read_only_engine(url)
    if inspect(engine).has_table("alembic_version"):
        address = engine.url.render_as_string(hide_password=False).replace("{", "{{").replace("}", "}}")
        RDBStorage(address, engine_kwargs={"poolclass": NullPool}, skip_table_creation=True)


def _open_sqlite(url: str, create: bool, warn: Callable[[str], None]) -> RetryingStorage:
    path = require_database_file(url)
    if not create and not path.exists():
        raise MissingStudyError(
            f"no study is here, as there is no file {path}; go to the folder of the sweep, or name its --storage"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    # Creating the tables in several processes at once would fail in all except the first.
    with lock_database_creation(path, _make_tables if create else None):
        if not create:
            _check_holds_studies(url)
        with sqlite3.connect(path, timeout=TIMEOUT_SECONDS) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
        connection.close()
        options = {"connect_args": {"timeout": TIMEOUT_SECONDS}}
        return RetryingStorage(url, warn=warn, engine_kwargs=options, file=path)


def _make_tables(path: Path) -> None:
    RDBStorage("sqlite:///" + str(path).replace("{", "{{").replace("}", "}}")).engine.dispose()


def _open_postgres(url: str, create: bool, warn: Callable[[str], None]) -> RetryingStorage:
    address = make_sqlalchemy_url(url).replace("{", "{{").replace("}", "}}")  # Optuna formats the address as a template
    if not create:
        _check_holds_studies(url)
    with hold_lease(url, "create", wait=True, warn=warn):
        return RetryingStorage(address, warn=warn, engine_kwargs=make_engine_options())


def _check_holds_studies(url: str) -> None:
    """Refuse a database without studies: opening it would create Optuna's tables in another program's database.

    Raises:
        MissingStudyError: if the database is not Optuna's.
    """
    engine = make_read_only_engine(url)
    if not inspect(engine).has_table("studies"):
        raise MissingStudyError(
            f"--storage {hide_address_secrets(url)} holds no studies; name the database that the study was made in"
        )


@contextmanager
def hold_study(
    url: str, name: str, *, places: str = "", warn: Callable[[str], None] = lambda _: None
) -> Iterator[Callable[[], bool]]:
    """Prevent other processes from running this study while the block runs.

    On PostgreSQL a process without a sign of life for a minute counts as dead; this function waits for that minute, and
    informs `warn`.

    Yields:
        Function that returns whether another process has taken the study: on PostgreSQL, after this process was stopped
        for over a minute.

    Raises:
        StudyError: if another process is running the study.
        LostStudyError: in place of the block's error, if another process has taken the study.
    """
    path = get_sqlite_path(url)
    if path is None:
        try:
            with hold_lease(url, f"study.{name}", wait=False, warn=warn) as lease:
                try:
                    yield lease.is_lost
                except Exception as error:  # the other process may have caused it
                    if isinstance(error, SweeperError) or not lease.is_lost():
                        raise
                    raise LostStudyError(name, format_resume_command(name, url, places)) from error
        except LeaseTakenError as other:
            raise _make_taken_error(name, f" ({other})") from None
        return
    try:
        held = lock_beside(path, f"study.{name}").acquire(timeout=0)
    except Timeout:
        raise _make_taken_error(name) from None
    with held:
        yield lambda: False


def _make_taken_error(name: str, who: str = "") -> StudyError:
    return StudyError(
        f"study {name!r} is being run by another process{who}; wait for it, or start another study with --study"
    )


def back_up_database(url: str, name: str, copy: Path) -> int:
    """Copy the database of a study to a file, as a consistent snapshot that SQLite checks.

    Other copies of the file may be inconsistent while a sweep writes, and lack the recent writes in `FILE-wal`.

    Args:
        url: `--storage`, of a SQLite file.
        name: a study in the database. The copy has all studies.
        copy: the new file; it appears under its name only when complete.

    Returns:
        Bytes of the copy.

    Raises:
        UsageError: if the storage is a server's, the copy exists, or the study does not exist.
        SweeperError: if the database is damaged; no copy is left then.
        OSError, sqlite3.Error: if writing or reading fails.
    """
    path = get_sqlite_path(url)
    if path is None:
        raise UsageError(f"--storage {hide_address_secrets(url)} is a server's database: back it up with `pg_dump`")
    read_plan(open_storage(url, create=False), name)  # raises if the study does not exist
    if copy.exists():
        raise UsageError(f"{copy} exists already; name a file that does not")
    remove_left(copy.parent)
    with (
        replace_atomically(copy) as part,
        closing(sqlite3.connect(make_sqlite_uri(path, "ro"), uri=True, timeout=TIMEOUT_SECONDS)) as source,
        closing(sqlite3.connect(part)) as target,
    ):
        source.backup(target)
        target.execute("PRAGMA journal_mode=DELETE")  # a single file, without a log
        answer = target.execute("PRAGMA integrity_check(1)").fetchone()[0]
        if answer != "ok":
            raise explain_damaged_file(url, answer)
    return copy.stat().st_size
