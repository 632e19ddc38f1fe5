"""Workers that hang, die, run out of memory or answer nonsense: the cost and the messages."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import optuna
import psutil
import pytest
from optuna.trial import TrialState

from sweeper import storage as studies
from sweeper.core.errors import SweeperError
from sweeper.core.events import JobResult, TrainingJob, WorkerLost
from sweeper.core.records import (
    Collapse,
    Conditions,
    Coordinate,
    Dataset,
    FamilySpace,
    SearchSpace,
    StudyRates,
    TrialSpec,
)
from sweeper.executors import processes
from sweeper.executors import start_process as launch
from sweeper.executors.processes import ProcessBackend
from sweeper.executors.protocol import Watchdog
from sweeper.space import TrialChoice
from sweeper.storage.record_format import ABANDONED
from sweeper.storage.results import is_counted, read_result
from sweeper.study.loop import run_work
from sweeper.study.search import LossSearch
from sweeper.workflow.conclude import report_study
from tests.support import builders, faulty
from tests.support.faking import new_plan
from tests.support.small_training import SMALL, spec
from tests.support.sweeping import Recorder


def open_backend(dataset: Dataset, backend: ProcessBackend, folder: Path) -> ProcessBackend:
    return backend.open(Conditions(dataset=dataset, recipe=SMALL, seed=0), folder)


def can_train(executor: ProcessBackend, workers: int = 1) -> bool:
    """Return whether so many workers are idle, and one of them trains."""
    assert executor.free() == workers
    executor.submit(TrainingJob(spec(), 1))
    return isinstance(executor.poll(60)[0], JobResult)


@pytest.mark.slow
def test_a_worker_that_dies_when_configured_is_replaced(
    tmp_path: Path, tiny: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "_serve_worker", faulty.die_when_configured)
    monkeypatch.chdir(tmp_path)
    log = list[str]()
    with closing(ProcessBackend("cpu", 2, 2, log.append)) as backend:
        assert can_train(open_backend(tiny, backend, tmp_path), workers=2)
    assert log == ["worker killed by signal 9 (out of memory?); starting another"]


@pytest.mark.slow
def test_without_a_fork_server_each_worker_is_started_from_scratch(
    tmp_path: Path, tiny: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail_path_too_long() -> None:
        raise OSError("AF_UNIX path too long")

    monkeypatch.setattr(launch.forkserver, "ensure_running", fail_path_too_long)
    with closing(ProcessBackend("cpu", 2, 2, print)) as backend:
        assert can_train(open_backend(tiny, backend, tmp_path), workers=2)


def get_fork_server_pid() -> int:
    """Return the id of the process that workers are forked from."""
    pid = launch.forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
    assert isinstance(pid, int)
    return pid


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux alone")
def test_a_worker_starts_even_if_its_fork_server_is_killed_meanwhile(
    tmp_path: Path, tiny: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    original_start = multiprocessing.process.BaseProcess.start
    victims = list[int]()

    def start(process: multiprocessing.process.BaseProcess) -> None:
        if not victims:  # it takes the request, and is killed before it can answer
            victims.append(get_fork_server_pid())
            os.kill(victims[0], signal.SIGSTOP)
            threading.Timer(0.5, os.kill, (victims[0], signal.SIGKILL)).start()
        original_start(process)

    log = list[str]()
    with closing(ProcessBackend("cpu", 1, 1, log.append)) as backend:
        executor = open_backend(tiny, backend, tmp_path)
        monkeypatch.setattr(multiprocessing.process.BaseProcess, "start", start)
        executor.submit(TrainingJob(spec(), 1))
        executor._workers[0].process.kill()
        assert [type(event) for event in executor.poll(60)] == [WorkerLost]
        assert can_train(executor), log
    assert len(victims) == 1 and log == ["worker killed by signal 9 (out of memory?); starting another"] * 2


@pytest.mark.skipif(sys.platform != "linux", reason="workers are forked on Linux alone")
@pytest.mark.slow
def test_workers_outlive_their_fork_server_and_end_on_closing(tmp_path: Path, tiny: Dataset) -> None:
    with closing(ProcessBackend("cpu", 1, 1, print)) as backend:
        executor = open_backend(tiny, backend, tmp_path)
        worker = psutil.Process(executor._workers[0].process.pid)
        os.kill(get_fork_server_pid(), signal.SIGKILL)
        assert can_train(executor)
    assert psutil.wait_procs([worker], timeout=60)[1] == []


def test_the_fork_server_survives_libraries_that_cannot_be_loaded(tmp_path: Path) -> None:
    (tmp_path / "segmentation_models_pytorch.py").write_text("raise OSError('libcudart.so.12: cannot open')")
    done = subprocess.run(
        [sys.executable, "-c", "import sweeper.training.preload"],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_failure_to_start_any_worker_is_explained(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_: object) -> None:
        raise EOFError

    monkeypatch.setattr(multiprocessing.process.BaseProcess, "start", refuse)
    with (
        closing(ProcessBackend("cpu", 2, 2, print)) as backend,
        pytest.raises(SweeperError, match=r"no worker could be started \(killed\); try --workers 0"),
    ):
        backend.get_hardware()


@pytest.mark.slow
def test_a_first_worker_that_dies_while_starting_ends_the_session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "_serve_worker", faulty.never_start)
    with (
        closing(ProcessBackend("cpu", 2, 2, print)) as backend,
        pytest.raises(SweeperError, match=r"died while starting .*signal 9.*--workers 0"),
    ):
        backend.get_hardware()


@pytest.mark.slow
def test_a_worker_that_gives_up_after_it_was_ready_costs_an_attempt(
    tmp_path: Path, tiny: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "_serve_worker", faulty.end_between_trainings)
    monkeypatch.chdir(tmp_path)
    study, plan = create_study_of_rates(tmp_path, tiny, [0.002, 0.003])
    log = list[str]()
    with closing(ProcessBackend("cpu", 1, 1, log.append)) as backend:
        assert run_work(*open_search(study, plan, backend, tmp_path), lambda: None)
    assert [t.state for t in study.get_trials() if is_counted(t)] == [TrialState.COMPLETE] * 2
    assert sum(ABANDONED in t.user_attrs for t in study.get_trials()) == 1
    assert len(log) == 1 and "no room for the answer" in log[0] and "starting another" in log[0]


@pytest.mark.slow
def test_a_failed_training_gets_its_worker_replaced(
    tmp_path: Path, tiny: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "_serve_worker", faulty.serve)
    study, plan = create_study_of_rates(tmp_path, tiny, [faulty.get_rate("raises"), 0.003])
    with closing(ProcessBackend("cpu", 1, 1, print)) as backend:
        executor, work = open_search(study, plan, backend, tmp_path)
        before = executor._workers[0].process.pid
        assert run_work(executor, work, lambda: None)
        assert executor._workers[0].process.pid != before
    assert [t.state for t in study.get_trials()] == [TrialState.FAIL, TrialState.COMPLETE]


class SearchOfRates(LossSearch):
    """A search whose trials have their `mix` as the learning rate, by which a worker knows its fault."""

    def _make_spec(self, number: int, choice: TrialChoice) -> TrialSpec:
        return super()._make_spec(number, choice).model_copy(update={"lr": choice.params["mix"]})


def make_search(study: optuna.Study, plan: studies.StudyPlan, folder: Path) -> LossSearch:
    """Return the search of all that is queued in the study."""
    return SearchOfRates(
        study,
        plan.space,
        plan.conditions,
        imbalance=60.0,
        trials=len(study.get_trials()),
        rates=StudyRates(by_family={"dice_ce": 1e-3}),
        recorder=Recorder(),
        checkpoints=folder,
    )


def open_search(
    study: optuna.Study, plan: studies.StudyPlan, backend: ProcessBackend, folder: Path
) -> tuple[ProcessBackend, LossSearch]:
    """Return workers that are ready, and their work."""
    return backend.open(plan.conditions, folder / "checkpoints"), make_search(study, plan, folder / "checkpoints")


def create_study_of_rates(folder: Path, dataset: Dataset, rates: list[float]) -> tuple[optuna.Study, studies.StudyPlan]:
    """Return a study of `dice_ce` at these learning rates, which are its `mix`, one evaluation each."""
    lr, mix = Coordinate(kind="log", low=1e-4, high=1e-1), Coordinate(kind="uniform", low=0.0, high=1.0)
    family = FamilySpace(family="dice_ce", coordinates={"mix": mix})
    space = SearchSpace(name="one", task="binary", lr=lr, families=(family,))
    conditions = Conditions(dataset=dataset, recipe=SMALL.model_copy(update={"evaluations": 1}), seed=0)
    plan = new_plan(space, conditions).model_copy(update={"profile": builders.profile(dataset)})
    study = studies.create_study(studies.open_storage(f"sqlite:///{folder}/sweeper.db"), "s", plan)
    for rate in rates:
        study.enqueue_trial({"loss": "dice_ce", "dice_ce.mix": rate})
    return study, plan


@pytest.mark.slow
def test_a_worker_place_that_always_fails_is_dropped_and_the_others_continue(
    tmp_path: Path, tiny: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "_serve_worker", faulty.break_second_worker)
    monkeypatch.setattr(processes, "FAILURES", 2)
    monkeypatch.chdir(tmp_path)
    study, plan = create_study_of_rates(tmp_path, tiny, [0.002, 0.003, 0.004, 0.005])
    log = list[str]()
    with closing(ProcessBackend("cpu", 2, 2, log.append)) as backend:
        executor, work = open_search(study, plan, backend, tmp_path)
        assert run_work(executor, work, lambda: None)
        assert len(executor._workers) == 1
    assert "the last of 2 failures in a row; continuing with 1 worker" in log[-1]
    assert sum(t.state == TrialState.COMPLETE for t in study.get_trials()) >= 3


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_thirteen_trials_with_every_fault_complete_or_fail_with_their_reason(
    tmp_path: Path, tiny: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(processes, "_serve_worker", faulty.serve)
    sound = [0.002, 0.003, 0.004, 0.005, 0.006]
    study, plan = create_study_of_rates(
        tmp_path, tiny, sound[:2] + [faulty.get_rate(f) for f in faulty.FAULTS] + sound[2:]
    )
    watch = Watchdog(least_seconds=20)
    watch._known["search", "rung"].append(0.5)  # as after a night of trainings
    backend = ProcessBackend("cpu", 2, 2, print, watch)
    with closing(backend):
        assert run_work(*open_search(study, plan, backend, tmp_path), lambda: None)
    trials = [t for t in study.get_trials() if is_counted(t)]
    by_rate = {round(t.params["dice_ce.mix"], 6): t for t in trials}
    assert len(trials) == len(by_rate) == 13
    states = {rate: t.state for rate, t in by_rate.items()}
    failing = [f for f in faulty.FAULTS if states[faulty.get_rate(f)] == TrialState.FAIL]
    assert failing == ["value", "raises", "memory", "hangs", "segfault", "full"]
    assert sum(s == TrialState.COMPLETE for s in states.values()) == 7
    for fault in ("nan", "inf"):
        trial = by_rate[faulty.get_rate(fault)]
        assert trial.value == 0 and trial.user_attrs["collapse"] == Collapse.DIVERGED
    assert 0 < study.best_value <= 1
    reasons = {f: read_result(by_rate[faulty.get_rate(f)]).reason or "" for f in failing}
    for fault, words in {
        "value": "must be in [0, 1], got 1.5",
        "raises": "ValueError: a fault of the loss",
        "memory": "allocate memory",
        "hangs": "worker hung",
        "segfault": "segmentation fault",
        "full": "no room",
    }.items():
        assert words in reasons[fault]
        assert ("on each of 2 attempts" in reasons[fault]) == (fault in {"memory", "hangs", "segfault", "full"})
    abandoned = [t for t in study.get_trials() if ABANDONED in t.user_attrs]
    rates = sorted(round(t.params["dice_ce.mix"], 6) for t in abandoned)
    assert rates == [faulty.get_rate(f) for f in ("memory", "hangs", "segfault", "full")]
    assert not [t for t in study.get_trials() if t.state in {TrialState.RUNNING, TrialState.WAITING}]

    outcome = report_study(studies.open_storage(f"sqlite:///{tmp_path}/sweeper.db"), "s", out=tmp_path / "reports")
    text = outcome.paths.markdown.read_text("utf-8")
    assert outcome.sweep.abandoned == 4
    assert "6 failed" in text and "worker hung" in text
    assert len(multiprocessing.active_children()) == 0
