"""A study that several processes work on: the leader's executor, the queue between, and who joined."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState
from sqlalchemy import DateTime

from sweeper import storage as studies
from sweeper.core.errors import ExecutorError, SweeperError
from sweeper.core.events import Evaluated, Finished, Paused, TrainingEvent, WorkerLost
from sweeper.core.paths import checkpoint_path
from sweeper.core.records import TrialResult, TrialSpec
from sweeper.executors import queue_leader as shared
from sweeper.executors import queue_worker as joined
from sweeper.executors import task_queue as queue
from sweeper.executors.failure_limit import IN_A_ROW
from sweeper.executors.queue_leader import SharedExecutor
from sweeper.executors.queue_worker import Ending, Joined
from sweeper.executors.task_queue import Queue
from sweeper.storage import queue_tables
from tests.faking import FakeExecutor, fake_result, new_plan, train
from tests.sweeping import Recorder


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reads the queue often, so that the tests are short."""
    for module, name in (
        (shared, "POLL_SECONDS"),
        (shared, "DOORBELL_SECONDS"),
        (joined, "POLL_SECONDS"),
        (joined, "IDLE_SECONDS"),
    ):
        monkeypatch.setattr(module, name, 0.01)


class Elsewhere:
    """A process that joined, as a thread."""

    def __init__(self, url: str, executor: Slow) -> None:
        self.executor, self.lines = executor, list[str]()
        self.stop = False
        self.ending: Ending | None = None
        self.queue = Queue(url, "s")
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        work = Joined(self.queue, self.executor, self.lines.append)  # type: ignore[arg-type]
        try:
            self.ending = work.serve(lambda: "stop" if self.stop else None, concluded=False)
        except ExecutorError as error:
            self.lines.append(str(error))
        self.finished = work.finished

    def __enter__(self) -> Elsewhere:
        self.thread.start()
        wait_until(lambda: any(member.state == "there" for member in self.queue.tables.members().values()))
        return self

    def __exit__(self, *_: object) -> None:
        self.stop = True
        self.thread.join(30)
        assert not self.thread.is_alive()


