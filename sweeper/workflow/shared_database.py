"""One machine or several: what a database file can serve."""

from __future__ import annotations

from sweeper.system.file_systems import NETWORK, file_system
from sweeper.system.locks import sqlite_path


def one_machine_only(storage: str) -> str | None:
    """A warning where a SQLite file lies where it is not safe; else None."""
    path = sqlite_path(storage)
    if path is None:
        return None
    if (kind := file_system(path)) in NETWORK:
        return (
            f"--storage {storage} lies on a network file system ({kind}), where SQLite's locks and write-ahead log are "
            "not safe: keep it on a local disk, or use a PostgreSQL database: --storage "
            "postgresql://USER@HOST/DATABASE (docs/cluster.md)"
        )
    return None
