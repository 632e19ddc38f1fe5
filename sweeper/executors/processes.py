"""Supervised worker processes: torch is imported in them alone, so that the parent stays small.

On Linux they are forked from a process that loaded the libraries once and did nothing else (multiprocessing's fork
server): the second worker, and one that replaces a dead one, costs no import. Elsewhere each is started anew.

A worker may train several specs at a time: it says how many slots it has, and every message says whose it is. When it
dies, all of them are lost.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cached_property
from multiprocessing.connection import Connection, wait
from pathlib import Path
from statistics import fmean
from typing import Literal

from sweeper.core.errors import ExecutorError, SweeperError
from sweeper.core.events import Answer, Evaluated, Hardware, Layout, OutOfMemory, TrainingEvent, WorkerLost
from sweeper.core.recipe import Precision
from sweeper.core.records import Conditions, TrialSpec
from sweeper.core.text import count
from sweeper.executors.start_process import WorkerDiedError, begin_loading
from sweeper.executors.watchdog import Watchdog
from sweeper.executors.worker_process import Setup, WorkerProcess
from sweeper.system.cores import threads_asked

MAX_WORKERS = 8
FAILURES = 4
"""A place among several workers where so many trainings in a row failed is given up: a GPU may be broken, and
what fails fast would get most of the trainings."""


def _may_have_gpu() -> bool:
    """Whether a driver of one is there; torch alone knows for sure."""
    if sys.platform == "win32":
        return (Path(os.environ.get("SYSTEMROOT", "C:/Windows")) / "System32" / "nvcuda.dll").exists()
    return sys.platform == "darwin" or Path("/proc/driver/nvidia/version").exists() or Path("/dev/kfd").exists()


class ProcessBackend:
    """Worker processes of this machine, which load what they need from the beginning."""

    def __init__(
        self,
        device: str,
        workers: int | None,
        cores: int,
        log: Callable[[str], None],
        watchdog: Watchdog | None = None,
        *,
        slots: int | Literal["auto"] = 1,
        threads: int | None = None,
        say: Callable[[str], None] | None = None,
    ) -> None:
        """`workers` None = as many as pay: one per GPU; on a CPU one thread each (or `threads`, or as OMP_NUM_THREADS
        says), one per core, at most 8, unless `use` says otherwise. `slots` of each; "auto" = as many as are found to
        pay, where a GPU is one worker's alone, else 1. `log` is told of workers that died, `say` what was found of the
        slots (None = `log`)."""
        self._slots, self._say, self._threads = slots, say or log, threads or threads_asked()
        self._asked, self._count, self._cores, self._log = device, workers, cores, log
        self._watchdog = watchdog or Watchdog()
        # Loading torch takes seconds: it begins at once, with as many processes as load for themselves.
        self._method = begin_loading()
        alone = self._method == "spawn"
        self._workers = [self._new() for _ in range(self._count or self._guess())] if alone else []
        """Not configured; the first has told its hardware once it was asked."""
        self._opened: ProcessExecutor | None = None

    def _new(self) -> WorkerProcess:
        return WorkerProcess(self._asked, self._method)

    def _guess(self) -> int:
        """How many workers there will be, should there be no GPU; one where there may be some."""
        gpu = self._asked not in {"auto", "cpu"} or (self._asked == "auto" and _may_have_gpu())
        return 1 if gpu else self._as_many_as_pay()

    def _as_many_as_pay(self) -> int:
        """Workers on a CPU."""
        return max(1, min(self._cores // (self._threads or 1), MAX_WORKERS))

    @cached_property
    def _hardware(self) -> Hardware:
        hardware = self._first("hardware")
        assert isinstance(hardware, Hardware)
        return hardware

    def hardware(self) -> Hardware:
        """Wait for the first worker's report."""
        return self._hardware

    def has_weights(self, encoder: str) -> bool:
        """Ask the first worker: the library that knows is heavy."""
        self.hardware()
        return bool(self._first("weights", encoder))

    def _first(self, kind: str, *order: object) -> object:
        """What the first worker answers before it is configured; another is started once, should it die."""
        self._workers = self._workers or [self._new()]
        for last in (False, True):
            worker = self._workers[0]
            try:
                if order:
                    worker.pipe.send((kind, *order))
                return worker.expect(kind)[1]
            except (WorkerDiedError, OSError):
                if last:
                    raise
                reason = worker.reason()
                worker.end()
                self._log(f"{reason}; starting another")
                self._workers[0] = self._new()
                if order:
                    self._workers[0].expect("hardware")
        raise AssertionError

    @property
    def workers(self) -> int:
        """How many processes there are to be."""
        if self._count is not None:
            return self._count
        return self._hardware.devices if self._hardware.device != "cpu" else self._as_many_as_pay()

    @property
    def threads(self) -> int:
        """Threads of each worker: what the user says, or its share of the cores.

        Not fewer on a machine that is busy just now: sums of floats, and with them every digit of a result, depend on
        how many threads share them.
        """
        return self._threads or max(1, self._cores // self.workers)

    @property
    def layouts(self) -> tuple[Layout, ...]:
        """Half as many workers with twice the threads may be quicker, where two threads share a core."""
        usual = Layout(self.workers, self.threads)
        free = self._hardware.device == "cpu" and self._count is None and self._threads is None
        if not free or usual.workers == 1:
            return (usual,)
        fewer = usual.workers // 2
        return usual, Layout(fewer, self._cores // fewer)

    def use(self, layout: Layout) -> None:
        """Open with so many workers of so many threads."""
        self._count, self._threads = layout

    def step_seconds(
        self, conditions: Conditions, precisions: Sequence[Precision], layout: Layout
    ) -> dict[Precision, float]:
        """The mean of the workers, which take steps at the same time; all are ended where one cannot."""
        while len(self._workers) < layout.workers:
            self._workers.append(self._new())
        timed, found = self._workers[: layout.workers], list[dict[Precision, float]]()
        try:
            for worker in timed:
                if not worker.begun:
                    worker.expect("hardware")
            for worker in timed:
                worker.pipe.send(("time", conditions, precisions, layout.threads))
            for worker in timed:
                _, times = worker.expect("time")
                assert isinstance(times, dict)
                found.append(times)
        except (SweeperError, OSError):  # what is wrong is said where workers are made ready
            for worker in self._workers:
                worker.end()
            self._workers = []
            return {}
        return {p: fmean(times[p] for times in found) for p in precisions} if all(found) else {}

    def open(self, conditions: Conditions, checkpoints: Path) -> ProcessExecutor:
        """Start the other workers and hand the conditions to all."""
        slots = self._slots_of_each()
        setup = Setup(self._new, conditions, checkpoints, self.hardware(), self.threads, self._log, self._say, slots)
        while len(self._workers) > self.workers:
            self._workers.pop().end()
        while len(self._workers) < self.workers:
            self._workers.append(self._new())
        setup.make_ready(self._workers)
        ready, self._workers = self._workers, []
        self._opened = ProcessExecutor(ready, setup, self._log, self._watchdog)
        return self._opened

    def _slots_of_each(self) -> int | None:
        """Of each worker; None = it measures how many pay."""
        if self._slots != "auto":
            return self._slots
        if self._hardware.device == "cuda" and self.workers <= self._hardware.devices:
            return None
        self._say("one training at a time in each worker: --slots auto measures on a GPU of one worker alone")
        return 1

    def close(self) -> None:
        """Kill all workers."""
        for worker in self._workers:
            worker.end()
        self._workers = []
        if self._opened is not None:
            self._opened.close()


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
        if crowded and isinstance(
            told, OutOfMemory
        ):  # no fault of its own: it is begun again, and tells the same from its start
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
