"""What every executor must do, whatever it runs trainings on: the same tests for all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from sweeper.core.events import Answer, JobResult, TrainingJob, WorkerLost
from sweeper.core.paths import get_checkpoint_path
from sweeper.core.records import Conditions, Dataset, TrialResult, TrialSpec
from sweeper.executors import processes
from sweeper.executors.inline import InlineBackend
from sweeper.executors.processes import ProcessBackend
from sweeper.executors.protocol import Backend, Executor, Watchdog
from sweeper.executors.separate_process import SubprocessBackend
from sweeper.training import job
from tests.support import faulty
from tests.support.small_training import SMALL
from tests.support.small_training import spec as spec_with
from tests.support.waiting import wait_until

LONGEST = 240.0
"""Seconds that a test waits for an event: Ray starts slowly on a busy machine."""


def spec(number: int, fault: str | None = None) -> TrialSpec:
    """Return a training of `SMALL`, with its evaluations; `fault` as in tests/support/faulty.py."""
    rate = 0.003 if fault is None else faulty.rate_of(fault)
    return spec_with(number=number, lr=rate)


def inline(folder: Path, patch: pytest.MonkeyPatch) -> Backend:
    patch.setattr(job, "StudyTraining", faulty.FaultyTraining)
    return InlineBackend("cpu")


def of_processes(folder: Path, patch: pytest.MonkeyPatch) -> Backend:
    patch.setattr(processes, "_serve_worker", faulty.serve)
    return ProcessBackend("cpu", 1, 1, lambda line: None, Watchdog(least_seconds=20))


def ray(folder: Path, patch: pytest.MonkeyPatch) -> Backend:
    return SubprocessBackend(faulty.ray_with_faults, lambda line: None)


EXECUTORS = [inline, of_processes]
"""Ray's actors keep the same rules in test_ray_cluster.py: two clusters at a time disturb each other."""


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


def run(executor: Executor, *specs: TrialSpec, until: Mapping[int, int] | None = None) -> list[Answer]:
    """Return all answers to the jobs of these trainings, each begun when there is room and continued rung by rung.

    Args:
        executor: made ready.
        specs: in their order.
        until: by number, the step at which a training is left; else it continues to its end.
    """
    answers: list[Answer] = []
    queue, running, end = [TrainingJob(spec, 1) for spec in specs], 0, time.monotonic() + LONGEST
    while queue or running:
        assert time.monotonic() < end, answers
        while queue and executor.free():
            executor.submit(queue.pop(0))
            running += 1
        for told in executor.poll(0.5):
            answers.append(told)
            running -= 1
            if isinstance(told, JobResult) and not told.finished:
                spec, step = told.result.spec, told.result.evaluations[-1].step
                if step < (until or {}).get(spec.number, spec.steps):
                    queue.insert(0, TrainingJob(spec, step + 1))
    return answers


def of(answers: list[Answer], number: int) -> list[Answer]:
    """Return those about one training."""
    return [a for a in answers if (a.spec if isinstance(a, WorkerLost) else a.result.spec).number == number]


def end_of(answers: list[Answer], number: int) -> Answer:
    """Return the last one about a training."""
    return of(answers, number)[-1]


def result_of(answers: list[Answer], number: int) -> TrialResult:
    """Return what a training gave so far."""
    told = end_of(answers, number)
    assert isinstance(told, JobResult)
    return told.result


def values(answers: list[Answer], number: int) -> list[tuple[int, float]]:
    """(step, value) of a training's evaluations."""
    return [(e.step, e.value) for e in result_of(answers, number).evaluations]


RUNGS = SMALL.rungs(SMALL.steps)


@pytest.mark.parametrize("kind", EXECUTORS)
def test_each_job_is_answered_with_all_evaluations_so_far(kind: object, made: Callable[..., Executor]) -> None:
    executor = made(kind)
    room = executor.free()
    answers = run(executor, spec(0), spec(1))
    for number in (0, 1):
        own = [told.result for told in of(answers, number) if isinstance(told, JobResult)]
        assert [[e.step for e in r.evaluations] for r in own] == [list(RUNGS[: n + 1]) for n in range(len(RUNGS))]
        assert [r.state for r in own] == ["pruned"] * (len(RUNGS) - 1) + ["complete"]
        assert all(r.spec == spec(number) for r in own)
    assert values(answers, 0) == values(answers, 1)  # one configuration, one seed: the same numbers
    wait_for_room(executor)
    assert executor.free() == room


