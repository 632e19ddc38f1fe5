"""Locks between processes; the operating system releases them when their holder dies, however it dies."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import quote

from filelock import FileLock

from sweeper.core.paths import folder_name


def lock_beside(database: Path, purpose: str) -> FileLock:
    """A lock for one use of a database file, in `.sweeper/locks` beside it; not yet held."""
    folder = database.resolve().parent / ".sweeper" / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    return FileLock(folder / f"{folder_name(f'{database.name}.{purpose}')}.lock")


def created_once(database: Path) -> FileLock:
    """To be held while a database file is made or migrated: two that do so at once would break each other."""
    return lock_beside(database, "create")


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
