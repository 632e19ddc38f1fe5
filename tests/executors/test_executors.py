"""What every executor must do, whatever it runs trainings on: the same tests for all of them."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from sweeper.core.events import Answer, Evaluated, Finished, OutOfMemory, Paused, TrainingEvent, WorkerLost
from sweeper.core.records import Conditions, Dataset, TrialSpec
from sweeper.executors import worker_process
from sweeper.executors.inline import InlineBackend
from sweeper.executors.processes import ProcessBackend
from sweeper.executors.protocol import Backend, Executor
from sweeper.executors.separate_process import ApartBackend
from sweeper.executors.watchdog import Watchdog
from sweeper.training import job
from tests.support import faulty
from tests.training.test_training import SMALL
from tests.training.test_training import spec as spec_with

LONGEST = 240.0
"""Seconds that a test waits for an event: Ray starts slowly on a busy machine."""


def spec(number: int, fault: str | None = None) -> TrialSpec:
    """A training of `SMALL`, with its evaluations; `fault` as in tests/support/faulty.py."""
    rate = 0.003 if fault is None else faulty.rate_of(fault)
    return spec_with(number=number, lr=rate)


Make = Callable[[], Backend]


def inline(folder: Path, patch: pytest.MonkeyPatch) -> Backend:
    patch.setattr(job, "Training", faulty.FaultyTraining)
    return InlineBackend("cpu")


def of_processes(folder: Path, patch: pytest.MonkeyPatch) -> Backend:
    patch.setattr(worker_process, "_serve", faulty.serve)
    return ProcessBackend("cpu", 1, 1, lambda line: None, Watchdog(least_seconds=20))


def ray(folder: Path, patch: pytest.MonkeyPatch) -> Backend:
    return ApartBackend(faulty.ray_with_faults, lambda line: None)


EXECUTORS = [inline, of_processes]
"""Ray's actors keep the same rules in tests/executors/test_ray.py: two clusters at a time disturb each other."""
SEPARATE = [of_processes]
"""Those whose workers may die without ending the sweep."""


@pytest.fixture
def made(tmp_path: Path, tiny: Dataset, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Executor]]:
    """Make an executor ready for the tiny data set."""
    with ExitStack() as stack:

        def make(kind: Callable[[Path, pytest.MonkeyPatch], Backend]) -> Executor:
            backend = stack.enter_context(closing(kind(tmp_path, monkeypatch)))
            checkpoints = tmp_path / "checkpoints"
            checkpoints.mkdir()
            executor = backend.open(Conditions(dataset=tiny, recipe=SMALL, seed=0), checkpoints)
            wait_for_room(executor)
            return executor

        yield make


def wait_for_room(executor: Executor) -> None:
    end = time.monotonic() + LONGEST
    while not executor.free():
        assert time.monotonic() < end
        assert executor.poll(0.1) == []


def run(executor: Executor, *specs: TrialSpec, answers: Mapping[int, Answer] | None = None) -> list[TrainingEvent]:
    """All events of these trainings, each begun as soon as there is room.

    Args:
        executor: made ready.
        specs: in their order.
        answers: by number, to the first evaluation of a training; else it goes on.
    """
    events: list[TrainingEvent] = []
    queue, running, end = list(specs), set[int](), time.monotonic() + LONGEST
    while queue or running:
        assert time.monotonic() < end, events
        while queue and executor.free():
            running.add(queue[0].number)
            executor.submit(queue.pop(0))
        for event in executor.poll(0.5):
            first = not any(isinstance(e, Evaluated) and e.spec == event.spec for e in events)
            events.append(event)
            if isinstance(event, Evaluated):
                if not event.last:
                    executor.answer(event.spec, (answers or {}).get(event.spec.number, "go") if first else "go")
            else:
                running.remove(event.spec.number)
    return events


def values(events: list[TrainingEvent], number: int) -> list[tuple[int, float]]:
    """(step, value) of a training's evaluations."""
    return [
        (e.evaluation.step, e.evaluation.value) for e in events if isinstance(e, Evaluated) and e.spec.number == number
    ]


def end_of(events: list[TrainingEvent], number: int) -> TrainingEvent:
    """The one event that ends a training, which must be its last."""
    own = [event for event in events if event.spec.number == number]
    assert sum(not isinstance(event, Evaluated) for event in own) == 1
    return own[-1]


@pytest.mark.parametrize("kind", EXECUTORS)
def test_evaluations_come_in_order_then_the_result(kind: object, made: Callable[..., Executor]) -> None:
    executor = made(kind)
    room = executor.free()
    events = run(executor, spec(0), spec(1))
    for number in (0, 1):
        own = [e for e in events if e.spec == spec(number)]
        seen = [e for e in own if isinstance(e, Evaluated)]
        assert [e.evaluation.step for e in seen] == list(SMALL.rungs(SMALL.steps))
        assert [e.last for e in seen] == [False] * (len(seen) - 1) + [True]
        done = own[-1]
        assert isinstance(done, Finished) and done.result.state == "complete"
        assert done.result.spec == spec(number)
        assert [e.step for e in done.result.evaluations] == [e.evaluation.step for e in seen]
    assert values(events, 0) == values(events, 1)  # one configuration, one seed: the same numbers
    wait_for_room(executor)
    assert executor.free() == room