@pytest.mark.parametrize("kind", EXECUTORS)
def test_a_training_that_is_left_goes_on_where_it_was(kind: object, made: Callable[..., Executor]) -> None:
    executor = made(kind)
    before = run(executor, spec(0), until={0: 1})
    assert result_of(before, 0).state == "pruned" and len(values(before, 0)) == 1
    between = run(executor, spec(1))
    after = run(executor, spec(0))
    assert result_of(after, 0).state == result_of(between, 1).state == "complete"
    assert values(after, 0) == values(between, 1)


@pytest.mark.parametrize("kind", EXECUTORS)
def test_a_training_that_raises_gives_a_failed_result(kind: object, made: Callable[..., Executor]) -> None:
    answers = run(made(kind), spec(0, "raises"), spec(1))
    failed = result_of(answers, 0)
    assert failed.state == "failed" and "a fault of the loss" in (failed.reason or "")
    assert result_of(answers, 1).state == "complete"


@pytest.mark.parametrize("kind", EXECUTORS)
def test_out_of_memory_costs_one_training(kind: object, made: Callable[..., Executor]) -> None:
    answers = run(made(kind), spec(0, "full"), spec(1))
    lost = end_of(answers, 0)
    assert isinstance(lost, WorkerLost) and "no room" in lost.reason
    assert result_of(answers, 1).state == "complete"


@pytest.mark.parametrize("kind", [of_processes])
def test_a_worker_that_dies_is_replaced(kind: object, made: Callable[..., Executor]) -> None:
    answers = run(made(kind), spec(0, "segfault"), spec(1))
    assert isinstance(end_of(answers, 0), WorkerLost)
    assert result_of(answers, 1).state == "complete"


def test_an_idle_worker_writes_the_training_in_memory_to_its_checkpoint(
    made: Callable[..., Executor], tmp_path: Path
) -> None:
    """It may be killed, as at the end of a session. A training that is complete leaves none."""
    executor, path = made(of_processes), get_checkpoint_path(tmp_path / "checkpoints", spec(0))
    run(executor, spec(0), until={0: 1})
    wait_until(lambda: executor.poll(0.1) or path.exists(), LONGEST)
    run(executor, spec(0))
    assert not path.exists()


def test_a_training_goes_on_where_it_is_in_memory(
    tiny: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "_serve_worker", faulty.serve)
    with closing(ProcessBackend("cpu", 2, 2, lambda line: None)) as backend:
        executor = backend.open(Conditions(dataset=tiny, recipe=SMALL, seed=0), tmp_path)
        run(executor, spec(0), spec(1), until={0: 1, 1: 1})
        for number in (1, 0):
            (holder,) = (worker for worker in executor._workers if worker.holds == spec(number))
            executor.submit(TrainingJob(spec(number), RUNGS[1]))
            assert holder.job is not None


@pytest.mark.parametrize("kind", EXECUTORS)
def test_closing_twice_ends_what_runs_and_raises_nothing(kind: object, made: Callable[..., Executor]) -> None:
    executor = made(kind)
    executor.submit(TrainingJob(spec(0), 1))
    executor.close()
    executor.close()


@pytest.mark.parametrize("kind", EXECUTORS)
def test_an_idle_executor_waits_and_tells_nothing(kind: object, made: Callable[..., Executor]) -> None:
    executor = made(kind)
    began = time.monotonic()
    assert executor.poll(0.2) == []
    assert time.monotonic() - began > 0.15  # else those who poll keep a core busy
    assert executor.poll(0) == []


RULES = [
    test_each_job_is_answered_with_all_evaluations_so_far,
    test_a_training_that_is_left_goes_on_where_it_was,
    test_a_training_that_raises_gives_a_failed_result,
    test_out_of_memory_costs_one_training,
    test_a_worker_that_dies_is_replaced,
    test_closing_twice_ends_what_runs_and_raises_nothing,
    test_an_idle_executor_waits_and_tells_nothing,
]
