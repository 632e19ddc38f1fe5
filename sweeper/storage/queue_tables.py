"""The queue of trainings that machines share: tables of its own beside Optuna's, in the same database.

- `sweeper_members`: the process that leads a study, and those that joined, one row for each time that one entered;
- `sweeper_trainings`: what is to be trained elsewhere than with the leader; a row is deleted once its outcome was read,
  or when the leader wants it no more;
- `sweeper_evaluations`: what was evaluated in such a training, each with the leader's answer.

Every change can be repeated, as a server may go away before it confirms one: a new row has a token by which it is found
again, and a training is taken by an UPDATE with a condition, which gives it to one process alone. No column holds a
time: those who are there count up `beats`, and others watch whether that changes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, Literal
from uuid import uuid4

import optuna
from sqlalchemy import (
    Boolean,
    Column,
    ColumnElement,
    Connection,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    delete,
    insert,
    inspect,
    select,
    update,
)

from sweeper.core.events import Answer
from sweeper.core.records import Evaluation, TrialResult, TrialSpec
from sweeper.storage.database import open_storage
from sweeper.storage.optuna_internals import database_of, study_id
from sweeper.storage.resilient_storage import SteadyStorage
from sweeper.system.advisory_locks import one_at_a_time
from sweeper.system.database_waits import Patience
from sweeper.system.locks import created_once, sqlite_path

MemberState = Literal["there", "left", "concluded", "lost"]
"""`concluded`: it led the study to its conclusion. `lost`: it was not heard of any more."""
TrainingState = Literal["waiting", "running", "finished", "paused", "failed", "out_of_memory", "returned", "lost"]
"""`returned`: its machine goes, and another may train it. `lost`: its machine was not heard of any more."""

TABLES = MetaData()
MEMBERS = Table(
    "sweeper_members",
    TABLES,
    Column("id", Integer, primary_key=True),
    Column("token", String(32), nullable=False, unique=True),
    Column("study_id", Integer, nullable=False, index=True),
    Column("kind", String(16), nullable=False),
    Column("host", Text, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("slots", Integer, nullable=False),
    Column("state", String(16), nullable=False),
    Column("beats", Integer, nullable=False),
    sqlite_autoincrement=True,
)
TRAININGS = Table(
    "sweeper_trainings",
    TABLES,
    Column("id", Integer, primary_key=True),
    Column("token", String(32), nullable=False, unique=True),
    Column("study_id", Integer, nullable=False, index=True),
    Column("leader", Integer, nullable=False),
    Column("only_for", Integer),
    Column("worker", Integer),
    Column("state", String(16), nullable=False),
    Column("spec", Text, nullable=False),
    Column("result", Text),
    Column("reason", Text),
    Column("beats", Integer, nullable=False),
    sqlite_autoincrement=True,
)
EVALUATIONS = Table(
    "sweeper_evaluations",
    TABLES,
    Column("training", Integer, primary_key=True, autoincrement=False),
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("evaluation", Text, nullable=False),
    Column("last", Boolean, nullable=False),
    Column("answer", String(8)),
)


@dataclass(frozen=True)
class Member:
    """A process that leads the study, or joined it."""

    id: int
    kind: Literal["leader", "worker"]
    host: str
    slots: int
    state: MemberState


@dataclass(frozen=True)
class Told:
    """An evaluation that a worker told, and what was answered so far."""

    evaluation: Evaluation
    last: bool
    answer: Answer | None


@dataclass(frozen=True)
class QueuedTraining:
    """A training in the queue."""

    id: int
    leader: int
    """The member that put it there."""
    only_for: int | None
    """The one member that may take it; None = any."""
    worker: int | None
    """The member that took it."""
    state: TrainingState
    spec: TrialSpec
    result: TrialResult | None
    reason: str | None
    told: tuple[Told, ...]


def open_queue(url: str, study: str, patience: Patience | None = None) -> QueueTables:
    """The queue of a study, with connections of its own; its tables are made where they are missing.

    Raises:
        StudyError, UsageError: as `open_storage`.
        KeyError: if there is no such study.
    """
    storage = open_storage(url, create=False, patience=patience)
    path = sqlite_path(url)
    with one_at_a_time(url, "create", patience=patience) if path is None else created_once(path):
        storage.patiently(lambda: TABLES.create_all(storage.engine))
    return QueueTables(storage, storage.get_study_id_from_name(study))


def queue_exists(study: optuna.Study) -> bool:
    """Whether anybody ever entered this study's queue."""
    storage = database_of(study)
    assert isinstance(storage, SteadyStorage)

    def look(connection: Connection) -> bool:
        if not inspect(connection).has_table(MEMBERS.name):
            return False
        mine = MEMBERS.c.study_id == study_id(study)
        return connection.execute(select(MEMBERS.c.id).where(mine).limit(1)).first() is not None

    return storage.transact(look)


