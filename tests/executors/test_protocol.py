"""What every executor must do, whatever it runs trainings on: the same tests for all of them."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from sweeper.core.events import JobResult, Reply, TrainingJob, WorkerLost
from sweeper.core.records import Conditions, Dataset, TrialResult, TrialSpec
from sweeper.core.training_files import get_checkpoint_path
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
    rate = 0.003 if fault is None else faulty.get_rate(fault)
    return spec_with(number=number, lr=rate)


def make_inline_backend(folder: Path, patch: pytest.MonkeyPatch) -> Backend:
    patch.setattr(job, "StudyTraining", faulty.FaultyTraining)
    return InlineBackend("cpu")


def make_process_backend(folder: Path, patch: pytest.MonkeyPatch) -> Backend:
    patch.setattr(processes, "_serve_worker", faulty.serve)
    return ProcessBackend("cpu", 1, 1, lambda line: None, Watchdog(least_seconds=20))


def make_ray_backend(folder: Path, patch: pytest.MonkeyPatch) -> Backend:
    return SubprocessBackend(faulty.ray_with_faults, lambda line: None)


EXECUTORS = [make_inline_backend, make_process_backend]
"""Ray's actors keep the same rules in test_ray_cluster.py: two clusters at a time disturb each other."""


@pytest.fixture
def make_executor(tmp_path: Path, tiny: Dataset, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Executor]]:
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


def run(executor: Executor, *specs: TrialSpec, until: Mapping[int, int] | None = None) -> list[Reply]:
    """Return all answers to the jobs of these trainings, each begun when there is room and continued rung by rung.

    Args:
        executor: ready.
        specs: in their order.
        until: by number, the step at which a training pauses; others continue to their end.
    """
    answers: list[Reply] = []
    queue, running, end = [TrainingJob(spec, 1) for spec in specs], 0, time.monotonic() + LONGEST
    while queue or running:
        assert time.monotonic() < end, answers
        while queue and executor.free():
            executor.submit(queue.pop(0))
            running += 1
        for answer in executor.poll(0.5):
            answers.append(answer)
            running -= 1
            if isinstance(answer, JobResult) and not answer.finished:
                spec, step = answer.result.spec, answer.result.evaluations[-1].step
                if step < (until or {}).get(spec.number, spec.steps):
                    queue.insert(0, TrainingJob(spec, step + 1))
    return answers


def select_answers(answers: list[Reply], number: int) -> list[Reply]:
    """Return the answers about one training."""
    return [a for a in answers if (a.spec if isinstance(a, WorkerLost) else a.result.spec).number == number]


def get_last_answer(answers: list[Reply], number: int) -> Reply:
    """Return the last answer about a training."""
    return select_answers(answers, number)[-1]


def get_result(answers: list[Reply], number: int) -> TrialResult:
    """Return the result of a training so far."""
    answer = get_last_answer(answers, number)
    assert isinstance(answer, JobResult)
    return answer.result


def list_values(answers: list[Reply], number: int) -> list[tuple[int, float]]:
    """Return (step, value) of each evaluation of a training."""
    return [(e.step, e.value) for e in get_result(answers, number).evaluations]


RUNGS = SMALL.rungs(SMALL.steps)


@pytest.mark.parametrize("kind", EXECUTORS)
def test_each_job_is_answered_with_all_evaluations_so_far(kind: object, make_executor: Callable[..., Executor]) -> None:
    executor = make_executor(kind)
    room = executor.free()
    answers = run(executor, spec(0), spec(1))
    for number in (0, 1):
        results = [answer.result for answer in select_answers(answers, number) if isinstance(answer, JobResult)]
        assert [[e.step for e in r.evaluations] for r in results] == [list(RUNGS[: n + 1]) for n in range(len(RUNGS))]
        assert [r.state for r in results] == ["pruned"] * (len(RUNGS) - 1) + ["complete"]
        assert all(r.spec == spec(number) for r in results)
    assert list_values(answers, 0) == list_values(answers, 1)  # one configuration, one seed: the same numbers
    wait_for_room(executor)
    assert executor.free() == room


@pytest.mark.parametrize("kind", EXECUTORS)
def test_a_paused_training_continues_where_it_paused(kind: object, make_executor: Callable[..., Executor]) -> None:
    executor = make_executor(kind)
    before = run(executor, spec(0), until={0: 1})
    assert get_result(before, 0).state == "pruned" and len(list_values(before, 0)) == 1
    between = run(executor, spec(1))
    after = run(executor, spec(0))
    assert get_result(after, 0).state == get_result(between, 1).state == "complete"
    assert list_values(after, 0) == list_values(between, 1)


@pytest.mark.parametrize("kind", EXECUTORS)
def test_a_training_that_raises_gives_a_failed_result(kind: object, make_executor: Callable[..., Executor]) -> None:
    answers = run(make_executor(kind), spec(0, "raises"), spec(1))
    failed = get_result(answers, 0)
    assert failed.state == "failed" and "a fault of the loss" in (failed.reason or "")
    assert get_result(answers, 1).state == "complete"


@pytest.mark.parametrize("kind", EXECUTORS)
def test_out_of_memory_costs_one_training(kind: object, make_executor: Callable[..., Executor]) -> None:
    answers = run(make_executor(kind), spec(0, "full"), spec(1))
    lost = get_last_answer(answers, 0)
    assert isinstance(lost, WorkerLost) and "no room" in lost.reason
    assert get_result(answers, 1).state == "complete"


@pytest.mark.parametrize("kind", [make_process_backend])
def test_a_worker_that_dies_is_replaced(kind: object, make_executor: Callable[..., Executor]) -> None:
    answers = run(make_executor(kind), spec(0, "segfault"), spec(1))
    assert isinstance(get_last_answer(answers, 0), WorkerLost)
    assert get_result(answers, 1).state == "complete"


def test_an_idle_worker_writes_the_training_in_memory_to_its_checkpoint(
    make_executor: Callable[..., Executor], tmp_path: Path
) -> None:
    """It may be killed, as at the end of a session. A training that is complete leaves none."""
    executor, path = make_executor(make_process_backend), get_checkpoint_path(tmp_path / "checkpoints", spec(0))
    run(executor, spec(0), until={0: 1})
    wait_until(lambda: executor.poll(0.1) or path.exists(), LONGEST)
    run(executor, spec(0))
    assert not path.exists()


def test_a_paused_training_continues_on_the_worker_that_holds_it(
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
def test_closing_twice_ends_running_trainings_and_raises_nothing(
    kind: object, make_executor: Callable[..., Executor]
) -> None:
    executor = make_executor(kind)
    executor.submit(TrainingJob(spec(0), 1))
    executor.close()
    executor.close()


@pytest.mark.parametrize("kind", EXECUTORS)
def test_polling_an_idle_executor_waits_and_returns_nothing(
    kind: object, make_executor: Callable[..., Executor]
) -> None:
    executor = make_executor(kind)
    began = time.monotonic()
    assert executor.poll(0.2) == []
    assert time.monotonic() - began > 0.15  # else those who poll keep a core busy
    assert executor.poll(0) == []


RULES = [
    test_each_job_is_answered_with_all_evaluations_so_far,
    test_a_paused_training_continues_where_it_paused,
    test_a_training_that_raises_gives_a_failed_result,
    test_out_of_memory_costs_one_training,
    test_a_worker_that_dies_is_replaced,
    test_closing_twice_ends_running_trainings_and_raises_nothing,
    test_polling_an_idle_executor_waits_and_returns_nothing,
]
