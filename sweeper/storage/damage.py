"""What of a study's records is damaged: a disk, a copy or a hand may have changed them."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from typing import Any, NamedTuple

from optuna.distributions import json_to_distribution
from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from sweeper.core.base import Record
from sweeper.core.causes import cause
from sweeper.core.errors import DamagedError, MissingStudyError, SweeperError
from sweeper.core.records import Probed, RateFit, TrialResult
from sweeper.core.redact import shown_address
from sweeper.core.text import count
from sweeper.storage.attributes import (
    ABANDONED,
    FAMILY,
    PLAN,
    PLAN_COPY,
    PROBED,
    QUEUE_OF,
    RATES,
    RESULT,
    SAME,
    TAKEN,
    WAITS,
)
from sweeper.storage.confirmation_setup import SameLosses
from sweeper.storage.interim_analyses import AnalysesTaken
from sweeper.storage.plan import Plan
from sweeper.storage.raw_rows import fetch, rows_of
from sweeper.storage.record_format import MARK, Value, unpack

KINDS: Mapping[str, type[Record]] = {
    PLAN: Plan,
    PLAN_COPY: Plan,
    TAKEN: AnalysesTaken,
    PROBED: Probed,
    SAME: SameLosses,
    RATES: RateFit,
}
TRAINING = re.compile(r"(confirm|recheck|probe)/(\d{5,})")
STATES = ("RUNNING", "WAITING", "COMPLETE", "PRUNED", "FAIL")
ENDED = {"complete": "COMPLETE", "pruned": "PRUNED", "failed": "FAIL"}
DATE = re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(\.\d{1,6})?")


class Row(NamedTuple):
    """A row that cannot be used: its table, the name of its key column, and the key."""

    table: str
    column: str
    key: int


class Damage(NamedTuple):
    """One damaged record."""

    what: str
    """For people: `trial 12`, `the training confirm/00003`."""
    why: str
    rows: tuple[Row, ...] = ()
    """Rows to be taken out."""
    trial: int | None = None
    """Of the search, by its number, where the trial is to be trained again."""
    trial_id: int | None = None
    params: Mapping[str, Any] | None = None
    """With which it is to be trained again; None where nothing is known."""
    number: int | None = None
    """The number that the trial must have, where it has another."""
    family: str | None = None
    """The trial's family, where it is to be written again."""
    state: bool = False
    """Whether the trial's date is to be taken out."""


def study_id(connection: Connection, name: str) -> int:
    """The key of a study.

    Raises:
        MissingStudyError: if there is none of that name.
    """
    found = fetch(connection, "SELECT study_id, study_name FROM studies ORDER BY study_id")
    for key, own in found:
        if own == name:
            return int(key)
    known = ", ".join(str(own).encode("utf-8", "replace").decode() for _, own in found[-5:]) or "none"
    raise MissingStudyError(f"there is no study {name!r} in this storage; the newest are: {known}")


def find_damage(connection: Connection, name: str) -> list[Damage]:
    """Every damaged record of a study: what is no JSON, what its checksum or its neighbours do not fit to.

    Raises:
        MissingStudyError: if there is no such study.
        sqlalchemy.exc.DatabaseError: if the file itself cannot be read.
    """
    own = study_id(connection, name)
    return [*_of_study(connection, own), *_of_trials(connection, own)]


def name_damage(url: str, error: Exception, study: str | None = None) -> SweeperError:
    """What to say where reading a database ended in this error: which records are damaged, else the file.

    `study` is its name where it is known, for the command that is proposed.
    """
    words = cause(error)
    try:
        with rows_of(url) as connection:
            for name in study_names_in(connection):
                if found := find_damage(connection, name):
                    others = count(len(found) - 1, "more damaged record")
                    more = f"; and {others} of this study" if len(found) > 1 else ""
                    return DamagedError(f"{found[0].what} of study {name!r}", found[0].why + more)
    except SQLAlchemyError as file_error:
        words = cause(file_error)
    return SweeperError(
        f"the database {shown_address(url)} is damaged ({words}). Stop all sweeps that use it; `sweeper doctor "
        f"--repair {shlex.quote(study) if study else 'STUDY'}` makes it anew from all rows that can be read, and keeps "
        "the damaged file; or restore a backup"
    )


