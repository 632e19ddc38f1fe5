"""The database behind a study: opened or made once, and run by one process at a time."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager

import optuna
from filelock import Timeout
from optuna.storages import RDBStorage
from sqlalchemy.exc import SQLAlchemyError

from sweeper.errors import StudyError
from sweeper.locks import lock_beside, sqlite_path

TIMEOUT_SECONDS = 60


def open_storage(url: str, *, create: bool = True) -> RDBStorage:
    """Open Optuna's storage; SQLite in write-ahead mode with a patient lock.

    With `create` a missing one is made, once, whoever else starts at the same time.

    Raises:
        StudyError: if the address is not a SQLite file's, the file cannot be opened, or is missing and not to be made.
    """
    path = sqlite_path(url)
    if path is None or ":memory:" in url or not path.name or set("?#") & set(url):
        raise StudyError(f"--storage must be sqlite:///FILE, got {url!r}; other databases are not supported yet")
    if not create and not path.exists():
        raise StudyError(f"--storage: there is no file {path}; name the one that the study was made in")
    optuna.logging.set_verbosity(optuna.logging.WARNING)  # what happens is told by our own display
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with lock_beside(path, "create"):  # a cold start of several at once would break the one that comes second
            with sqlite3.connect(path, timeout=TIMEOUT_SECONDS) as connection:
                connection.execute("PRAGMA journal_mode=WAL")
            connection.close()
            return RDBStorage(url, engine_kwargs={"connect_args": {"timeout": TIMEOUT_SECONDS}})
    except (sqlite3.Error, SQLAlchemyError, RuntimeError, OSError) as error:
        text = (str(error).splitlines() or [type(error).__name__])[0]
        raise StudyError(f"--storage {url} must be an Optuna SQLite file that can be written: {text}") from error


@contextmanager
def sole_use(url: str, name: str) -> Iterator[None]:
    """Keep others from running this study for as long as the block lasts, or the process lives.

    Raises:
        StudyError: if another process is running it.
    """
    path = sqlite_path(url)
    assert path is not None
    lock = lock_beside(path, f"study.{name}")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise StudyError(
            f"study {name!r} is being run by another process; wait for it, or start another study with --study"
        ) from None
    try:
        yield
    finally:
        lock.release()
