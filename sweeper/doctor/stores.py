"""Optuna's storage, MLflow's store, and what waits to be sent there. Nothing is made that is not there yet."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from sweeper.core.causes import cause
from sweeper.core.errors import SweeperError
from sweeper.core.redact import check_address, redact, shown_address
from sweeper.core.text import count
from sweeper.doctor.check import Check
from sweeper.system.file_systems import NETWORK, file_system
from sweeper.system.locks import spool_folder, sqlite_path, sqlite_uri


def check_stores(storage: str, tracking_uri: str) -> list[Check]:
    """The checks of both stores and of the spool, without the secrets of their addresses."""
    found = [_storage(storage), _tracking(tracking_uri), _spool(spool_folder(storage))]
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
    if not path.is_file():  # SQLite would wait for who writes into a pipe
        advice = "name the file of the database"
        return Check(name=name, status="broken", found=f"{path} is not a regular file", advice=advice)
    try:
        with closing(sqlite3.connect(sqlite_uri(path, "ro"), uri=True, timeout=10)) as connection:
            answer = connection.execute("PRAGMA integrity_check(1)").fetchone()[0]
            mode = connection.execute("PRAGMA journal_mode").fetchone()[0]
            version = _version(connection)
    except sqlite3.Error as error:
        advice = "restore it from a copy, or move it away: a new one is made"
        return Check(name=name, status="broken", found=f"{path} cannot be read: {error}", advice=advice)
    if answer != "ok":
        advice = f"`sqlite3 {path} .recover` may save what is in it; then move it away"
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
        found = sqlite_check("storage", path)
        return _records(url, found) if found.status == "ok" and path.exists() else found
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


def _records(url: str, whole: Check) -> Check:
    """Whether every stored record of every study is what was written."""
    from sqlalchemy.exc import SQLAlchemyError

    from sweeper.storage.damage import find_damage, study_names_in
    from sweeper.storage.raw_rows import rows_of

    try:
        with rows_of(url) as connection:
            damaged = [(name, d) for name in study_names_in(connection) for d in find_damage(connection, name)]
    except SQLAlchemyError:
        return whole  # no database of studies
    if not damaged:
        return whole
    shown = "; ".join(f"{d.what} of study {name!r}: {d.why}" for name, d in damaged[:5])
    more = f"; and {len(damaged) - 5} more" if len(damaged) > 5 else ""
    advice = f"`sweeper doctor --repair {damaged[0][0]}` takes it out, and a resume trains it again"
    return Check(name="storage", status="broken", found=f"damaged records: {shown}{more}", advice=advice)


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


def _spool(folder: Path) -> Check:
    waiting = {}
    for path in sorted(folder.glob("*.db")):
        try:
            with closing(sqlite3.connect(sqlite_uri(path, "ro"), uri=True, timeout=10)) as connection:
                waiting[path.name] = connection.execute("SELECT count(*) FROM operation").fetchone()[0]
        except sqlite3.Error:
            continue
    if not any(waiting.values()):
        return Check(name="spool", status="ok", found="nothing waits to be sent to MLflow")
    shown = ", ".join(f"{count(n, 'operation')} in {folder / name}" for name, n in waiting.items() if n)
    advice = "`sweeper report STUDY` (or a resume) with the sweep's --tracking-uri sends what waits"
    return Check(name="spool", status="note", found=shown, advice=advice)
