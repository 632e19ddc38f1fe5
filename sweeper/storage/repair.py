"""Taking damaged records out of a study, so that everything else can be used and the rest is trained again."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import ExitStack, closing
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from optuna.storages import RDBStorage
from sqlalchemy import Connection

from sweeper.core.errors import StudyError, SweeperError
from sweeper.storage.attributes import ABANDONED, FAMILY, PLAN, PLAN_COPY
from sweeper.storage.damage import Damage, find_damage, study_id
from sweeper.storage.database import open_storage, sole_use
from sweeper.storage.plan import Plan, load_study
from sweeper.storage.raw_rows import change, fetch, lenient, rows_of
from sweeper.storage.record_format import pack, unpack
from sweeper.system.locks import sqlite_path

GAP = 20_000
"""Rows that are tried one by one behind a page that cannot be read."""


class Repaired(NamedTuple):
    """What a repair did."""

    found: tuple[Damage, ...]
    requeued: int
    """Trials that a resume trains again with their own parameters."""
    kept: Path | None
    """The database as it was before; None where nothing was changed, or the database is a server's."""
    lost: dict[str, int]
    """Rows of each table that could not be read, where the file itself was damaged: at least so many."""


def repair(url: str, name: str, now: datetime) -> Repaired:
    """Take what is damaged out of a study. A damaged trial is abandoned, and its parameters are queued again.

    Args:
        url: `--storage`.
        name: the study.
        now: for the name of the copy that is kept.

    Raises:
        MissingStudyError: if there is no such study.
        StudyError: if a process is running it, or its plan is damaged without a copy: nothing is changed then.
        SweeperError: if nothing of the file can be read.
    """
    path = sqlite_path(url)
    if path is not None and not path.exists():
        raise StudyError(f"--storage: there is no file {path}; name the one that the study was made in")
    with ExitStack() as held:
        held.enter_context(sole_use(url, name))
        lost: dict[str, int] = {}
        kept = None
        if path is not None and not file_is_whole(path):
            kept, lost = _rebuild(path, now)
        with rows_of(url) as connection:
            found = find_damage(connection, name)
            _check_plan(connection, name, found)
        if not found:
            return Repaired((), 0, kept, lost)
        if path is not None and kept is None:
            kept = _beside(path, "before-repair", now)
            _copy(path, kept)
        with rows_of(url) as connection:
            for damage in found:
                _take_out(connection, damage, now)
            _mend_plan(connection, name)
        return Repaired(tuple(found), _queue_again(url, name, found), kept, lost)


def file_is_whole(path: Path) -> bool:
    """Whether SQLite finds its file in order."""
    try:
        with closing(lenient(path)) as connection:
            return bool(connection.execute("PRAGMA integrity_check(1)").fetchone()[0] == "ok")
    except sqlite3.Error:
        return False


def _check_plan(connection: Connection, name: str, found: list[Damage]) -> None:
    if _whole_plan(connection, name) is None:
        why = next((d.why for d in found if d.what == f"the study's {PLAN!r}"), "it is missing")
        raise StudyError(
            f"study {name!r} cannot be repaired: its plan is damaged ({why}) and there is no whole copy of it. Restore "
            "a backup; the results that are left can be read with Python's sqlite3"
        )


def _whole_plan(connection: Connection, name: str) -> Plan | None:
    query = (
        "SELECT key, value_json FROM study_user_attributes WHERE study_id = :study AND key IN (:plan, :copy) "
        "ORDER BY key"
    )
    for _, stored in fetch(connection, query, study=study_id(connection, name), plan=PLAN, copy=PLAN_COPY):
        try:
            return unpack(Plan, json.loads(stored), "the plan")
        except (SweeperError, ValueError, TypeError):
            continue
    return None


def _mend_plan(connection: Connection, name: str) -> None:
    """Write the plan, or its copy, where one of them was taken out."""
    own, plan = study_id(connection, name), _whole_plan(connection, name)
    assert plan is not None
    query = "SELECT count(*) FROM study_user_attributes WHERE study_id = :study AND key = :key"
    for key in (PLAN, PLAN_COPY):
        if fetch(connection, query, study=own, key=key)[0][0] == 0:
            change(
                connection,
                "INSERT INTO study_user_attributes (study_id, key, value_json) VALUES (:study, :key, :value)",
                study=own,
                key=key,
                value=json.dumps(pack(plan)),
            )


