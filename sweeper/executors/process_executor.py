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

    A worker that dies costs its trainings (`WorkerLost`) and is replaced; the parent's death ends the workers. One
    in which a training failed is replaced, too, once its other trainings are done: what a failure leaves behind in a
    process is unknown.
    """

    def __init__(
        self, workers: list[WorkerProcess], setup: Setup, log: Callable[[str], None], watchdog: Watchdog
    ) -> None:
        """Made by `ProcessBackend.open`; `workers` are ready."""
        self._workers, self._setup, self._log, self._watchdog = workers, setup, log, watchdog
        self._count = len(workers)
        self._failures: Counter[int] = Counter()
        """In a row, by the place among the workers."""
        self._again: list[TrialSpec] = []
        """Trainings for which there was no memory beside others, or whose recorded steps may have ended their worker:
        they begin anew where there is a free slot."""
        self._suspects: list[TrialSpec] = []
        """Trainings whose worker died with several: they begin anew in a worker that takes one at a time, so that
        none takes others with it."""

    @property
    def slots(self) -> int:
        """Of all workers that there are to be."""
        return sum(worker.slots for worker in self._workers) + max(0, self._count - len(self._workers))

    def free(self) -> int:
        """Free slots.

        Raises:
            ExecutorError: if no worker is left.
        """
        if not self._workers:
            raise ExecutorError("every worker died and none could be started again; see the warnings above")
        alone, beside = (sum(w.free() for w in self._workers if (w.slots == 1) is one) for one in (True, False))
        return max(0, beside + max(0, alone - len(self._suspects)) - len(self._again))

    def submit(self, spec: TrialSpec) -> None:
        """Hand the training to the worker with the most free slots, if there are some beside those of suspects."""
        among = [w for w in self._workers if w.slots > 1 and w.free()] if self._suspects else []
        self._hand(max(among or self._workers, key=WorkerProcess.free), spec)

    def _hand(self, worker: WorkerProcess, spec: TrialSpec) -> None:
        worker.specs.append(spec)
        self._watchdog.wait(_waited(worker, spec), spec.purpose, "first")
        with suppress(OSError):  # it died while idle: the next poll finds its pipe at the end and replaces it
            worker.pipe.send(("train", spec))

    def poll(self, timeout_seconds: float) -> list[TrainingEvent]:
        """Messages of the workers, and the deaths among them."""
        events: list[TrainingEvent] = list(self._begin_again())
        busy = {worker.pipe: worker for worker in self._workers if worker.specs}
        for pipe in wait(list(busy), timeout_seconds):
            assert isinstance(pipe, Connection)
            events += self._told(busy[pipe])
        return events + self._hung()

    def _begin_again(self) -> list[TrainingEvent]:
        """Hand out what waits to begin anew; it is lost where no worker is left that may take it."""
        alone = [worker for worker in self._workers if worker.slots == 1]
        for worker in alone:
            if self._suspects and worker.free():
                self._hand(worker, self._suspects.pop(0))
        while self._again and any(worker.free() for worker in self._workers):
            self.submit(self._again.pop(0))
        lost = [] if alone else self._suspects
        if not self._workers:
            lost = [*lost, *self._again]
            self._again = []
        if not alone:
            self._suspects = []
        return [WorkerLost(spec, "its worker died, and none could be started in its place") for spec in lost]

    def _told(self, worker: WorkerProcess) -> list[TrainingEvent]:
        """What a worker's next message says."""
        try:
            told: TrainingEvent | tuple[str, str] = worker.pipe.recv()
        except (EOFError, OSError):
            return self._lost(worker)
        if isinstance(told, tuple):  # "refused" or "broken": it ends, though it had been ready
            return self._lost(worker, str(told[1]))
        self._watchdog.answered(_waited(worker, told.spec))
        self._watchdog.again(_waited(worker, spec) for spec in worker.specs)
        if isinstance(told, Evaluated):
            if told.note:
                self._log(told.note)
            if told.last:
                self._watchdog.wait(_waited(worker, told.spec), told.spec.purpose, "result")
            return [told]
        if isinstance(told, WorkerLost):
            return self._lost(worker, told.reason)
        worker.specs.remove(told.spec)
        crowded = isinstance(told, OutOfMemory) and bool(worker.specs)
        if isinstance(told, OutOfMemory):
            worker.retires = told.reason
            worker.crowded = worker.crowded or crowded
        elif told.result.state == "failed":
            worker.retires = "a training failed in a worker"
        if worker.retires is None:
            self._failures[worker.number] = 0
        elif not worker.specs:
            self._replace(worker, worker.retires)
        if crowded:  # no fault of its own: it is begun again, and tells the same from its start
            self._again.append(told.spec)
            return []
        return [told]

    def _lost(self, worker: WorkerProcess, reason: str | None = None) -> list[TrainingEvent]:
        """Replace a worker; what it trained is lost.

        Of several trainings nobody knows which one ended it: they begin again in a worker that takes one at a time.
        Where recorded steps may have, the training begins again, too, without them.
        """
        specs, several = list(worker.specs), len(worker.specs) > 1
        recorded = self._setup.records(worker)
        worker.shared_its_end, worker.lost = several, True
        reason = self._replace(worker, reason)
        if (several or recorded) and self._workers:
            (self._suspects if several else self._again).extend(specs)
            return []
        return [WorkerLost(spec, reason) for spec in specs]

    def _hung(self) -> list[TrainingEvent]:
        """Deaths of the workers that say nothing any more: they are killed."""
        found: list[TrainingEvent] = []
        for worker in list(self._workers):
            reason = self._watchdog.all_hang(_waited(worker, spec) for spec in worker.specs)
            if reason is not None and not worker.pipe.poll():
                found += self._lost(worker, reason)
        return found

    def answer(self, spec: TrialSpec, answer: Answer) -> None:
        """Tell the worker of this training."""
        for worker in self._workers:
            if spec in worker.specs:
                self._watchdog.wait(_waited(worker, spec), spec.purpose, "next" if answer == "go" else "result")
                with suppress(OSError):  # it died meanwhile: the next poll reports it
                    worker.pipe.send(("answer", spec, answer))

    def _replace(self, worker: WorkerProcess, reason: str | None = None) -> str:
        """Start another in its place; without success the others go on alone. Why it died, or had to."""
        reason = reason or worker.reason()
        for spec in worker.specs:
            self._watchdog.forget(_waited(worker, spec))
        self._workers.remove(worker)
        if not (worker.crowded or worker.shared_its_end):
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


def _waited(worker: WorkerProcess, spec: TrialSpec) -> tuple[WorkerProcess, str, int]:
    """Under which name the watchdog knows a training in a worker."""
    return worker, spec.purpose, spec.number
