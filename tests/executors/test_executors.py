"""What every executor must do, whatever it runs trainings on: the same tests for all of them."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from sweeper.core.errors import SweeperError
from sweeper.core.events import Answer, Evaluated, Finished, Hardware, OutOfMemory, Paused, TrainingEvent, WorkerLost
from sweeper.core.records import Conditions, Dataset, TrialSpec
from sweeper.executors import worker_process
from sweeper.executors.inline import InlineBackend
from sweeper.executors.processes import ProcessBackend
from sweeper.executors.protocol import Backend, Executor, without_recordings
from sweeper.executors.separate_process import ApartBackend
from sweeper.executors.watchdog import Watchdog
from sweeper.executors.worker_process import Setup, WorkerProcess
from sweeper.training import job, step_choice
from sweeper.workflow.executor_choice import make_backend
from sweeper.workflow.settings import Settings
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


def two_slots(folder: Path, patch: pytest.MonkeyPatch) -> Backend:
    """One worker process that trains two specs in turn."""
    patch.setattr(worker_process, "_serve", faulty.serve)
    return ProcessBackend("cpu", 1, 1, lambda line: None, Watchdog(least_seconds=20), slots=2)


def ray(folder: Path, patch: pytest.MonkeyPatch) -> Backend:
    return ApartBackend(faulty.ray_with_faults, lambda line: None)


EXECUTORS = [inline, of_processes, two_slots]
"""Ray's actors keep the same rules in tests/executors/test_ray.py: two clusters at a time disturb each other."""
SEPARATE = [of_processes, two_slots]
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


def test_how_many_slots_there_are_is_news_and_no_warning(tiny: Dataset, tmp_path: Path) -> None:
    said, warned = list[str](), list[str]()
    with closing(ProcessBackend("cpu", 1, 1, warned.append, slots="auto", say=said.append)) as backend:
        executor = backend.open(Conditions(dataset=tiny, recipe=SMALL, seed=0), tmp_path)
        assert executor.slots == 1
    assert len(said) == 1 and "one training at a time" in said[0] and warned == []


@pytest.fixture
def slots_of(
    tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[int | None, list[str]]]:
    """What workers are told of their slots on a device that is not there, and what is said of it."""
    told = list[int | None]()

    def make_ready(setup: Setup, workers: list[WorkerProcess]) -> None:
        told.append(setup.slots)
        raise SweeperError("far enough")

    monkeypatch.setattr(Setup, "make_ready", make_ready)
    monkeypatch.setattr(WorkerProcess, "__init__", lambda *_: None)
    monkeypatch.setattr(WorkerProcess, "end", lambda _: None)

    def find(device: str, *, gpus: int = 1, workers: int | None = None, **asked: Any) -> tuple[int | None, list[str]]:
        hardware = Hardware(device=device, devices=gpus, name="a device", precision="float32")
        monkeypatch.setattr(ProcessBackend, "_first", lambda *_: hardware)
        conditions, said = Conditions(dataset=tiny, recipe=SMALL, seed=0), list[str]()
        settings = Settings(workers=workers, **asked)
        backend = make_backend(settings, 8, said.append)
        with closing(backend), pytest.raises(SweeperError, match="far enough"):
            backend.open(conditions, tmp_path)
        return told.pop(), said

    return find


def test_slots_are_measured_where_that_is_asked_for_on_a_gpu_of_one_worker_alone(
    slots_of: Callable[..., tuple[int | None, list[str]]],
) -> None:
    measured = None
    assert slots_of("cuda") == slots_of("cuda", workers=2) == slots_of("mps") == slots_of("cpu") == (1, [])
    assert slots_of("cuda", slots="auto") == slots_of("cuda", gpus=2, slots="auto") == (measured, [])
    for slots, said in (slots_of(device, workers=2, slots="auto") for device in ("cuda", "mps", "cpu")):
        assert slots == 1 and len(said) == 1 and "on a GPU of one worker alone" in said[0]
    assert slots_of("cuda", workers=2, slots=3) == slots_of("cpu", slots=3) == (3, [])


def test_a_measurement_that_hangs_costs_the_slots_and_no_sweep(
    tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_process, "_serve", faulty.measures_for_ever)
    monkeypatch.setattr(ProcessBackend, "_slots_of_each", lambda _: None)
    limits = iter([0.5, 120.0])
    monkeypatch.setattr(Setup, "_ready_seconds", property(lambda _: next(limits)))
    said = list[str]()
    with closing(ProcessBackend("cpu", 1, 1, said.append)) as backend:
        executor = backend.open(Conditions(dataset=tiny, recipe=SMALL, seed=0), tmp_path)
        assert executor.slots == 1
        assert isinstance(end_of(run(executor, spec(0)), 0), Finished)
    assert any("cannot be made ready: measuring its slots took more than" in line for line in said)