def wait_until(true: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not true():
        assert time.monotonic() < end
        time.sleep(0.01)


class Slow(FakeExecutor):
    """Takes some time over each event, so that others get their share."""

    def __init__(self, *args: Any, **changes: Any) -> None:
        super().__init__(*args, **changes)
        self.submitted: list[int] = []

    def submit(self, spec: TrialSpec) -> None:
        self.submitted.append(spec.number)
        super().submit(spec)

    def poll(self, timeout_seconds: float) -> list[TrainingEvent]:
        time.sleep(0.01)
        return super().poll(timeout_seconds)

    def close(self) -> None:
        """Nothing to end."""


@pytest.fixture
def study(url: str) -> optuna.Study:
    return studies.create_study(studies.open_storage(url), "s", new_plan())


@pytest.fixture
def leading(url: str, study: optuna.Study, tmp_path: Path) -> Iterator[Callable[..., SharedExecutor]]:
    made: list[SharedExecutor] = []

    def lead(own: FakeExecutor, **changes: Any) -> SharedExecutor:
        made.append(
            SharedExecutor(own, url, study, tmp_path / "checkpoints", changes.pop("say", lambda _: None), **changes)
        )  # type: ignore[arg-type]
        return made[-1]

    yield lead
    for executor in made:
        executor.close()


def trained(*executors: FakeExecutor) -> list[tuple[str, int]]:
    return [(spec.purpose, spec.number) for executor in executors for spec in executor.specs]


@pytest.mark.slow
def test_two_share_a_sweep_and_leave_the_same_behind_as_one(url: str, study: optuna.Study, leading: Any) -> None:
    here, lines = Slow(), list[str]()
    with Elsewhere(url, Slow()) as there:
        executor = leading(here, say=lines.append)
        recorder = Recorder()
        train(study, executor, recorder, trials=14)
        executor.conclude()
        there.thread.join(30)
        assert there.ending == "concluded"
    both = trained(here, there.executor)
    assert there.executor.specs and here.specs
    assert {purpose for purpose, _ in trained(there.executor)} >= {"search", "confirm"}
    kept = [(result.spec.purpose, result.spec.number) for result in recorder.results]
    assert len(set(kept)) == len(kept) and set(kept) == set(both)
    assert sum(studies.counted(trial) for trial in study.trials) == 14
    assert {trial.state for trial in study.trials}.isdisjoint({TrialState.RUNNING, TrialState.WAITING})
    for result in studies.all_results(study):
        if result.state == "complete":
            assert result.value == fake_result(result.spec).value
    assert any("joined for 1 training at a time" in line for line in lines)
    assert studies.study_names(study._storage._backend) == ["s"]  # type: ignore[attr-defined]


def spec_of(number: int, purpose: str = "confirm") -> TrialSpec:
    return TrialSpec(purpose=purpose, number=number, family="dice", params={}, lr=5e-3, seed=0, steps=100)  # type: ignore[arg-type]


class Full(FakeExecutor):
    """Never has room: everything goes elsewhere."""

    def free(self) -> int:
        return 0

    def close(self) -> None:
        """Nothing to end."""


def events_until(
    executor: SharedExecutor, enough: Callable[[list[TrainingEvent]], bool], answer: str = "go"
) -> list[TrainingEvent]:
    """Poll, and answer each evaluation alike."""
    seen: list[TrainingEvent] = []
    end = time.monotonic() + 30
    while not enough(seen):
        assert time.monotonic() < end, seen
        for event in executor.poll(0.05):
            seen.append(event)
            if isinstance(event, Evaluated) and not event.last:
                executor.answer(event.spec, answer)  # type: ignore[arg-type]
    return seen


def is_over(events: list[TrainingEvent]) -> bool:
    return any(isinstance(event, Finished | WorkerLost | Paused) for event in events)


def has_room(executor: SharedExecutor) -> bool:
    executor.poll(0.02)
    return executor.free() > 0


def test_evaluations_answers_and_the_result_pass_through_the_queue(url: str, leading: Any) -> None:
    with Elsewhere(url, Slow()) as there:
        executor = leading(Full())
        wait_until(lambda: has_room(executor))
        assert executor.slots == 2
        executor.submit(spec_of(0))
        assert executor.free() == 0
        events = events_until(executor, is_over)
        whole = fake_result(spec_of(0))
        assert [e.evaluation for e in events if isinstance(e, Evaluated)] == list(whole.evaluations)
        assert events[-1] == Finished(spec_of(0), whole)
        executor.submit(spec_of(1))
        stopped = events_until(executor, is_over, answer="stop")
        assert isinstance(stopped[-1], Finished) and stopped[-1].result.state == "pruned"
        assert len(stopped) == 2
    assert [spec.number for spec in there.finished] == [0, 1]


def test_who_goes_gives_back_and_nothing_is_told_twice(url: str, leading: Any) -> None:
    with Elsewhere(url, Slow()) as first:
        executor = leading(Full())
        wait_until(lambda: has_room(executor))
        executor.submit(spec_of(0))
        before = events_until(executor, lambda events: len(events) == 2)
    with Elsewhere(url, Slow()) as second:
        after = events_until(executor, is_over)
        assert [spec.number for spec in first.executor.specs] == [spec.number for spec in second.executor.specs] == [0]
    told = [e.evaluation.step for e in before + after if isinstance(e, Evaluated)]
    assert told == [e.step for e in fake_result(spec_of(0)).evaluations]
    assert after[-1] == Finished(spec_of(0), fake_result(spec_of(0)))


@pytest.mark.parametrize("differs", [False, True])
def test_a_repetition_that_gives_other_numbers_is_noted(
    url: str, study: optuna.Study, leading: Any, *, differs: bool
) -> None:
    def rounds_otherwise(spec: TrialSpec) -> TrialResult:
        whole = fake_result(spec)
        changed = [e.model_copy(update={"value": e.value + 1e-4, "seconds": 9.0}) for e in whole.evaluations]
        return whole.model_copy(update={"evaluations": tuple(changed)})

    lines = list[str]()
    with Elsewhere(url, Slow()):
        executor = leading(Full(), say=lines.append)
        wait_until(lambda: has_room(executor))
        executor.submit(spec_of(0))
        before = events_until(executor, lambda events: len(events) == 2)
    with Elsewhere(url, Slow(rounds_otherwise if differs else fake_result)):
        after = events_until(executor, is_over)
    assert len([e for e in before + after if isinstance(e, Evaluated)]) == 4
    assert [round(d, 9) for d in studies.differences_of_repeats(study.user_attrs)] == [1e-4] * differs
    assert sum("gives other numbers" in line for line in lines) == differs


def test_a_worker_that_dies_elsewhere_is_told_with_its_place(url: str, leading: Any) -> None:
    dies = Slow(lambda spec: WorkerLost(spec, "worker killed by signal 9"))
    with Elsewhere(url, dies):
        executor = leading(Full())
        wait_until(lambda: has_room(executor))
        executor.submit(spec_of(0))
        (event,) = events_until(executor, is_over)
        assert isinstance(event, WorkerLost)
        assert event.reason.startswith("worker killed by signal 9 (on ")


def test_a_machine_where_everything_fails_leaves(url: str, leading: Any) -> None:
    with Elsewhere(url, Slow(lambda spec: WorkerLost(spec, "worker killed by signal 9"))) as there:
        executor = leading(Full())
        for number in range(IN_A_ROW + 1):
            wait_until(lambda: has_room(executor))
            executor.submit(spec_of(number))
            assert isinstance(events_until(executor, is_over)[-1], WorkerLost)
        there.thread.join(30)
        wait_until(lambda: not has_room(executor))
    assert there.lines[-1].startswith(f"{IN_A_ROW + 1} trainings in a row failed")
    assert there.ending is None and executor.slots == 1


def test_a_machine_that_is_not_heard_of_costs_an_attempt(
    url: str, leading: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "GRACE_SECONDS", 2)
    monkeypatch.setattr(queue, "BEAT_SECONDS", 0.2)
    monkeypatch.setattr(shared, "EXPIRE_SECONDS", 0.1)
    silent = Queue(url, "s")
    own = silent.enter("worker", slots=1)
    executor = leading(Full())
    wait_until(lambda: has_room(executor))
    executor.submit(spec_of(0))
    waiting = list(silent.tables.trainings((), waiting=True).values())
    assert silent.take(waiting, own) is not None
    silent.close()  # its power is gone: it neither beats nor leaves
    (event,) = events_until(executor, is_over)
    assert isinstance(event, WorkerLost) and "not heard of" in event.reason
    wait_until(lambda: not has_room(executor))
    assert executor.slots == 1


def test_a_paused_training_goes_on_where_its_checkpoint_lies(url: str, leading: Any, tmp_path: Path) -> None:
    """Each of the two that joined gets the trainings that paused with it."""
    with Elsewhere(url, Slow()) as one, Elsewhere(url, Slow()) as two:
        executor = leading(Full())
        wait_until(lambda: has_room(executor) and executor.slots == 3)
        for number in range(4):
            executor.submit(spec_of(number, "search"))
            events_until(executor, is_over, answer="pause")
        where = {number: there.executor for there in (one, two) for number in there.executor.submitted}
        assert len(where) == 4
        for number in range(4):
            executor.submit(spec_of(number, "search"))
            events_until(executor, is_over)
            assert where[number].submitted.count(number) == 2
        path = checkpoint_path(tmp_path / "checkpoints", spec_of(9, "search"))
        path.parent.mkdir()
        path.touch()
        executor.submit(spec_of(9, "search"))  # its checkpoint lies here, and here is no room yet
        assert executor._backlog == [spec_of(9, "search")]


def test_who_joined_waits_for_another_leader_and_ends_without_one(
    url: str, leading: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Elsewhere(url, Slow()) as there:
        executor = leading(Full())
        wait_until(lambda: has_room(executor))
        executor.submit(spec_of(0))
        events_until(executor, bool)
        executor.close()  # interrupted
        wait_until(lambda: any("waiting 10 min for another" in line for line in there.lines))
        again = leading(Full())
        wait_until(lambda: has_room(again))
        again.submit(spec_of(0))  # the same once more, while the first is still called back
        assert isinstance(events_until(again, is_over)[-1], Finished)
        again.close()
        monkeypatch.setattr(joined, "LEADER_SECONDS", 0)
        there.thread.join(30)
    assert there.ending == "alone"


def test_who_was_taken_for_dead_joins_and_leads_again(url: str, leading: Any) -> None:
    """As after a network that was down for longer than the grace."""
    with Elsewhere(url, Slow()) as there:
        executor = leading(Full())
        wait_until(lambda: has_room(executor))
        other = Queue(url, "s")
        for member in other.tables.members():
            other.tables.end_member(member, "lost")
        wait_until(lambda: not has_room(executor) or any("joining again" in line for line in there.lines))
        wait_until(lambda: any("joining again" in line for line in there.lines) and has_room(executor))
        executor.submit(spec_of(0))
        assert isinstance(events_until(executor, is_over)[-1], Finished)
        other.close()


def test_a_leader_whose_queue_another_took_over_stops(url: str, leading: Any) -> None:
    """Before its own lock tells it so."""
    with Elsewhere(url, Slow(workers=0)):
        executor, other = leading(Full()), leading(Full())
        wait_until(lambda: bool(executor.poll(0.02) or executor._workers))
        executor.submit(spec_of(0))
        with pytest.raises(SweeperError, match="another process runs it by now"):
            wait_until(lambda: bool(other.poll(0.02) or executor.poll(0.02)))


def test_a_training_that_is_gone_from_the_queue_is_queued_again(url: str, leading: Any) -> None:
    with Elsewhere(url, Slow()) as there:
        executor = leading(Full())
        wait_until(lambda: has_room(executor))
        executor.submit(spec_of(0))
        there.queue.tables.remove_all()
        assert isinstance(events_until(executor, is_over)[-1], Finished)


def test_nobody_expires_after_an_outage(url: str, study: optuna.Study, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the database was away nobody was heard of."""
    monkeypatch.setattr(queue, "GRACE_SECONDS", 1)
    monkeypatch.setattr(queue, "BEAT_SECONDS", 0.1)
    here, there = Queue(url, "s"), Queue(url, "s")
    here.enter("leader")
    silent = there.enter("worker", slots=1)
    there.close()
    original = here._heart._beat

    def away() -> None:
        time.sleep(2)
        monkeypatch.setattr(here._heart, "_beat", original)

    monkeypatch.setattr(here._heart, "_beat", away)
    time.sleep(1.5)
    here.expire()
    assert here.tables.members()[silent].state == "there"
    wait_until(lambda: is_lost(here, silent))
    here.close()


def test_a_worker_that_was_never_heard_of_is_gone_too(
    url: str, study: optuna.Study, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It died between its entry and its first heartbeat."""
    monkeypatch.setattr(queue, "GRACE_SECONDS", 1)
    here, there = Queue(url, "s"), Queue(url, "s")
    monkeypatch.setattr(there._heart, "add", lambda *_: None)
    here.enter("leader")
    silent = there.enter("worker", slots=1)
    there.close()
    here.expire()
    assert here.tables.members()[silent].state == "there"
    wait_until(lambda: is_lost(here, silent))
    here.close()


def is_lost(here: Queue, member: int) -> bool:
    """Whether this process takes a member for gone by now."""
    here.expire()
    return here.tables.members()[member].state == "lost"


def test_who_is_gone_does_not_depend_on_the_time_of_day() -> None:
    """Set forward, a clock would make every sign of life old; set back, it would leave the dead young."""
    for table in queue_tables.TABLES.sorted_tables:
        assert not any(isinstance(column.type, DateTime) for column in table.columns), table.name


def test_a_process_that_lost_the_study_stops(url: str, leading: Any) -> None:
    executor = leading(Full(), lost=lambda: True)
    with pytest.raises(SweeperError, match="another process runs it by now"):
        executor.poll(0)


class Late(Slow):
    """As Ray's actors: its worker is seen to be ready only when it is polled."""

    def __init__(self) -> None:
        super().__init__(workers=1)
        self.polls = 0

    def free(self) -> int:
        return super().free() if self.polls >= 3 else 0

    def poll(self, timeout_seconds: float) -> list[TrainingEvent]:
        self.polls += 1
        return super().poll(timeout_seconds)


def test_the_leader_polls_its_own_workers_though_nothing_is_trained_here(leading: Any, study: optuna.Study) -> None:
    leader = leading(own := Late())
    end = time.monotonic() + 30
    while not leader.free():
        assert time.monotonic() < end
        assert leader.poll(0.01) == []
    assert own.polls == 3


def test_who_joined_polls_its_own_workers_though_nothing_is_trained_here(
    url: str, leading: Any, study: optuna.Study
) -> None:
    leader = leading(Slow(workers=0))
    with Elsewhere(url, late := Late()):
        wait_until(lambda: leader.poll(0.01) == [] and late.polls >= 3)


def test_slots_that_a_joined_process_lost_are_not_counted_on(url: str, leading: Any) -> None:
    """As where memory ran out, and its workers go on with half of them."""
    with Elsewhere(url, Slow(workers=4)) as there:
        executor = leading(Full())
        wait_until(lambda: has_room(executor) and executor.slots == 5)
        there.executor.slots = 2
        wait_until(lambda: has_room(executor) and executor.slots == 3)
        assert executor.free() == 2
