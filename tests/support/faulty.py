"""Worker processes whose trainings have real faults, chosen by the learning rate: for tests of the supervision."""

from __future__ import annotations

import os
import resource
import signal
import time
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Literal, NoReturn

import torch

from sweeper.core.events import JobResult, Reply, TrainingJob
from sweeper.core.records import Conditions, Evaluation, TrialResult
from sweeper.executors.protocol import Backend, Watchdog
from sweeper.training import job, worker
from sweeper.training.engine import StudyTraining
from sweeper.training.training_context import TrainingContext

FAULTS = ("nan", "inf", "value", "raises", "memory", "hangs", "segfault", "full")


def raise_out_of_memory(*_: object, **__: object) -> NoReturn:
    """Raise that memory ran out, in place of anything that a process does."""
    torch.empty(2**56)  # torch's own words, which differ between allocators
    raise AssertionError


def raise_launch_failure(*_: object, **__: object) -> NoReturn:
    """Raise as a GPU does that computes nothing any more."""
    raise torch.AcceleratorError("CUDA error: unspecified launch failure")


def fail_with_full_disk(*_: object, **__: object) -> NoReturn:
    """Raise that the disk is full, as the system does."""
    raise OSError(28, "No space left on device")


def get_rate(fault: str) -> float:
    """Return the learning rate of the training that has this fault."""
    return round(0.001 + 0.0001 * FAULTS.index(fault), 6)


class FaultyTraining(StudyTraining):
    """A training that has a fault at its first step, if its learning rate stands for one."""

    def __init__(self, spec: Any, *arguments: Any, **settings: Any) -> None:
        super().__init__(spec, *arguments, **settings)
        self._fault = next((f for f in FAULTS if abs(spec.lr - get_rate(f)) < 1e-9), None)
        criterion = self._steps.criterion
        if self._fault in {"nan", "inf"}:
            factor = float(self._fault or "nan")
            self._steps.criterion = lambda *inputs, **options: criterion(*inputs, **options) * factor  # type: ignore[assignment]

    def advance(self) -> Evaluation:
        match self._fault:
            case "raises":
                raise ValueError("a fault of the loss")
            case "memory":
                now = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()  # noqa: SIM115, PTH123
                resource.setrlimit(resource.RLIMIT_AS, (now + 2**28, now + 2**28))
                torch.ones(2**31)
            case "full":
                raise MemoryError("no room")
            case "hangs":
                while True:
                    time.sleep(1)
            case "segfault":
                os.kill(os.getpid(), signal.SIGSEGV)
        return super().advance()

    def make_result(self, state: Literal["complete", "pruned"]) -> TrialResult:
        result = super().make_result(state)
        return result.model_copy(update={"value": 1.5}) if self._fault == "value" else result


def serve(pipe: Connection, device: str) -> None:
    """Run a worker process in place of `sweeper.executors.processes._serve_worker`."""
    job.StudyTraining = FaultyTraining  # type: ignore[misc]
    worker.serve_jobs(pipe, device)


def die_when_configured(pipe: Connection, device: str) -> None:
    """Run a worker whose first process, by a file in the current folder, dies once it is configured."""
    open_context = worker.open_context

    def open_context_once(conditions: Conditions, place: str) -> TrainingContext:
        _die_once(Path("dead"))
        return open_context(conditions, place)

    worker.open_context = open_context_once
    worker.serve_jobs(pipe, device)


def never_start(pipe: Connection, device: str) -> None:
    """Run a worker that always dies at once."""
    os.kill(os.getpid(), signal.SIGKILL)


def _die_once(mark: Path) -> None:
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)


def end_between_trainings(pipe: Connection, device: str) -> None:
    """Run a worker whose first process, by a file in the current folder, fails after its first training."""
    run_job = job.WorkerTrainings.run_job

    def run_job_once(self: job.WorkerTrainings, job_request: TrainingJob) -> Reply:
        answer = run_job(self, job_request)
        if isinstance(answer, JobResult) and answer.finished and not Path("ended").exists():
            Path("ended").touch()
            raise MemoryError("no room for the answer")
        return answer

    job.WorkerTrainings.run_job = run_job_once  # type: ignore[method-assign]
    worker.serve_jobs(pipe, device)


def ray_with_faults(log: Callable[[str], None]) -> Backend:
    """Make two of Ray's actors with the faults above, on a cluster of this machine."""
    from sweeper.executors import ray_cluster

    class FaultyTrainer(ray_cluster.RayTrainer):
        def advance(self, request: TrainingJob) -> Reply:
            job.StudyTraining = FaultyTraining  # type: ignore[misc]
            return super().advance(request)

    ray_cluster.RayTrainer = FaultyTrainer  # type: ignore[misc]
    watchdog = Watchdog(least_seconds=10)
    watchdog._known["search", "rung"].append(0.5)  # as after a night of trainings
    return ray_cluster.RayBackend("cpu", 2, 2, "local", log, watchdog=watchdog)


def connect_to_ray_with_faults(settings: object, cores: int, log: Callable[[str], None]) -> Backend:
    """Stand for `connect_to_ray`."""
    return ray_with_faults(log)


def break_second_worker(pipe: Connection, device: str) -> None:
    """Run a worker that fails everything, unless it was started first."""
    training_class, is_second = job.StudyTraining, False
    try:
        os.close(os.open("first", os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        is_second = True

    class Broken(training_class):  # type: ignore[misc, valid-type]
        def advance(self) -> Evaluation:
            if is_second:
                raise_launch_failure()
            return super().advance()

    job.StudyTraining = Broken  # type: ignore[misc]
    worker.serve_jobs(pipe, device)
