"""Locks between processes; the operating system releases them when their holder dies, however it dies."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import quote

from filelock import FileLock, Timeout

from sweeper.core.errors import StudyError, UsageError
from sweeper.core.paths import make_folder_name
from sweeper.core.redact import hide_address_secrets

CREATION_SECONDS = 300.0
"""Seconds to wait for a process that makes or migrates a database; a few are usual."""


def lock_beside(database: Path, purpose: str) -> FileLock:
    """Return a lock for one use of a database file, in `.sweeper/locks` next to it; not yet held."""
    folder = database.resolve().parent / ".sweeper" / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / f"{make_folder_name(f'{database.name}.{purpose}')}.lock")


@contextmanager
def hold_folder(folder: Path, title: str) -> Iterator[None]:
    """Keep a folder to one process; it need not be there.

    Raises:
        UsageError: if another process has it; `title` says what it holds.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        held = FileLock(folder.with_name(f"{folder.name}.lock")).acquire(timeout=0)
    except Timeout:
        raise UsageError(f"{title} runs in another process; wait for it, or give another --name") from None
    with held:
        yield


@contextmanager
def lock_database_creation(database: Path, make: Callable[[Path], object] | None = None) -> Iterator[None]:
    """While a database file is made or migrated: two that do so at once would break each other.

    A file that is not there, or has no tables, is made under another name and put in its place whole, so that a kill
    leaves nothing half made.

    Args:
        database: the file.
        make: makes it at the path that it is given, and closes it; None = nothing is made.

    Raises:
        UsageError: if another process is at it for `CREATION_SECONDS`: it may have been stopped.
    """
    lock = lock_beside(database, "create")
    try:
        held = lock.acquire(timeout=CREATION_SECONDS)
    except Timeout as error:
        raise UsageError(
            f"another process has held {lock.lock_file} for more than {CREATION_SECONDS:g} s, in which it makes or "
            f"migrates {database}; if it was stopped (state T in `ps`), continue or end it, and repeat the command"
        ) from error
    with held:
        if make is not None:
            _make_whole(database.resolve() if database.is_symlink() else database, make)
        yield


def _make_whole(database: Path, make: Callable[[Path], object]) -> None:
    part = database.with_name(f".sweeper-{database.name}.part")
    _remove_database(part)  # what a process left that was killed here
    if database.exists() and database.stat().st_size:
        with closing(sqlite3.connect(make_sqlite_uri(database, "rw"), uri=True, timeout=60)) as connection:
            if connection.execute("SELECT 1 FROM sqlite_master").fetchone() is not None:
                return
    _remove_database(database)
    try:
        make(part)
        try:
            os.link(part, database)
        except FileExistsError:  # another program made one meanwhile, which is left as it is
            pass
        except OSError:  # a disk that knows no links
            part.rename(database)
    finally:
        _remove_database(part)


def _remove_database(database: Path) -> None:
    """Remove a SQLite file and its log, which would be applied to the next file of its name."""
    for end in ("", "-wal", "-shm", "-journal"):
        Path(f"{database}{end}").unlink(missing_ok=True)


def get_sqlite_path(url: str) -> Path | None:
    """Return the file of a `sqlite:///FILE` address; None for any other address."""
    return Path(url.removeprefix("sqlite:///")) if url.startswith("sqlite:///") else None


def get_sqlite_file(url: str) -> Path | None:
    """Return the file as `get_sqlite_path`, but None for memory or an address with options."""
    path = get_sqlite_path(url)
    return None if path is None or not path.name or ":memory:" in url or set("?#") & set(url) else path


def require_database_file(url: str) -> Path:
    """Return the file of a storage's address that is not PostgreSQL's; nothing is opened.

    Raises:
        StudyError: if it is no SQLite file's.
    """
    path = get_sqlite_file(url)
    if path is None:
        raise StudyError(
            f"--storage must be sqlite:///FILE or postgresql://USER@HOST/DATABASE, got {hide_address_secrets(url)!r}; "
            "other databases are not supported"
        )
    return path


def make_sqlite_uri(path: Path, mode: str) -> str:
    """Return what `sqlite3.connect(…, uri=True)` takes to open an existing file: `mode` is ro or rw."""
    return f"file:{quote(str(path.absolute()))}?mode={mode}"