@pytest.mark.parametrize("kind", EXECUTORS)
def test_an_answer_reaches_the_training_that_it_is_for(kind: object, made: Callable[..., Executor]) -> None:
    events = run(made(kind), spec(0), spec(1), answers={0: "stop"})
    stopped, whole = end_of(events, 0), end_of(events, 1)
    assert isinstance(stopped, Finished) and stopped.result.state == "pruned"
    assert len(values(events, 0)) == len(stopped.result.evaluations) == 1
    assert isinstance(whole, Finished) and whole.result.state == "complete"


@pytest.mark.parametrize("kind", EXECUTORS)
def test_a_paused_training_goes_on_where_it_stopped(kind: object, made: Callable[..., Executor]) -> None:
    executor = made(kind)
    before = run(executor, spec(0), answers={0: "pause"})
    paused = end_of(before, 0)
    assert isinstance(paused, Paused) and len(paused.result.evaluations) == 1
    between = run(executor, spec(1))
    after = run(executor, spec(0))
    done, whole = end_of(after, 0), end_of(between, 1)
    assert isinstance(done, Finished) and isinstance(whole, Finished) and done.result.state == "complete"
    # Some tell the first evaluation again, to be answered as before. The numbers are those of an uninterrupted one.
    assert values(after, 0)[-len(values(between, 1)) + 1 :] == values(between, 1)[1:]
    assert done.result.value == whole.result.value


@pytest.mark.parametrize("kind", EXECUTORS)
def test_a_training_that_raises_gives_a_failed_result(kind: object, made: Callable[..., Executor]) -> None:
    events = run(made(kind), spec(0, "raises"), spec(1))
    failed = end_of(events, 0)
    assert isinstance(failed, Finished) and failed.result.state == "failed"
    assert "a fault of the loss" in (failed.result.reason or "")
    assert isinstance(end_of(events, 1), Finished)


@pytest.mark.parametrize("kind", EXECUTORS)
def test_out_of_memory_costs_one_training(kind: object, made: Callable[..., Executor]) -> None:
    events = run(made(kind), spec(0, "full"), spec(1))
    lost = end_of(events, 0)
    assert isinstance(lost, OutOfMemory) and "no room" in lost.reason
    assert isinstance(end_of(events, 1), Finished)


@pytest.mark.parametrize("kind", SEPARATE)
def test_a_worker_that_dies_is_replaced(kind: object, made: Callable[..., Executor]) -> None:
    executor = made(kind)
    events = run(executor, spec(0, "segfault"), spec(1))
    assert isinstance(end_of(events, 0), WorkerLost)
    assert isinstance(end_of(events, 1), Finished)


@pytest.mark.slow
@pytest.mark.parametrize("kind", SEPARATE)
def test_a_worker_that_hangs_is_replaced(kind: object, made: Callable[..., Executor]) -> None:
    executor = made(kind)
    run(executor, spec(3))  # of the first training of a session nobody knows how long it takes
    events = run(executor, spec(0), spec(1, "hangs"), spec(2))
    hung = end_of(events, 1)
    assert isinstance(hung, WorkerLost) and "hung" in hung.reason
    assert isinstance(end_of(events, 2), Finished)


@pytest.mark.parametrize("kind", EXECUTORS)
def test_closing_twice_ends_what_runs_and_raises_nothing(kind: object, made: Callable[..., Executor]) -> None:
    executor = made(kind)
    executor.submit(spec(0))
    executor.close()
    executor.close()


def test_a_backend_closes_what_it_opened(tiny: Dataset, tmp_path: Path) -> None:
    gc.unfreeze()
    with closing(InlineBackend("cpu")) as backend:
        executor = backend.open(Conditions(dataset=tiny, recipe=SMALL, seed=0), tmp_path)
        executor.submit(spec(0))
        assert executor.free() == 0 and gc.get_freeze_count() > 0
    assert executor.free() == 1 and gc.get_freeze_count() == 0


@pytest.mark.parametrize("kind", EXECUTORS)
def test_an_idle_executor_waits_and_tells_nothing(kind: object, made: Callable[..., Executor]) -> None:
    executor = made(kind)
    began = time.monotonic()
    assert executor.poll(0.2) == []
    assert time.monotonic() - began > 0.15  # else those who poll keep a core busy
    assert executor.poll(0) == []


RULES = [
    test_evaluations_come_in_order_then_the_result,
    test_an_answer_reaches_the_training_that_it_is_for,
    test_a_paused_training_goes_on_where_it_stopped,
    test_a_training_that_raises_gives_a_failed_result,
    test_out_of_memory_costs_one_training,
    test_a_worker_that_dies_is_replaced,
    test_a_worker_that_hangs_is_replaced,
    test_closing_twice_ends_what_runs_and_raises_nothing,
    test_an_idle_executor_waits_and_tells_nothing,
]
