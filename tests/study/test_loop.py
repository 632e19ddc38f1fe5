"""Trainings that fail in a row: the sweep stops with trials left, and a resume continues it."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

from sweeper import storage as studies
from sweeper.core.errors import ExecutorError, UsageError
from sweeper.core.events import Reply, WorkerLost
from sweeper.core.records import TrialResult, TrialSpec
from sweeper.storage.results import is_counted
from sweeper.study.loop import IN_A_ROW, FailureCount, TrainingList, run_work
from sweeper.study.search import enqueue_defaults
from sweeper.workflow.run import run_sweep
from tests.support import builders
from tests.support.faking import SPACE, FakeExecutor, cut_after, fake_result, new_plan, new_search, new_study, train
from tests.support.small_training import spec
from tests.support.sweeping import Recorder, get_time, make_settings

FAILED = builders.failed_trial("dice", 0)
GOOD = fake_result(spec())
LOST = "worker killed by signal 9"


def count_failures(*ends: TrialResult | str) -> FailureCount:
    """Results, and reasons why a worker was lost."""
    failures = FailureCount()
    for end in ends:
        (failures.record_lost_worker if isinstance(end, str) else failures.record_result)(end)  # type: ignore[arg-type]
    return failures


@pytest.mark.parametrize("workers", [1, 4])
def test_failures_and_lost_workers_in_a_row_count_equally(workers: int) -> None:
    limit = IN_A_ROW + workers - 1
    ends = ([FAILED, LOST] * limit)[:limit]
    count_failures(*ends).check_limit(workers)
    with pytest.raises(ExecutorError, match=rf"{limit + 1} trainings in a row failed, and at most {limit} may"):
        count_failures(*ends, FAILED).check_limit(workers)


@pytest.mark.parametrize("good", [GOOD, cut_after(GOOD, 1)])
def test_a_result_resets_the_count_of_failures(good: TrialResult) -> None:
    count_failures(*[FAILED] * IN_A_ROW, good, *[FAILED] * IN_A_ROW).check_limit(1)


def test_trainings_that_fail_after_a_rung_are_failures_in_a_row() -> None:
    """Reaching a rung does not reset the count of failures, as all trainings may fail at the next one."""

    class FailingExecutor(FakeExecutor):
        def poll(self, timeout_seconds: float) -> list[Reply]:
            return [
                answer
                if isinstance(answer, WorkerLost) or not answer.finished
                else WorkerLost(answer.result.spec, LOST)
                for answer in super().poll(timeout_seconds)
            ]

    study = new_study()
    specs = [builders.spec("dice", n, seed=n, steps=100, purpose="confirm") for n in range(20)]
    batch = TrainingList(study, specs, recorder=Recorder())
    with pytest.raises(ExecutorError, match=rf"{IN_A_ROW + 1} trainings in a row failed"):
        run_work(FailingExecutor(), batch, lambda: None)
    assert all(r.state == "failed" for r in studies.list_extra_results(study, "confirm"))


@pytest.mark.parametrize("is_lost", [False, True])
def test_trainings_of_ended_work_do_not_disturb_the_next(is_lost: bool) -> None:
    """Its workers are free again when they answer, and their answers are discarded."""

    class EndedList(TrainingList):
        @property
        def is_over(self) -> bool:
            return bool(studies.list_extra_results(study, "confirm"))

    def train_spec(spec: TrialSpec) -> TrialResult | Reply:
        return WorkerLost(spec, LOST) if is_lost and spec.purpose == "confirm" and spec.number else fake_result(spec)

    study, executor = new_study(), FakeExecutor(train_spec, workers=3)
    specs = [builders.spec("dice", n, seed=n, steps=100, purpose="confirm") for n in range(3)]
    assert run_work(executor, EndedList(study, specs, recorder=Recorder()), lambda: None)
    busy = executor.workers - executor.free()
    assert busy
    longer = [spec.model_copy(update={"purpose": "final"}) for spec in specs]
    assert run_work(executor, TrainingList(study, longer, recorder=Recorder()), lambda: None)
    assert [len(studies.list_extra_results(study, purpose)) for purpose in ("confirm", "final")] == [1, 3]


def test_a_backend_is_closed_if_the_request_is_rejected(tmp_path: Path) -> None:
    class ClosableExecutor(FakeExecutor):
        closed = 0

        def close(self) -> None:
            self.closed += 1

    backend, display = ClosableExecutor(), Recorder()
    settings = make_settings(tmp_path, resume=True)  # there is no such study
    with pytest.raises(UsageError):
        run_sweep(settings, display, display, clock=get_time, cores=1, backend=backend)  # type: ignore[arg-type]
    assert backend.closed


def test_a_search_in_which_everything_fails_stops_and_can_be_resumed() -> None:
    study = new_study()
    enqueue_defaults(study, SPACE, 40)
    failing = FakeExecutor(lambda spec: WorkerLost(spec, "worker killed by signal 9"), workers=3)
    with pytest.raises(ExecutorError, match="worker killed by signal 9"):
        run_work(failing, new_search(study, 40), lambda: None)
    assert not study.get_trials(states=(TrialState.RUNNING,))
    assert sum(is_counted(trial) for trial in study.get_trials()) <= (IN_A_ROW + 3) // 2
    run_work(FakeExecutor(), new_search(study, 40), lambda: None)
    assert sum(is_counted(trial) for trial in study.get_trials()) == 40


def test_an_executor_error_leaves_no_trial_running() -> None:
    class BrokenExecutor(FakeExecutor):
        def poll(self, timeout_seconds: float) -> list[Reply]:
            raise ExecutorError("the cluster is gone")

    study, recorder = new_study(), Recorder()
    enqueue_defaults(study, SPACE, 9)
    with pytest.raises(ExecutorError, match="the cluster is gone"):
        run_work(BrokenExecutor(workers=2), new_search(study, 9, recorder), lambda: None)
    assert not study.get_trials(states=(TrialState.RUNNING,))
    assert len(recorder.dropped) == 2
    run_work(FakeExecutor(), new_search(study, 9), lambda: None)
    assert sum(is_counted(trial) for trial in study.get_trials()) == 9


def test_failures_in_a_row_are_counted_across_phases() -> None:
    """Probes and trainings for the rates are too few: they would not reach the limit, nor would the search alone."""

    def fail(spec: TrialSpec) -> TrialResult:
        return builders.failed_trial(spec.family, spec.number, spec=spec)

    study = studies.create_study(optuna.storages.InMemoryStorage(), "s", new_plan())  # type: ignore[arg-type]
    with pytest.raises(ExecutorError, match=r"sweeper run --study s --resume$"):
        train(study, FakeExecutor(fail), trials=14, finds_steps=True)
    before = sum(len(studies.list_extra_results(study, purpose)) for purpose in ("probe", "rate"))
    assert before == 6 and len(studies.search_results(study)) == 3
