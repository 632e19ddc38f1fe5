"""The tables of the queue that machines share: on SQLite and on a real PostgreSQL server."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import optuna
import pytest
from sqlalchemy import Connection, inspect, select
from sqlalchemy.exc import OperationalError

from sweeper import storage as studies
from sweeper.core.errors import SweeperError
from sweeper.core.records import TrialSpec
from sweeper.storage import queue_tables as tables
from sweeper.storage.optuna_internals import database_of
from sweeper.storage.queue_tables import QueueTables, open_queue, queue_exists
from sweeper.storage.resilient_storage import SteadyStorage
from tests.faking import fake_result, new_plan


@pytest.fixture
def study(url: str) -> optuna.Study:
    return studies.create_study(studies.open_storage(url), "s", new_plan())


@pytest.fixture
def queue(url: str, study: optuna.Study) -> QueueTables:
    return open_queue(url, "s")


def spec_of(number: int) -> TrialSpec:
    return TrialSpec(purpose="search", number=number, family="dice", params={}, lr=5e-3, seed=0, steps=100)


def test_a_study_that_nobody_joined_has_no_queue_and_no_table(url: str, study: optuna.Study) -> None:
    storage = database_of(study)
    assert isinstance(storage, SteadyStorage)
    assert not queue_exists(study)
    assert not inspect(storage.engine).has_table("sweeper_members")
    other = studies.create_study(studies.open_storage(url), "other", new_plan())
    open_queue(url, "other").add_member("worker", "here", 1, 2)
    assert queue_exists(other) and not queue_exists(study)


def test_tables_are_made_once_though_many_begin_at_once(url: str, study: optuna.Study) -> None:
    with ThreadPoolExecutor(6) as pool:
        opened = list(pool.map(lambda _: open_queue(url, "s"), range(6)))
    ids = [one.add_member("worker", "here", 1, 1) for one in opened]
    assert len(set(ids)) == 6 and list(opened[0].members()) == sorted(ids)


def test_what_is_written_is_read(queue: QueueTables) -> None:
    leader, worker = queue.add_member("leader", "a", 1, 0), queue.add_member("worker", "b", 2, 3)
    queue.set_slots(worker, 2)
    assert [member.slots for member in queue.members().values()] == [0, 2]
    training = queue.put(spec_of(4), leader, None)
    (found,) = queue.trainings((), waiting=True).values()
    assert (found.id, found.leader, found.only_for, found.worker, found.state) == (
        training,
        leader,
        None,
        None,
        "waiting",
    )
    assert found.spec == spec_of(4)
    assert queue.take(training, worker)
    result = fake_result(spec_of(4))
    for number, evaluation in enumerate(result.evaluations):
        queue.tell(training, number, evaluation, last=number == len(result.evaluations) - 1)
    queue.answer(training, 0, "go")
    queue.end_training(training, "finished", result=result)
    found = queue.trainings([training])[training]
    assert [told.evaluation for told in found.told] == list(result.evaluations)
    assert [told.answer for told in found.told][:2] == ["go", None]
    assert [told.last for told in found.told] == [False] * (len(found.told) - 1) + [True]
    assert (found.state, found.worker, found.result) == ("finished", worker, result)
    queue.remove([training])
    assert queue.trainings([training], waiting=True) == {}


def test_a_training_is_taken_by_one_alone(url: str, queue: QueueTables) -> None:
    leader = queue.add_member("leader", "a", 1, 0)
    ends = [open_queue(url, "s") for _ in range(4)]
    members = [end.add_member("worker", "b", i, 1) for i, end in enumerate(ends)]
    for number in range(8):
        training, start = queue.put(spec_of(number), leader, None), threading.Barrier(4)

        def take(
            i: int, training: int = training, start: threading.Barrier = start
        ) -> bool:  # their values of this turn
            start.wait()
            return ends[i].take(training, members[i])

        with ThreadPoolExecutor(4) as pool:
            taken = list(pool.map(take, range(4)))
        assert sum(taken) == 1
        assert queue.trainings([training])[training].worker == members[taken.index(True)]


def test_what_is_gone_is_not_written_to(queue: QueueTables) -> None:
    """A machine that was taken for dead may still tell: its training has another row by then, and never its id."""
    leader, worker = queue.add_member("leader", "a", 1, 0), queue.add_member("worker", "b", 2, 1)
    gone = queue.put(spec_of(0), leader, None)
    queue.take(gone, worker)
    queue.remove([gone])
    assert queue.put(spec_of(0), leader, None) != gone
    queue.tell(gone, 0, fake_result(spec_of(0)).evaluations[0], last=False)
    queue.end_training(gone, "finished", result=fake_result(spec_of(0)))
    assert not queue.take(gone, worker)
    assert [found.told for found in queue.trainings([gone], waiting=True).values()] == [()]
    with _connection(queue) as connection:
        assert connection.execute(select(tables.EVALUATIONS)).first() is None


def test_a_training_that_was_lost_stays_lost(queue: QueueTables) -> None:
    leader, worker = queue.add_member("leader", "a", 1, 0), queue.add_member("worker", "b", 2, 1)
    training = queue.put(spec_of(0), leader, None)
    queue.take(training, worker)
    queue.lose([("sweeper_trainings", training), ("sweeper_members", worker)])
    queue.end_training(training, "finished", result=fake_result(spec_of(0)))
    queue.end_member(worker, "left")
    assert queue.trainings([training])[training].state == "lost"
    assert queue.members()[worker].state == "lost"
    assert queue.beats() == {("sweeper_members", leader): 0}


def test_beats_are_counted_of_what_is_there(queue: QueueTables) -> None:
    leader, worker = queue.add_member("leader", "a", 1, 0), queue.add_member("worker", "b", 2, 1)
    training = queue.put(spec_of(0), leader, None)
    assert ("sweeper_trainings", training) not in queue.beats()  # it waits
    queue.take(training, worker)
    queue.beat([worker], [training])
    queue.beat([worker], [])
    assert queue.beats() == {
        ("sweeper_members", leader): 0,
        ("sweeper_members", worker): 2,
        ("sweeper_trainings", training): 1,
    }


def unconfirmed(queue: QueueTables, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the server go away after each first commit, before it is confirmed."""
    storage = queue._storage
    original = storage.transact

    def twice(work: Callable[[Connection], Any]) -> Any:
        original(work)
        return original(work)

    monkeypatch.setattr(storage, "transact", twice)


