"""Locks between processes; the operating system releases them when their holder dies, however it dies."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import quote

from filelock import FileLock, Timeout

from sweeper.core.errors import UsageError
from sweeper.core.paths import folder_name

CREATION_SECONDS = 300.0
"""How long the process is waited for that makes a database, or brings it to a new version. Seconds are usual."""


def lock_beside(database: Path, purpose: str) -> FileLock:
    """A lock for one use of a database file, in `.sweeper/locks` beside it; not yet held."""
    folder = database.resolve().parent / ".sweeper" / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / f"{folder_name(f'{database.name}.{purpose}')}.lock")


@contextmanager
def created_once(database: Path) -> Iterator[None]:
    """While a database file is made or migrated: two that do so at once would break each other.

    Raises:
        UsageError: if another process is at it for `CREATION_SECONDS`: it may have been stopped.
    """
    lock = lock_beside(database, "create")
    try:
        lock.acquire(timeout=CREATION_SECONDS)
    except Timeout as error:
        raise UsageError(
            f"another process has held {lock.lock_file} for more than {CREATION_SECONDS:g} s, in which it makes or "
            f"migrates {database}; if it was stopped (state T in `ps`), continue or end it, and repeat the command"
        ) from error
    try:
        yield
    finally:
        lock.release()


def sqlite_path(url: str) -> Path | None:
    """The file of a `sqlite:///FILE` address; None for any other address."""
    return Path(url.removeprefix("sqlite:///")) if url.startswith("sqlite:///") else None


def sqlite_file(url: str) -> Path | None:
    """As `sqlite_path`, but None too for an address that names no file, or more than it: memory, or options."""
    path = sqlite_path(url)
    return None if path is None or not path.name or ":memory:" in url or set("?#") & set(url) else path


def sqlite_uri(path: Path, mode: str) -> str:
    """What `sqlite3.connect(…, uri=True)` takes to open a file that is there: `mode` is ro or rw."""
    return f"file:{quote(str(path.absolute()))}?mode={mode}"