def study_names_in(connection: Connection) -> list[str]:
    """Names of the studies, without the queues of trainings that machines share."""
    query = (
        "SELECT study_name FROM studies WHERE study_id NOT IN "
        "(SELECT study_id FROM study_user_attributes WHERE key = :queue) ORDER BY study_id"
    )
    return [str(row[0]) for row in fetch(connection, query, queue=QUEUE_OF)]


def _of_study(connection: Connection, own: int) -> list[Damage]:
    found = []
    for table in ("study_user_attributes", "study_system_attributes"):
        column = table.removesuffix("s").replace("attribute", "attribute_id")
        query = f"SELECT {column}, key, value_json FROM {table} WHERE study_id = :study ORDER BY {column}"
        for row, key, stored in fetch(connection, query, study=own):
            if (why := _attribute_fault(key, stored)) is not None:
                shown = f"the training {key}" if TRAINING.fullmatch(str(key)) else f"the study's {key!r}"
                found.append(Damage(shown, why, (Row(table, column, row),)))
    return found


def _attribute_fault(key: object, stored: object) -> str | None:
    """What is wrong with a study's attribute; None where nothing is."""
    try:
        value = _json(stored)
        str(key).encode()
        training = TRAINING.fullmatch(str(key))
        if training is not None:
            spec = unpack(TrialResult, value, "it").spec
            if (spec.purpose, spec.number) != (training[1], int(training[2])):
                return f"it holds the training {spec.purpose}/{spec.number:05d}"
        elif str(key) in KINDS:
            unpack(KINDS[str(key)], value, "it")
        elif isinstance(value, Mapping) and MARK in value:
            if "spec" in value:
                return "it holds a training under a name that is none of a training's"
            unpack(Value, value, "it")
    except (SweeperError, ValueError, TypeError) as error:
        return _words(error)
    return None


def _of_trials(connection: Connection, own: int) -> list[Damage]:
    query = (
        "SELECT trial_id, number, state, datetime_start, datetime_complete FROM trials WHERE study_id = :study "
        "ORDER BY trial_id"
    )
    parts = {
        table: _by_trial(connection, table, columns, own)
        for table, columns in {
            "trial_params": "param_id, param_name, param_value, distribution_json",
            "trial_values": "trial_value_id, value, value_type",
            "trial_intermediate_values": "trial_intermediate_value_id, intermediate_value, intermediate_value_type",
            "trial_user_attributes": "trial_user_attribute_id, key, value_json",
            "trial_system_attributes": "trial_system_attribute_id, key, value_json",
        }.items()
    }
    found = []
    for rank, (trial_id, number, state, *dates) in enumerate(fetch(connection, query, study=own)):
        if number != rank:
            found.append(Damage(f"trial {rank}", f"its number is {number}", trial_id=trial_id, number=rank))
        if any(isinstance(date, str) and not DATE.fullmatch(date) for date in dates):
            found.append(Damage(f"trial {rank}", "its date is none", trial_id=trial_id, state=True))
        own_parts = {table: rows.get(trial_id, []) for table, rows in parts.items()}
        found += _of_trial(rank, trial_id, str(state), own_parts)
    return found


def _by_trial(connection: Connection, table: str, columns: str, own: int) -> dict[int, list[tuple[Any, ...]]]:
    mine = "SELECT trial_id FROM trials WHERE study_id = :study"
    query = f"SELECT trial_id, {columns} FROM {table} WHERE trial_id IN ({mine})"
    rows: dict[int, list[tuple[Any, ...]]] = {}
    for trial_id, *rest in fetch(connection, query, study=own):
        rows.setdefault(trial_id, []).append(tuple(rest))
    return rows


