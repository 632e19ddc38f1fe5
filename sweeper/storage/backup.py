"""A copy of a database that can be used by itself, made while sweeps go on."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from sweeper.core.errors import UsageError
from sweeper.core.redact import shown_address
from sweeper.storage.database import TIMEOUT_SECONDS, open_storage
from sweeper.storage.plan import read_plan
from sweeper.storage.resilient_storage import damaged_file
from sweeper.system.locks import sqlite_path, sqlite_uri
from sweeper.system.whole_files import remove_left, written_whole


def back_up(url: str, name: str, copy: Path) -> int:
    """Copy the database of a study to a file, whole and at one instant, and let SQLite check the copy.

    Copying the file by other means is not enough: what was written last lies in `FILE-wal` beside it.

    Args:
        url: `--storage`, of a SQLite file.
        name: a study in it. The copy holds all studies.
        copy: the new file; it appears under its name when it is complete.

    Returns:
        Bytes of the copy.

    Raises:
        UsageError: if the storage is a server's, the copy exists, or there is no such study.
        SweeperError: if the database is damaged; there is no copy then.
        OSError, sqlite3.Error: if it cannot be written or read.
    """
    path = sqlite_path(url)
    if path is None:
        raise UsageError(f"--storage {shown_address(url)} is a server's database: back it up with `pg_dump`")
    read_plan(open_storage(url, create=False), name)  # raises where there is no such study
    if copy.exists():
        raise UsageError(f"{copy} exists already; name a file that does not")
    remove_left(copy.parent)
    with (
        written_whole(copy) as part,
        closing(sqlite3.connect(sqlite_uri(path, "ro"), uri=True, timeout=TIMEOUT_SECONDS)) as source,
        closing(sqlite3.connect(part)) as target,
    ):
        source.backup(target)
        target.execute("PRAGMA journal_mode=DELETE")  # one file, with nothing beside it
        answer = target.execute("PRAGMA integrity_check(1)").fetchone()[0]
        if answer != "ok":
            raise damaged_file(url, answer)
    return copy.stat().st_size