def test_every_change_may_be_repeated(queue: QueueTables, monkeypatch: pytest.MonkeyPatch) -> None:
    unconfirmed(queue, monkeypatch)
    leader, worker = queue.add_member("leader", "a", 1, 0), queue.add_member("worker", "b", 2, 1)
    training = queue.put(spec_of(0), leader, None)
    assert list(queue.members()) == [leader, worker]
    assert list(queue.trainings((), waiting=True)) == [training]
    assert queue.take(training, worker)
    result = fake_result(spec_of(0))
    queue.tell(training, 0, result.evaluations[0], last=False)
    queue.answer(training, 0, "pause")
    queue.end_training(training, "paused", result=result)
    (found,) = queue.trainings([training]).values()
    assert found.state == "paused" and [told.answer for told in found.told] == ["pause"]
    queue.remove_all()
    assert queue.trainings([training], waiting=True) == {}


def test_a_database_that_is_away_is_waited_for(queue: QueueTables, monkeypatch: pytest.MonkeyPatch) -> None:
    storage, calls = queue._storage, list[int]()

    def away() -> Any:
        calls.append(1)
        if len(calls) < 3:
            error = OperationalError("SELECT", {}, Exception("server closed the connection"))
            error.connection_invalidated = True
            raise error
        return engine.begin()

    engine = storage.engine

    class Away:
        begin = staticmethod(away)

    monkeypatch.setattr(storage, "engine", Away)
    assert queue.members() == {}
    assert len(calls) == 3


def test_a_file_that_is_damaged_is_named(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/study.db"
    studies.create_study(studies.open_storage(url), "s", new_plan())
    queue = open_queue(url, "s")

    def broken(connection: Connection) -> None:
        raise OperationalError("SELECT", {}, Exception("database disk image is malformed"))

    with pytest.raises(SweeperError, match=r"damaged .*sweeper doctor --repair"):
        queue._storage.transact(broken)


def test_the_queue_of_an_earlier_version_is_no_study(url: str, study: optuna.Study) -> None:
    """It was an Optuna study of its own, marked by an attribute."""
    storage = studies.open_storage(url)
    optuna.create_study(storage=storage, study_name="s/trainings").set_user_attr("queue_of", "s")
    assert studies.study_names(storage) == ["s"]
    assert not queue_exists(study)


def _connection(queue: QueueTables) -> Any:
    return queue._storage.engine.connect()