def _of_trial(rank: int, trial_id: int, state: str, parts: Mapping[str, list[tuple[Any, ...]]]) -> list[Damage]:
    """At most one finding: whether the trial is to be trained again, or some rows are to be taken out."""
    faults: list[str] = []
    rows: list[Row] = []
    params: dict[str, Any] | None = {}
    for row, name, value, distribution in parts["trial_params"]:
        try:
            shape = json_to_distribution(distribution)
            if not shape._contains(value):
                raise ValueError(f"{value} is outside its range")
            assert params is not None
            params[str(name)] = shape.to_external_repr(value)
        except Exception as error:  # Optuna's reader raises many kinds
            faults.append(f"its parameter {name!r}: {_words(error)}")
            rows.append(Row("trial_params", "param_id", row))
            params = None
            break
    attributes: dict[str, Any] = {}
    small: list[str] = []
    for table, column in (("trial_user_attributes", "user"), ("trial_system_attributes", "system")):
        for row, key, stored in parts[table]:
            try:
                str(key).encode()
                attributes[str(key) if column == "user" else f"system:{key}"] = _json(stored)
            except ValueError as error:
                essential = key in (RESULT, WAITS)
                (faults if essential else small).append(f"its {key!r}: {_words(error)}")
                rows.append(Row(table, f"trial_{column}_attribute_id", row))
    if parts["trial_intermediate_values"] and FAMILY not in attributes and not any("family" in text for text in small):
        small.append("its 'family' is missing")
    values = [row[1] for row in parts["trial_values"]]
    kinds = {row[2] for row in parts["trial_values"]} | {row[2] for row in parts["trial_intermediate_values"]}
    if not kinds <= {"FINITE", "INF_POS", "INF_NEG", "NAN"}:
        faults.append("the kind of a value is none")
    if state not in STATES:
        faults.append(f"its state is {state!r}")
    elif ABANDONED not in attributes:
        faults += _result_faults(state, attributes, params, values)
    what = f"trial {rank}"
    if faults:
        params = _again(attributes, params)
        return [Damage(what, "; ".join([*faults, *small]), tuple(rows), rank, trial_id, params)]
    family = None if FAMILY in attributes or params is None else params.get("loss")
    return [Damage(what, "; ".join(small), tuple(rows), trial_id=trial_id, family=family)] if small else []


def _again(attributes: Mapping[str, Any], params: dict[str, Any] | None) -> dict[str, Any] | None:
    """With what a damaged trial is to be trained again: its parameters, where they are whole.

    Else the family and the learning rate of its result, if that is whole: the search chooses the rest. None = nothing
    is known.
    """
    try:
        result = unpack(TrialResult, attributes.get(RESULT, attributes.get(WAITS)), "its result")
    except SweeperError:
        return params
    try:
        unpack(TrialResult, attributes.get(RESULT, attributes.get(WAITS)), "its result", beside=params)
    except SweeperError:
        params = None
    return params or {"loss": result.spec.family, f"{result.spec.family}.lr": result.spec.lr}


def _result_faults(
    state: str, attributes: dict[str, Any], params: dict[str, Any] | None, values: list[Any]
) -> list[str]:
    """Whether a trial that counts, or waits, has the result that belongs to it."""
    try:
        if WAITS in attributes and RESULT not in attributes:
            unpack(TrialResult, attributes[WAITS], "what it gave before it was paused")
        if RESULT in attributes:
            result = unpack(TrialResult, attributes[RESULT], "its result", beside=params)
            if state != "RUNNING" and state != ENDED[result.state]:
                return [f"its state is {state}, its result is {result.state}"]
            if state == "COMPLETE" and values != [result.value]:
                return [f"its value is {values}, its result has {result.value}"]
            if attributes.get(FAMILY, result.spec.family) != result.spec.family:
                return ["its family is not that of its result"]
        elif state in ENDED.values():
            return ["its result is missing"]
    except (SweeperError, ValueError, TypeError) as error:
        return [_words(error)]
    return []


def _json(stored: object) -> Any:
    if not isinstance(stored, str):
        raise ValueError(f"it must be text, found {type(stored).__name__}")
    stored.encode()  # UnicodeEncodeError, a ValueError: the bytes were no UTF-8
    return json.loads(stored)


def _words(error: Exception) -> str:
    if isinstance(error, json.JSONDecodeError):
        return f"it is no JSON: {error}"
    if isinstance(error, UnicodeError):
        return "it is no UTF-8"
    why = getattr(error, "why", None)
    return str(why) if why else " ".join(str(error).split())[:300]
