"""A copy of a database that can be used by itself, made while sweeps go on."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from sweeper.core.errors import DamagedError, UsageError
from sweeper.core.redact import shown_address
from sweeper.core.text import count
from sweeper.storage.damage import find_damage, study_id
from sweeper.storage.raw_rows import lenient, rows_of
from sweeper.system.locks import sqlite_path
from sweeper.system.whole_files import remove_left, written_whole


def back_up(url: str, name: str, copy: Path) -> int:
    """Copy the database of a study to a file, whole and at one instant, and check the study in the copy.

    Copying the file by other means is not enough: what was written last lies in `FILE-wal` beside it.

    Args:
        url: `--storage`, of a SQLite file.
        name: a study in it. The copy holds all studies.
        copy: the new file; it appears under its name when it is complete.

    Returns:
        Bytes of the copy.

    Raises:
        UsageError: if the storage is a server's, the copy exists, or there is no such study.
        DamagedError: if the study is damaged; the copy is there all the same.
        OSError, sqlite3.Error: if it cannot be written or read.
    """
    path = sqlite_path(url)
    if path is None:
        raise UsageError(f"--storage {shown_address(url)} is a server's database: back it up with `pg_dump`")
    if not path.exists():
        raise UsageError(f"--storage: there is no file {path}; name the one that the study was made in")
    if copy.exists():
        raise UsageError(f"{copy} exists already; name a file that does not")
    remove_left(copy.parent)
    with written_whole(copy) as part:
        with rows_of(url) as connection:
            study_id(connection, name)  # raises where there is no such study
        with closing(lenient(path)) as source, closing(sqlite3.connect(part)) as target:
            source.backup(target)
            target.execute("PRAGMA journal_mode=DELETE")  # one file, with nothing beside it
    with rows_of(f"sqlite:///{copy}") as connection:
        found = find_damage(connection, name)
    if found:
        what = f"{copy} is complete, but {found[0].what} of study {name!r} in it"
        raise DamagedError(what, f"{found[0].why} (as in the original; {count(len(found), 'damaged record')} in all)")
    return copy.stat().st_size