def _take_out(connection: Connection, damage: Damage, now: datetime) -> None:
    for row in damage.rows:
        change(connection, f"DELETE FROM {row.table} WHERE {row.column} = :key", key=row.key)
    if damage.trial_id is None:
        return
    own = {"trial": damage.trial_id}
    if damage.number is not None:
        change(connection, "UPDATE trials SET number = :number WHERE trial_id = :trial", number=damage.number, **own)
    if damage.family is not None:
        _write_attribute(connection, damage.trial_id, FAMILY, damage.family)
    if damage.state:
        change(
            connection,
            "UPDATE trials SET datetime_start = NULL, datetime_complete = NULL WHERE trial_id = :trial",
            **own,
        )
    if damage.trial is None:
        return
    for table in ("trial_values", "trial_intermediate_values", "trial_user_attributes"):
        change(connection, f"DELETE FROM {table} WHERE trial_id = :trial", **own)
    change(
        connection,
        "UPDATE trials SET state = 'FAIL', datetime_complete = :now WHERE trial_id = :trial",
        now=f"{now:%Y-%m-%d %H:%M:%S.%f}",
        **own,
    )
    _write_attribute(connection, damage.trial_id, ABANDONED, f"it was damaged in the database: {damage.why}")


def _write_attribute(connection: Connection, trial_id: int, key: str, value: str) -> None:
    change(
        connection,
        "INSERT INTO trial_user_attributes (trial_id, key, value_json) VALUES (:trial, :key, :value)",
        trial=trial_id,
        key=key,
        value=json.dumps(value),
    )


def _queue_again(url: str, name: str, found: list[Damage]) -> int:
    """Queue the parameters of damaged trials, where these are whole; else the search asks for others."""
    storage = open_storage(url, create=False)
    study = load_study(storage, name)
    again = [damage for damage in found if damage.trial is not None and damage.params]
    for damage in again:
        assert damage.params is not None
        study.enqueue_trial(dict(damage.params), user_attrs={"retry_of": damage.trial})
    return len(again)


# --- The file -----------------------------------------------------------------------------------------------


def _beside(path: Path, why: str, now: datetime) -> Path:
    return path.with_name(f"{path.name}.{why}-{now:%Y%m%dT%H%M%S}")


def _copy(path: Path, copy: Path) -> None:
    with closing(lenient(path)) as source, closing(sqlite3.connect(copy)) as target:
        source.backup(target)


def _rebuild(path: Path, now: datetime) -> tuple[Path, dict[str, int]]:
    """Make the file anew from all rows that can be read; the damaged one is kept, with what belongs to it.

    Raises:
        SweeperError: if not even the names of the tables can be read.
    """
    fresh, kept = _beside(path, "repaired", now), _beside(path, "damaged", now)
    RDBStorage(f"sqlite:///{fresh}").engine.dispose()
    lost: dict[str, int] = {}
    try:
        with closing(lenient(path)) as source, closing(sqlite3.connect(fresh)) as target:
            tables = [row[0] for row in target.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            for table in tables:
                lost |= _salvage(source, target, table)
            target.commit()
            if not target.execute("SELECT count(*) FROM studies").fetchone()[0]:
                raise SweeperError(f"nothing of {path} can be read; restore a backup (sweeper backup makes one)")
    except BaseException:
        fresh.unlink(missing_ok=True)
        raise
    for suffix in ("", "-wal", "-shm"):
        own = path.with_name(path.name + suffix)
        if own.exists():
            shutil.move(own, kept.with_name(kept.name + suffix))
    shutil.move(fresh, path)
    return kept, lost


def _salvage(source: sqlite3.Connection, target: sqlite3.Connection, table: str) -> dict[str, int]:
    """Copy the rows of a table in the order of their keys, also those behind a page that cannot be read."""
    columns = [row[1] for row in target.execute(f"PRAGMA table_info({table})")]
    names, marks = ", ".join(f'"{c}"' for c in columns), ", ".join("?" * len(columns))
    insert = f"INSERT OR REPLACE INTO {table} ({names}) VALUES ({marks})"
    last, lost, misses = -1, 0, 0
    while True:
        try:
            query = f"SELECT rowid, {names} FROM {table} NOT INDEXED WHERE rowid > ? ORDER BY rowid"
            for rowid, *values in source.execute(query, (last,)):
                last, misses = rowid, 0
                try:
                    target.execute(insert, [_plain(value) for value in values])
                except sqlite3.Error:
                    lost += 1
            return {table: lost} if lost else {}
        except sqlite3.Error:
            last, lost, misses = last + 1, lost + 1, misses + 1
            if misses > GAP:
                return {table: max(1, lost - misses)}


def _plain(value: object) -> object:
    """Text that was no UTF-8 is marked as such: what is read from it is found to be damaged."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value
