"""The database behind a study: opened or made once, and run by one process at a time."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import optuna
from filelock import FileLock, Timeout
from sqlalchemy import create_engine, inspect
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from sweeper.core.causes import cause
from sweeper.core.errors import MissingStudyError, StudyError
from sweeper.core.redact import check_address, shown_address
from sweeper.storage.resilient_storage import SteadyStorage, damaged
from sweeper.system.advisory_locks import AdvisoryLock, one_at_a_time
from sweeper.system.database_waits import Patience
from sweeper.system.locks import created_once, lock_beside, sqlite_file, sqlite_path
from sweeper.system.postgres import engine_options, is_postgres, server_error, sqlalchemy_url, when_it_takes_connections
from sweeper.system.same_file import SameFile

TIMEOUT_SECONDS = 60


def open_storage(
    url: str, *, create: bool = True, warn: Callable[[str], None] = lambda _: None, patience: Patience | None = None
) -> SteadyStorage:
    """Open Optuna's storage: a SQLite file in write-ahead mode with a patient lock, or a PostgreSQL database.

    With `create` what is missing is made, once, whatever else starts at the same time. `warn` is told when the database
    goes away for a while, and when it is back. `patience` is this process's: how long it waits then.

    Raises:
        StudyError: if the address is neither a SQLite file's nor a PostgreSQL database's, cannot be opened, or holds
            no studies and is not to be made.
        SweeperError: if its file is damaged.
        UsageError: if PostgreSQL's driver is not installed, or its server does not answer.
    """
    check_address("--storage", url)
    optuna.logging.set_verbosity(optuna.logging.ERROR)  # what happens is told by our own display
    try:
        patience = patience or Patience()
        if not is_postgres(url):
            return _open_sqlite(url, create, warn, patience)
        opened: SteadyStorage = when_it_takes_connections(
            url, lambda: _open_postgres(url, create, warn, patience), warn=warn, patience=patience
        )
        opened.address = url
        return opened
    except (sqlite3.Error, SQLAlchemyError, RuntimeError, OSError) as error:
        if (told := damaged(url, error)) is not None:
            raise told from error
        raise StudyError(
            f"--storage {shown_address(url)} must be a database of Optuna's (a SQLite file or PostgreSQL) that can be "
            f"written: {cause(error)}"
        ) from error


def _open_sqlite(url: str, create: bool, warn: Callable[[str], None], patience: Patience) -> SteadyStorage:
    path = _file(url)
    if not create and not path.exists():
        raise MissingStudyError(f"--storage: there is no file {path}; name the one that the study was made in")
    path.parent.mkdir(parents=True, exist_ok=True)
    with created_once(path):  # a cold start of several at once would break the one that comes second
        if not create:
            _check_holds_studies(path)  # opening makes Optuna's tables: a program's own file is left as it is
        with sqlite3.connect(path, timeout=TIMEOUT_SECONDS) as connection:
            connection.execute("PRAGMA journal_mode=WAL")
        connection.close()
        options = {"connect_args": {"timeout": TIMEOUT_SECONDS}}
        return SteadyStorage(url, warn=warn, engine_kwargs=options, file=path, patience=patience)


def _check_holds_studies(path: Path) -> None:
    """Raises MissingStudyError if the file is no database of Optuna's."""
    with closing(sqlite3.connect(path, timeout=TIMEOUT_SECONDS)) as connection:
        found = connection.execute("SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'studies'").fetchone()
    if found is None:
        raise MissingStudyError(f"--storage: {path} holds no studies; name the file that the study was made in")


def _open_postgres(url: str, create: bool, warn: Callable[[str], None], patience: Patience) -> SteadyStorage:
    address = sqlalchemy_url(url).replace("{", "{{").replace("}", "}}")  # Optuna fills in templates
    with one_at_a_time(url, "create", warn=warn, patience=patience):
        if not create and not _holds_studies(address, patience):
            raise MissingStudyError(
                f"--storage {shown_address(url)} holds no studies; name the database that the study was made in"
            )
        return SteadyStorage(address, warn=warn, engine_kwargs=engine_options(patience), patience=patience)


def _holds_studies(address: str, patience: Patience) -> bool:
    engine = create_engine(address, poolclass=NullPool, connect_args=engine_options(patience)["connect_args"])
    return inspect(engine).has_table("studies")


def _file(url: str) -> Path:
    path = sqlite_file(url)
    if path is None:
        raise StudyError(
            f"--storage must be sqlite:///FILE or postgresql://USER@HOST/DATABASE, got {shown_address(url)!r}; other "
            "databases are not supported"
        )
    return path


@contextmanager
def sole_use(
    url: str, name: str, *, warn: Callable[[str], None] = lambda _: None, patience: Patience | None = None
) -> Iterator[Callable[[], bool]]:
    """Keep others from running this study for as long as the block lasts, or the process lives.

    On PostgreSQL a process whose session shows no sign of life for a minute is taken for dead: that is waited for.
    `warn` is told when the server has no connection left, and `patience` is this process's.

    Yields:
        Whether the right was lost to another process after all: a PostgreSQL server that is restarted forgets it, and
        a lock file can be deleted.

    Raises:
        StudyError: if another process is running it.
    """
    path = sqlite_path(url)
    if path is None:
        with _advisory(url, name, warn, patience or Patience()) as held:
            yield lambda: held.lost
        return
    lock = _StudyLock(path, f"study.{name}")
    if not lock.acquire():
        raise _taken(name)
    try:
        yield lock.lost
    finally:
        lock.release()


@contextmanager
def _advisory(url: str, name: str, warn: Callable[[str], None], patience: Patience) -> Iterator[AdvisoryLock]:
    held = AdvisoryLock(url, f"study.{name}", patience)
    try:
        mine = when_it_takes_connections(url, lambda: held.acquire(wait=False), warn=warn, patience=patience)
    except Exception as error:
        raise server_error(url, error) from error
    if not mine:
        raise _taken(name, held.holder.who if held.holder is not None else None)
    held.keep()
    try:
        yield held
    finally:
        held.release()


def _taken(name: str, who: str | None = None) -> StudyError:
    by = "" if who is None else f" ({who})"
    return StudyError(
        f"study {name!r} is being run by another process{by}; wait for it, or start another study with --study"
    )


class _StudyLock:
    """A lock file that is taken again when somebody deletes it: another process would lock the new file at its path."""

    def __init__(self, database: Path, purpose: str) -> None:
        self._database, self._purpose = database.resolve(), purpose
        self._held: list[FileLock] = []
        self._file: SameFile | None = None

    def acquire(self) -> bool:
        """Take it; False when another process holds it."""
        lock = lock_beside(self._database, self._purpose)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            return False
        self._held.append(lock)
        self._file = SameFile(Path(lock.lock_file))
        return True

    def lost(self) -> bool:
        """Whether another process holds it by now."""
        if self._file is None or self._file.fault() is None:
            return False
        there = self._database.parent.exists()  # else the folder was renamed, or is gone: the storage tells so
        return there and not self.acquire()

    def release(self) -> None:
        """Give it back."""
        for lock in self._held:
            lock.release()
