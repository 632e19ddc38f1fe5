"""Trainings in worker processes that are ready: handed out, heard, and taken up again where a worker dies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection, wait

from sweeper.core.errors import ExecutorError, SweeperError
from sweeper.core.events import Answer, Evaluated, OutOfMemory, TrainingEvent, WorkerLost
from sweeper.core.records import TrialSpec
from sweeper.core.text import count
from sweeper.executors.watchdog import Watchdog
from sweeper.executors.worker_process import Setup, WorkerProcess

FAILURES = 4
"""A place among several workers where so many trainings in a row failed is given up: a GPU may be broken, and
what fails fast would get most of the trainings."""


class ProcessExecutor:
    """Supervised worker processes that share the decoded store through the page cache.

    A worker that dies costs its training (`WorkerLost`) and is replaced; the parent's death ends the workers. One in
    which a training failed is replaced, too: what a failure leaves behind in a process is unknown.
    """

    def __init__(
        self, workers: list[WorkerProcess], setup: Setup, log: Callable[[str], None], watchdog: Watchdog
    ) -> None:
        """Made by `ProcessBackend.open`; `workers` are ready."""
        self._workers, self._setup, self._log, self._watchdog = workers, setup, log, watchdog
        self._count = len(workers)
        self._failures: Counter[int] = Counter()
        """In a row, by the place among the workers."""

    @property
    def workers(self) -> int:
        """How many there are to be."""
        return self._count

    def free(self) -> int:
        """Idle workers.

        Raises:
            ExecutorError: if no worker is left.
        """
        if not self._workers:
            raise ExecutorError("every worker died and none could be started again; see the warnings above")
        return sum(worker.spec is None for worker in self._workers)

    def submit(self, spec: TrialSpec) -> None:
        """Hand the training to an idle worker."""
        worker = next(worker for worker in self._workers if worker.spec is None)
        worker.spec = spec
        self._watchdog.wait(worker, spec.purpose, "first")
        with suppress(OSError):  # it died while idle: the next poll finds its pipe at the end and replaces it
            worker.pipe.send(("train", spec))

    def poll(self, timeout_seconds: float) -> list[TrainingEvent]:
        """Messages of the workers, and the deaths among them."""
        events: list[TrainingEvent] = []
        busy = {worker.pipe: worker for worker in self._workers if worker.spec is not None}
        for pipe in wait(list(busy), timeout_seconds):
            assert isinstance(pipe, Connection)
            events += self._told(busy[pipe])
        return events + self._hung()

    def _told(self, worker: WorkerProcess) -> list[TrainingEvent]:
        """What a worker's next message says."""
        try:
            told: TrainingEvent | tuple[str, str] = worker.pipe.recv()
        except (EOFError, OSError):
            return self._lost(worker)
        if isinstance(told, tuple):  # "refused" or "broken": it ends, though it had been ready
            return self._lost(worker, str(told[1]))
        self._watchdog.answered(worker)
        if isinstance(told, Evaluated):
            if told.note:
                self._log(told.note)
            if told.last:
                self._watchdog.wait(worker, told.spec.purpose, "result")
            return [told]
        if isinstance(told, OutOfMemory | WorkerLost):
            self._replace(worker, told.reason)
        elif told.result.state == "failed":
            self._replace(worker, "a training failed in a worker")
        else:
            self._failures[worker.number], worker.spec = 0, None
        return [told]

    def _lost(self, worker: WorkerProcess, reason: str | None = None) -> list[TrainingEvent]:
        """Replace a worker; what it trained is lost."""
        spec = worker.spec
        assert spec is not None
        return [WorkerLost(spec, self._replace(worker, reason))]

    def _hung(self) -> list[TrainingEvent]:
        """Deaths of the workers that say nothing any more: they are killed."""
        found: list[TrainingEvent] = []
        for worker in list(self._workers):
            if (reason := self._watchdog.hangs(worker)) is not None and not worker.pipe.poll():
                found += self._lost(worker, reason)
        return found

    def answer(self, spec: TrialSpec, answer: Answer) -> None:
        """Tell the worker of this training; nothing where that one died meanwhile."""
        for worker in self._workers:
            if worker.spec == spec:
                self._watchdog.wait(worker, spec.purpose, "next" if answer == "go" else "result")
                with suppress(OSError):  # it died; the next poll says so
                    worker.pipe.send(("answer", answer))

    def _replace(self, worker: WorkerProcess, reason: str | None = None) -> str:
        """Start another worker in its place, unless that is of no use; why, for people."""
        reason = reason or worker.reason()
        self._watchdog.forget(worker)
        self._workers.remove(worker)
        self._failures[worker.number] += 1
        if self._workers and (failures := self._failures[worker.number]) >= FAILURES:
            worker.end()
            left = count(len(self._workers), "worker")
            self._log(f"{reason}, the last of {failures} failures in a row; going on with {left}")
            return reason
        try:
            self._workers.append(self._setup.in_place_of(worker, reason))
        except SweeperError as error:
            self._log(f"{error}; going on with {count(len(self._workers), 'worker')}")
        return reason

    def close(self) -> None:
        """Kill all workers."""
        for worker in self._workers:
            worker.end()
        self._workers = []