class QueueTables:
    """The queue of one study."""

    def __init__(self, storage: SteadyStorage, study_id: int) -> None:
        self._storage, self._study = storage, study_id

    def add_member(self, kind: str, host: str, pid: int, slots: int) -> int:
        """Enter; the member's id."""
        values = {"kind": kind, "host": host, "pid": pid, "slots": slots, "state": "there", "beats": 0}
        return self._add(MEMBERS, values)

    def end_member(self, member: int, state: MemberState) -> None:
        """Say that a member is no longer there, and how it went."""
        there = (MEMBERS.c.id == member) & (MEMBERS.c.state == "there")
        self._change(update(MEMBERS).where(there).values(state=state))

    def set_slots(self, member: int, slots: int) -> None:
        """How many trainings a member takes at a time from now on."""
        self._change(update(MEMBERS).where(MEMBERS.c.id == member).values(slots=slots))

    def members(self) -> dict[int, Member]:
        """All that ever entered, by id, in the order in which they did."""
        columns = (MEMBERS.c.id, MEMBERS.c.kind, MEMBERS.c.host, MEMBERS.c.slots, MEMBERS.c.state)
        asked = select(*columns).where(self._of(MEMBERS)).order_by(MEMBERS.c.id)
        rows = self._storage.transact(lambda connection: connection.execute(asked).all())
        return {row.id: Member(**row._asdict()) for row in rows}

    def put(self, spec: TrialSpec, leader: int, only_for: int | None) -> int:
        """Queue a training; its id. `only_for` is the one member that may take it; None = any."""
        stored = spec.model_dump_json()
        return self._add(
            TRAININGS, {"leader": leader, "only_for": only_for, "state": "waiting", "spec": stored, "beats": 0}
        )

    def take(self, training: int, worker: int) -> bool:
        """Take a waiting training for this member, unless another has it, or it is gone."""

        def claim(connection: Connection) -> bool:
            waiting = (TRAININGS.c.id == training) & (TRAININGS.c.state == "waiting")
            if connection.execute(update(TRAININGS).where(waiting).values(state="running", worker=worker)).rowcount:
                return True
            mine = select(TRAININGS.c.worker, TRAININGS.c.state).where(TRAININGS.c.id == training)
            return connection.execute(mine).first() == (worker, "running")  # our claim, whose confirmation was lost

        return self._storage.transact(claim)

    def end_training(
        self, training: int, state: TrainingState, *, result: TrialResult | None = None, reason: str | None = None
    ) -> None:
        """Say what became of a training that runs."""
        stored = None if result is None else result.model_dump_json()
        running = (TRAININGS.c.id == training) & (TRAININGS.c.state == "running")
        self._change(update(TRAININGS).where(running).values(state=state, result=stored, reason=reason))

    def trainings(self, own: Collection[int], *, waiting: bool = False) -> dict[int, QueuedTraining]:
        """Those of `own` that are still there, with their evaluations; and all that wait, if asked for."""
        of_own = TRAININGS.c.id.in_(own)
        wanted: ColumnElement[bool] = of_own | (TRAININGS.c.state == "waiting") if waiting else of_own
        columns = [column for column in TRAININGS.c if column.name not in {"token", "study_id", "beats"}]
        asked = select(*columns).where(self._of(TRAININGS), wanted).order_by(TRAININGS.c.id)
        of_these = EVALUATIONS.c.training.in_(own)
        told = select(EVALUATIONS).where(of_these).order_by(EVALUATIONS.c.training, EVALUATIONS.c.number)

        def read(connection: Connection) -> tuple[list[Any], list[Any]]:
            # Evaluations last: one that is told before a training's end is then read with it.
            rows = list(connection.execute(asked))
            return rows, list(connection.execute(told)) if own else []

        rows, evaluations = self._storage.transact(read)
        heard: dict[int, list[Told]] = {row.id: [] for row in rows}
        for row in evaluations:
            if row.training in heard:
                told_one = Told(Evaluation.model_validate_json(row.evaluation), row.last, row.answer)
                heard[row.training].append(told_one)
        return {row.id: _training(row._asdict(), tuple(heard[row.id])) for row in rows}

    def tell(self, training: int, number: int, evaluation: Evaluation, *, last: bool) -> None:
        """Write an evaluation down, unless its training is gone."""
        key = (EVALUATIONS.c.training == training) & (EVALUATIONS.c.number == number)
        values = {"training": training, "number": number, "evaluation": evaluation.model_dump_json(), "last": last}

        def write(connection: Connection) -> None:
            there = connection.execute(select(TRAININGS.c.id).where(TRAININGS.c.id == training)).first()
            if there is not None and connection.execute(select(EVALUATIONS.c.number).where(key)).first() is None:
                connection.execute(insert(EVALUATIONS).values(**values))

        self._storage.transact(write)

    def answer(self, training: int, number: int, answer: str) -> None:
        """Answer an evaluation."""
        key = (EVALUATIONS.c.training == training) & (EVALUATIONS.c.number == number)
        self._change(update(EVALUATIONS).where(key).values(answer=answer))

    def remove(self, trainings: Iterable[int]) -> None:
        """Take trainings out: their outcome was read, or nobody wants it."""
        gone = list(trainings)
        self._remove(TRAININGS.c.id.in_(gone))

    def remove_all(self) -> None:
        """Take every training out: a new leader begins."""
        self._remove(self._of(TRAININGS))

    # --- Who is there ---

    def beat(self, members: Collection[int], trainings: Collection[int]) -> None:
        """Say that these members, and what they train, are there."""

        def count_up(connection: Connection) -> None:
            for table, ids in ((MEMBERS, members), (TRAININGS, trainings)):
                if ids:
                    connection.execute(update(table).where(table.c.id.in_(ids)).values(beats=table.c.beats + 1))

        self._storage.transact(count_up)

    def beats(self) -> dict[tuple[str, int], int]:
        """How often each member that is there, and each training that runs, was heard of: by table and id."""

        def read(connection: Connection) -> dict[tuple[str, int], int]:
            found: dict[tuple[str, int], int] = {}
            for table, state in ((MEMBERS, "there"), (TRAININGS, "running")):
                asked = select(table.c.id, table.c.beats).where(self._of(table), table.c.state == state)
                found |= {(table.name, row.id): row.beats for row in connection.execute(asked)}
            return found

        return self._storage.transact(read)

    def lose(self, silent: Iterable[tuple[str, int]]) -> None:
        """Mark as lost what was not heard of any more, by table and id."""

        def mark(connection: Connection) -> None:
            for name, row in silent:
                table, state = (MEMBERS, "there") if name == MEMBERS.name else (TRAININGS, "running")
                mine = (table.c.id == row) & (table.c.state == state)
                connection.execute(update(table).where(mine).values(state="lost"))

        self._storage.transact(mark)

    # --- ---

    def _of(self, table: Table) -> ColumnElement[bool]:
        found: ColumnElement[bool] = table.c.study_id == self._study
        return found

    def _add(self, table: Table, values: dict[str, Any]) -> int:
        token = uuid4().hex

        def once(connection: Connection) -> int:
            found = connection.execute(select(table.c.id).where(table.c.token == token)).scalar()
            if found is not None:  # stored, and the confirmation lost
                return int(found)
            made = connection.execute(insert(table).values(token=token, study_id=self._study, **values))
            return int(made.inserted_primary_key[0])  # type: ignore[index]

        return self._storage.transact(once)

    def _change(self, statement: Any) -> None:
        self._storage.transact(lambda connection: connection.execute(statement))

    def _remove(self, which: ColumnElement[bool]) -> None:
        def both(connection: Connection) -> None:
            gone = select(TRAININGS.c.id).where(which)
            connection.execute(delete(EVALUATIONS).where(EVALUATIONS.c.training.in_(gone)))
            connection.execute(delete(TRAININGS).where(which))

        self._storage.transact(both)


def _training(row: dict[str, Any], told: tuple[Told, ...]) -> QueuedTraining:
    spec, result = TrialSpec.model_validate_json(row.pop("spec")), row.pop("result")
    whole = None if result is None else TrialResult.model_validate_json(result)
    return QueuedTraining(**row, spec=spec, result=whole, told=told)