def test_trainings_that_crowd_each_other_out_go_on_with_half_the_slots(
    tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(worker_process, "_serve", faulty.crowded_once)
    conditions, said = Conditions(dataset=tiny, recipe=SMALL, seed=0), list[str]()
    with closing(ProcessBackend("cpu", 1, 1, said.append, slots=4)) as backend:
        executor = backend.open(conditions, tmp_path)
        assert executor.slots == executor.free() == 4
        specs = [spec(number) for number in range(4)]
        events = run(executor, *specs)
        assert executor.slots == executor.free() == 2
    assert not [event for event in events if isinstance(event, OutOfMemory)]
    assert any("out of memory" in line and "with 2 slots in place of 4" in line for line in said)
    with closing(InlineBackend("cpu")) as backend:
        alone = run(backend.open(conditions, tmp_path), specs[0])
    for number in range(4):
        assert isinstance(end_of(events, number), Finished)
        assert values(events, number) == values(alone, 0), number


def test_a_training_that_ends_its_process_costs_its_neighbours_nothing(
    tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_process, "_serve", faulty.serve)
    conditions, said = Conditions(dataset=tiny, recipe=SMALL, seed=0), list[str]()
    with closing(ProcessBackend("cpu", 1, 1, said.append, slots=4)) as backend:
        executor = backend.open(conditions, tmp_path)
        events = run(executor, spec(0), spec(1, "segfault"), spec(2), spec(3))
        assert executor.slots == 1  # nobody knew which one it was
    assert [event.spec.number for event in events if isinstance(event, WorkerLost)] == [1]
    assert any("with 1 slot in place of 4" in line for line in said)
    with closing(InlineBackend("cpu")) as backend:
        alone = run(backend.open(conditions, tmp_path), spec(0))
    for number in (0, 2, 3):
        assert isinstance(end_of(events, number), Finished)
        assert values(events, number) == values(alone, 0), number


def test_what_may_have_ended_its_process_is_tried_alone_and_never_beside_others(
    tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_process, "_serve", faulty.serve)
    with closing(ProcessBackend("cpu", 2, 2, lambda line: None, slots=2)) as backend:
        executor = backend.open(Conditions(dataset=tiny, recipe=SMALL, seed=0), tmp_path)
        events = run(executor, spec(0, "segfault"), spec(1), spec(2))  # 0 and 2 in the first worker; one place is free
        assert executor.slots == 3  # the second worker has all of its own
    assert [event.spec.number for event in events if isinstance(event, WorkerLost)] == [0]
    assert isinstance(end_of(events, 1), Finished) and isinstance(end_of(events, 2), Finished)


def test_what_waits_to_begin_again_is_lost_with_the_last_worker(
    tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: object) -> None:
        raise SweeperError("no more processes")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(worker_process, "_serve", faulty.crowded_once)
    monkeypatch.setattr(worker_process.Setup, "in_place_of", fails)
    with closing(ProcessBackend("cpu", 1, 1, lambda line: None, slots=2)) as backend:
        executor = backend.open(Conditions(dataset=tiny, recipe=SMALL, seed=0), tmp_path)
        events = run(executor, spec(0), spec(1))
    assert isinstance(end_of(events, 0), Finished)
    lost = end_of(events, 1)
    assert isinstance(lost, WorkerLost) and "none could be started" in lost.reason


RECORDED = SMALL.model_copy(update={"engine": "auto", "steps": 12, "evaluations": 2})


@pytest.fixture
def recording(tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[TrainingEvent]]:
    """Train in workers whose recorded steps go wrong; what they told, and into `said` what was logged."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(worker_process, "_serve", faulty.ends_with_its_recordings)
    monkeypatch.setattr(Setup, "_on_gpu", True)

    def train(want: str, said: list[str], *specs: TrialSpec, **options: Any) -> list[TrainingEvent]:
        Path("want").write_text(want)
        recipe = RECORDED.model_copy(update={"engine": options.pop("engine", "auto")})
        workers = options.pop("workers", 1)
        with closing(ProcessBackend("cpu", workers, workers, said.append, **options)) as backend:
            executor = backend.open(Conditions(dataset=tiny, recipe=recipe, seed=0), tmp_path)
            events = run(executor, *specs)
            assert executor.free() == executor.slots
        return events

    return train


@pytest.mark.parametrize(("want", "slots"), [("failed", 1), ("killed", 2)])
def test_recorded_steps_that_go_wrong_cost_no_training_and_are_not_taken_again(
    recording: Callable[..., list[TrainingEvent]], tiny: Dataset, tmp_path: Path, want: str, slots: int
) -> None:
    """The worker is replaced once, by one that records nothing; no attempt is counted."""
    said, specs = list[str](), [long(number) for number in range(2)]
    events = recording(want, said, *specs, slots=slots)
    assert not [event for event in events if isinstance(event, WorkerLost)]
    (line,) = (line for line in said if "starting another" in line)
    assert "which takes steps one by one, as recorded ones may have ended it" in line
    assert ("signal 11" if want == "killed" else "could not be recorded") in line
    with closing(InlineBackend("cpu")) as backend:
        alone = run(backend.open(Conditions(dataset=tiny, recipe=RECORDED, seed=0), tmp_path), specs[0])
    for number in range(2):
        end = end_of(events, number)
        assert isinstance(end, Finished) and "recorded" not in end.result.device
        assert values(events, number)[-2:] == values(alone, 0)


def long(number: int) -> TrialSpec:
    """A training with a rung of six steps: the fourth is recorded, the fifth played."""
    return spec_with(number=number, lr=0.003, steps=12)


@pytest.mark.slow
def test_recorded_steps_that_go_wrong_everywhere_end_no_sweep(recording: Callable[..., list[TrainingEvent]]) -> None:
    said = list[str]()
    events = recording("killed", said, *(long(number) for number in range(4)), workers=2)
    assert all(isinstance(end_of(events, number), Finished) for number in range(4))
    assert len([line for line in said if "takes steps one by one" in line]) <= 2  # once for each place


def test_who_insists_on_recorded_steps_is_told_that_they_fail(recording: Callable[..., list[TrainingEvent]]) -> None:
    said = list[str]()
    (lost,) = recording("failed", said, long(0), engine="graph")
    assert isinstance(lost, WorkerLost) and "could not be recorded" in lost.reason
    assert not [line for line in said if "takes steps one by one, as" in line]


def test_a_measurement_of_slots_that_ends_its_worker_costs_the_recordings_too(
    recording: Callable[..., list[TrainingEvent]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What ended it were recorded steps."""
    monkeypatch.setattr(worker_process, "_serve", faulty.dies_while_it_measures)
    monkeypatch.setattr(ProcessBackend, "_slots_of_each", lambda _: None)
    said = list[str]()
    events = recording("killed", said, long(0))
    assert isinstance(end_of(events, 0), Finished)
    assert len([line for line in said if "takes steps one by one, as" in line]) == 1


def test_a_process_that_nobody_replaces_records_nothing(
    tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(step_choice, "why_not", lambda _: None)
    monkeypatch.setattr(step_choice, "one_by_one", lambda recipe, _: recipe.engine == "eager")
    monkeypatch.setattr(step_choice, "record_graph", lambda *_: pytest.fail("recorded"))
    with closing(InlineBackend("cpu")) as backend:
        executor = backend.open(Conditions(dataset=tiny, recipe=RECORDED, seed=0), tmp_path)
        assert isinstance(end_of(run(executor, long(0)), 0), Finished)
    for engine, taken in (("auto", "eager"), ("eager", "eager"), ("graph", "graph")):
        conditions = Conditions(dataset=tiny, recipe=SMALL.model_copy(update={"engine": engine}), seed=0)
        assert without_recordings(conditions).recipe.engine == taken


RECIPES: list[tuple[str, dict[str, object], bool]] = [
    ("cuda", {"engine": "auto"}, True),
    ("cuda", {"engine": "auto", "deterministic": True}, False),
    ("cuda", {"engine": "graph"}, False),
    ("cuda", {"engine": "eager"}, False),
    ("cpu", {"engine": "auto"}, False),
]


def test_a_worker_that_is_lost_may_have_played_recordings_where_it_records_and_need_not(
    tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(WorkerProcess, "__init__", lambda *_: None)
    worker = WorkerProcess("auto", "spawn")
    for device, recipe, records in RECIPES:
        hardware = Hardware(device=device, devices=1, name="a device", precision="float32")
        conditions = Conditions(dataset=tiny, recipe=SMALL.model_copy(update=recipe), seed=0)
        setup = Setup(lambda: worker, conditions, tmp_path, hardware, 1, print, print)
        worker.may_record = True
        assert setup.records(worker) is records
        worker.may_record = False
        assert not setup.records(worker)


def test_want_of_memory_of_a_training_alone_is_its_own(
    tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worker_process, "_serve", faulty.serve)
    with closing(ProcessBackend("cpu", 1, 1, lambda line: None, slots=4)) as backend:
        executor = backend.open(Conditions(dataset=tiny, recipe=SMALL, seed=0), tmp_path)
        (event,) = [e for e in run(executor, spec(0, "full")) if not isinstance(e, Evaluated)]
        assert isinstance(event, OutOfMemory) and executor.slots == 4


@pytest.mark.parametrize("kind", SEPARATE)
def test_a_worker_that_dies_is_replaced(kind: object, made: Callable[..., Executor]) -> None:
    executor = made(kind)
    events = run(executor, spec(0, "segfault"), spec(1))
    assert isinstance(end_of(events, 0), WorkerLost)
    if isinstance(end_of(events, 1), WorkerLost):  # it shared the worker
        events = run(executor, spec(1))
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
