"""Locks between processes; the operating system releases them when their holder ends, for whatever reason."""

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
"""Seconds to wait for a process that creates or migrates a database, which usually takes a few."""


def lock_beside(database: Path, purpose: str) -> FileLock:
    """Return a lock for one use of a database file, in `.sweeper/locks` next to it; not yet held."""
    folder = database.resolve().parent / ".sweeper" / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / f"{make_folder_name(f'{database.name}.{purpose}')}.lock")


@contextmanager
def hold_folder(folder: Path, title: str) -> Iterator[None]:
    """Hold a folder, which need not exist, for one process.

    Raises:
        UsageError: if another process holds the folder; `title` describes its content.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    try:
        held = FileLock(folder.with_name(f"{folder.name}.lock")).acquire(timeout=0)
    except Timeout:
        raise UsageError(f"{title} runs in another process; wait for it, or give another --study") from None
    with held:
        yield


@contextmanager
def lock_database_creation(database: Path, make: Callable[[Path], object] | None = None) -> Iterator[None]:
    """Hold a lock while a database file is created or migrated, which two processes must not do at once.

    A missing file, or one without tables, is created under another name and moved into place, so that a kill leaves no
    partial file.

    Args:
        database: the file.
        make: function that creates the database at a path, and closes it; None = do not create.

    Raises:
        UsageError: if another process holds the lock for `CREATION_SECONDS`; it may be stopped.
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
    _remove_database(part)  # left by a killed process
    if database.exists() and database.stat().st_size:
        with closing(sqlite3.connect(make_sqlite_uri(database, "rw"), uri=True, timeout=60)) as connection:
            if connection.execute("SELECT 1 FROM sqlite_master").fetchone() is not None:
                return
    _remove_database(database)
    try:
        make(part)
        try:
            os.link(part, database)
        except FileExistsError:  # another program has created one meanwhile: keep it
            pass
        except OSError:  # a file system without links
            part.rename(database)
    finally:
        _remove_database(part)


def _remove_database(database: Path) -> None:
    """Remove a SQLite file and its log, which SQLite would apply to the next file of the same name."""
    for end in ("", "-wal", "-shm", "-journal"):
        Path(f"{database}{end}").unlink(missing_ok=True)


def get_sqlite_path(url: str) -> Path | None:
    """Return the file of a `sqlite:///FILE` address; None for memory, an address with options, and any other."""
    name = url.removeprefix("sqlite:///")
    is_plain = ":memory:" not in name and not set("?#") & set(name)
    if not is_plain or name in ("", url):
        return None
    return Path(name)


def require_database_file(url: str) -> Path:
    """Return the SQLite file of a storage's address, without opening it.

    Raises:
        StudyError: if the address is not a SQLite file's.
    """
    path = get_sqlite_path(url)
    if path is None:
        raise StudyError(
            f"--storage must be sqlite:///FILE or postgresql://USER@HOST/DATABASE, got {hide_address_secrets(url)!r}; "
            "other databases are not supported"
        )
    return path


def make_sqlite_uri(path: Path, mode: str) -> str:
    """Return the address for `sqlite3.connect(…, uri=True)` of an existing file: `mode` is ro or rw."""
    return f"file:{quote(str(path.absolute()))}?mode={mode}"
