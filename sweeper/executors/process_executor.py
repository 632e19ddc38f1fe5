"""Jobs for worker processes that are ready: handed out, heard, and told to be lost where a worker dies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection, wait

from sweeper.core.errors import ExecutorError, SweeperError
from sweeper.core.events import Answer, Job, Lost
from sweeper.core.text import count
from sweeper.executors.protocol import stage_of
from sweeper.executors.watchdog import Watchdog
from sweeper.executors.worker_process import Setup, WorkerProcess

FAILURES = 4
"""A place among several workers where so many trainings in a row failed is given up: a GPU may be broken, and
what fails fast would get most of the trainings."""


class ProcessExecutor:
    """Supervised worker processes that share the decoded store through the page cache.

    A worker that dies costs its job (`Lost`) and is replaced; the parent's death ends the workers. One in
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
        return sum(worker.job is None for worker in self._workers)

    def submit(self, job: Job) -> None:
        """To an idle worker: the one that has the training in memory, else one that has none."""
        idle = [worker for worker in self._workers if worker.job is None]
        worker = min(idle, key=lambda w: (w.holds != job.spec, w.holds is not None))
        worker.job, worker.holds = job, job.spec
        self._watchdog.wait(worker, job.spec.purpose, stage_of(job, self._setup.conditions.recipe))
        with suppress(OSError):  # it died while idle: the next poll finds its pipe at the end and replaces it
            worker.pipe.send(job)

    def poll(self, timeout_seconds: float) -> list[Answer]:
        """Answers of the workers, and the deaths among them."""
        answers: list[Answer] = []
        busy = {worker.pipe: worker for worker in self._workers if worker.job is not None}
        for pipe in wait(list(busy), timeout_seconds):
            assert isinstance(pipe, Connection)
            answers.append(self._answer(busy[pipe]))
        return answers + self._hung()

    def _answer(self, worker: WorkerProcess) -> Answer:
        """What a worker's next message says."""
        try:
            told: Answer | tuple[str, str] = worker.pipe.recv()
        except (EOFError, OSError):
            return self._lost(worker)
        if isinstance(told, tuple):  # "refused" or "broken": it ends, though it had been ready
            return self._lost(worker, str(told[1]))
        self._watchdog.answered(worker)
        if isinstance(told, Lost):
            return self._lost(worker, told.reason)
        if told.note:
            self._log(told.note)
        if told.result.state == "failed":
            self._replace(worker, "a training failed in a worker")
            return told
        worker.job, self._failures[worker.number] = None, 0
        if told.finished:
            worker.holds = None
        return told

    def _lost(self, worker: WorkerProcess, reason: str | None = None) -> Lost:
        """Replace a worker; its job is lost."""
        assert worker.job is not None
        return Lost(worker.job.spec, self._replace(worker, reason))

    def _hung(self) -> list[Answer]:
        """Deaths of the workers that say nothing any more: they are killed."""
        found: list[Answer] = []
        for worker in list(self._workers):
            if (reason := self._watchdog.hangs(worker)) is not None and not worker.pipe.poll():
                found.append(self._lost(worker, reason))
        return found

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
