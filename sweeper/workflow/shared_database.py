"""One machine or several: what a database file can serve."""

from __future__ import annotations

from sweeper.system.file_systems import NETWORK, file_system
from sweeper.system.locks import sqlite_path


def one_machine_only(storage: str, *, others: bool = False) -> str | None:
    """A warning where SQLite is asked to serve more than one machine, or lies where it is not safe; else None.

    `others` = machines with other names work on the study.
    """
    path = sqlite_path(storage)
    if path is None:
        return None
    remedy = "use a PostgreSQL database: --storage postgresql://USER@HOST/DATABASE (docs/cluster.md)"
    if others:
        return (
            f"--storage {storage}: SQLite serves the processes of one machine, and others work on this study; its "
            f"locks do not hold between machines, so that trials can be lost or the file broken: {remedy}"
        )
    if (kind := file_system(path)) in NETWORK:
        return (
            f"--storage {storage} lies on a network file system ({kind}), where SQLite's locks and write-ahead log are "
            f"not safe: keep it on a local disk, or {remedy}"
        )
    return None
