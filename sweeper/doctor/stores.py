"""Optuna's storage and MLflow's store. Nothing is made that is not there yet."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from sweeper.core.errors import SweeperError
from sweeper.core.redact import check_address, redact, shown_address
from sweeper.doctor.check import Check
from sweeper.system.disk_space import NETWORK, file_system
from sweeper.system.locks import sqlite_path, sqlite_uri
from sweeper.system.system_errors import cause


def check_stores(storage: str, tracking_uri: str) -> list[Check]:
    """The checks of both stores, without the secrets of their addresses."""
    found = [_storage(storage), _tracking(tracking_uri)]
    return [one.model_copy(update={"found": redact(one.found), "advice": redact(one.advice)}) for one in found]


def sqlite_check(name: str, path: Path) -> Check:
    """Whether a SQLite file is there, whole, and on a disk whose locks work."""
    kind = file_system(path)
    if kind in NETWORK:
        return Check(
            name=name,
            status="broken",
            found=f"{path} lies on a network file system ({kind}), whose locks SQLite cannot rely on",
            advice="put the file on a local disk, or use a database server",
        )
    if not path.exists():
        return Check(name=name, status="ok", found=f"{path} is not there yet; a sweep makes it")
    try:
        with closing(sqlite3.connect(sqlite_uri(path, "ro"), uri=True, timeout=10)) as connection:
            answer = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
            mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
            version = _version(connection)
    except sqlite3.Error as error:
        advice = "restore it from a copy, or move it away: a new one is made"
        return Check(name=name, status="broken", found=f"{path} cannot be read: {error}", advice=advice)
    if answer != "ok":
        advice = f"stop all sweeps that use it; restore a backup, or try `sqlite3 {path} .recover | sqlite3 NEW`"
        return Check(name=name, status="broken", found=f"{path} is damaged: {answer}", advice=advice)
    shown = (
        f"{path}: whole, {path.stat().st_size / 1e6:.1f} MB, SQLite {sqlite3.sqlite_version}, journal {mode}{version}"
    )
    return Check(name=name, status="ok", found=shown)


def _version(connection: sqlite3.Connection) -> str:
    """The schema's version, where the store keeps one."""
    try:
        row = connection.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite3.Error:
        return ""
    return f", schema {row[0]}" if row else ""


def _storage(url: str) -> Check:
    path = sqlite_path(url)
    if path is not None:
        return sqlite_check("storage", path)
    from sweeper.storage import open_storage, study_names

    try:
        names = study_names(open_storage(url, create=False))
    except (SweeperError, ImportError) as error:
        text = cause(error)
        return Check(name="storage", status="broken", found=text, advice="start the server, or mend --storage")
    except Exception as error:
        text = f"{type(error).__name__}: {cause(error)}"
        return Check(name="storage", status="broken", found=text, advice="start the server, or mend --storage")
    return Check(name="storage", status="ok", found=f"{shown_address(url)} answers, {len(names)} studies")


def _tracking(uri: str) -> Check:
    path = sqlite_path(uri)
    if path is not None:
        return sqlite_check("MLflow", path)
    if not uri.startswith(("http://", "https://")):
        return Check(name="MLflow", status="note", found=f"{shown_address(uri)}: only files and servers are looked at")
    from sweeper.tracking import server_version

    try:
        check_address("--tracking-uri", uri)
        version = server_version(uri)
    except Exception as error:
        advice = "start the server: a sweep begins with a store that answers alone"
        found = f"{shown_address(uri)} does not answer: {cause(error)}"
        return Check(name="MLflow", status="broken", found=found, advice=advice)
    return Check(name="MLflow", status="ok", found=f"{shown_address(uri)} answers, MLflow {version}")
