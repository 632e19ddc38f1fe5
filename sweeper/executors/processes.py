"""Supervised worker processes: torch is imported in them alone, so that the parent stays small.

On Linux they are forked from a process that loaded the libraries once and did nothing else (multiprocessing's fork
server): the second worker, and one that replaces a dead one, costs no import. Elsewhere each is started anew.

A worker may train several specs at a time: it says how many slots it has, and every message says whose it is. When it
dies, all of them are lost.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from multiprocessing.connection import Connection, wait
from pathlib import Path

from sweeper.core.errors import ExecutorError, SweeperError, UsageError
from sweeper.core.events import Answer, Evaluated, Hardware, OutOfMemory, TrainingEvent, WorkerLost
from sweeper.core.records import Conditions, TrialSpec
from sweeper.executors.start_process import Launched, Method, WorkerDiedError, begin_loading
from sweeper.executors.watchdog import Watchdog
from sweeper.system.clocks import running_seconds
from sweeper.system.cores import threads_asked

START_SECONDS = 120.0
"""A worker that has not begun by then is given up; seconds that this process ran."""
MAX_WORKERS = 8
REPLACEMENTS = 3
"""A worker that dies while it starts in place of another is tried again this often in all."""
FAILURES = 4
"""A place among several workers where so many trainings in a row failed is given up: a GPU may be broken, and
what fails fast would get most of the trainings."""


class _Worker(Launched):
    """The parent's end of one worker process."""

    broken: str | None = None
    """Why it says that it cannot be made ready."""

    def __init__(self, device: str, method: Method) -> None:
        super().__init__(_serve, (device,), method)
        self.specs: list[TrialSpec] = []
        """What it trains."""
        self.slots = 1
        self.retires: str | None = None
        """Why it gets no more trainings, and is replaced once those that it has are done."""
        self.number = 0
        """Its place among the workers; with several GPUs it says which one."""

    def free(self) -> int:
        """How many more trainings it takes."""
        return 0 if self.retires is not None else self.slots - len(self.specs)

    def expect(self, kind: str) -> tuple[object, ...]:
        """The next message, which must be of this kind; for start-up only."""
        began = running_seconds()
        while not (found := self.pipe.poll(1.0)) and running_seconds() - began < START_SECONDS:
            pass
        if not found:
            raise SweeperError(f"a worker did not start within {START_SECONDS:.0f} s; try --executor inline")
        try:
            message: tuple[object, ...] = self.pipe.recv()
        except (EOFError, OSError):
            raise WorkerDiedError(f"a worker died while starting ({self.reason()}); try --executor inline") from None
        if message[0] == "refused":
            raise UsageError(str(message[1]))
        if message[0] == "broken":
            self.broken = str(message[1])
            raise WorkerDiedError(f"a worker cannot be made ready ({self.broken}); try fewer --workers")
        if message[0] != kind:
            raise SweeperError(f"a worker said {message[0]!r} where {kind!r} was expected")
        return message

    def expect_ready(self) -> None:
        """Wait until it can train, and note its slots."""
        slots = self.expect("ready")[1]
        assert isinstance(slots, int)
        self.slots = slots

    def reason(self) -> str:
        """How the process ended, or why it is of no use, for people."""
        return super().reason() if self.broken is None else f"worker cannot be made ready: {self.broken}"


def _serve(pipe: Connection, device: str) -> None:
    from sweeper.training.worker import serve  # torch is imported here, in the child

    serve(pipe, device)


def _may_have_gpu() -> bool:
    """Whether a driver of one is loaded; torch alone knows for sure."""
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
    ) -> None:
        """`workers` None = as many as pay: one per GPU; on a CPU one thread each (or as OMP_NUM_THREADS says),
        one per core, at most 8."""
        self._asked, self._count, self._cores, self._log = device, workers, cores, log
        self._watchdog = watchdog or Watchdog()
        # Loading torch takes seconds: it begins at once, with as many processes as load for themselves.
        self._method = begin_loading()
        alone = self._method == "spawn"
        self._workers = [self._new() for _ in range(self._count or self._guess())] if alone else []
        """Not configured; the first has told its hardware once it was asked."""
        self._opened: ProcessExecutor | None = None

    def _new(self) -> _Worker:
        return _Worker(self._asked, self._method)

    def _guess(self) -> int:
        """How many workers there will be, should there be no GPU; one where there may be some."""
        gpu = self._asked not in {"auto", "cpu"} or (self._asked == "auto" and _may_have_gpu())
        return 1 if gpu else self._as_many_as_pay()

    def _as_many_as_pay(self) -> int:
        """Workers on a CPU."""
        return max(1, min(self._cores // (threads_asked() or 1), MAX_WORKERS))

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
        """Threads of each worker: what the user says by OMP_NUM_THREADS, or its share of the cores.

        Not fewer on a machine that is busy just now: sums of floats, and with them every digit of a result, depend on
        how many threads share them.
        """
        return threads_asked() or max(1, self._cores // self.workers)

    def open(self, conditions: Conditions, checkpoints: Path) -> ProcessExecutor:
        """Start the other workers and hand the conditions to all."""
        setup = _Setup(self._new, conditions, checkpoints, self.hardware(), self.threads)
        team = [*self._workers, *(self._new() for _ in range(self.workers - len(self._workers)))]
        self._workers = []
        while len(team) > self.workers:
            team.pop().end()
        self._opened = ProcessExecutor(team, setup, self._log, self._watchdog)
        self._opened.make_ready()
        return self._opened

    def close(self) -> None:
        """Kill all workers."""
        for worker in self._workers:
            worker.end()
        self._workers = []
        if self._opened is not None:
            self._opened.close()


@dataclass(frozen=True)
class _Setup:
    """How a worker is made and what it is told before its first training."""

    new: Callable[[], _Worker]
    conditions: Conditions
    checkpoints: Path
    hardware: Hardware
    threads: int

    def configure(self, worker: _Worker) -> None:
        """Hand the conditions to it."""
        kind = self.hardware.device
        place = f"cuda:{worker.number % self.hardware.devices}" if kind == "cuda" else kind
        with suppress(OSError):  # it died: found out when its answer is expected
            worker.pipe.send(("configure", self.conditions, place, self.threads, self.checkpoints))


class ProcessExecutor:
    """Supervised worker processes that share the decoded store through the page cache.

    A worker that dies costs its trainings (`WorkerLost`) and is replaced; the parent's death ends the workers. One
    in which a training failed is replaced, too, once its other trainings are done: what a failure leaves behind in a
    process is unknown.
    """

    def __init__(self, workers: list[_Worker], setup: _Setup, log: Callable[[str], None], watchdog: Watchdog) -> None:
        """Made by `ProcessBackend.open`; of the workers the first alone has told its hardware."""
        self._workers, self._setup, self._log, self._watchdog = workers, setup, log, watchdog
        self._count = len(workers)
        self._failures: Counter[int] = Counter()
        """In a row, by the place among the workers."""

    def make_ready(self) -> None:
        """Configure the workers.

        Raises:
            UsageError: if they refuse the conditions.
            SweeperError: if one cannot be made ready, and none in its place.
        """
        for number, worker in enumerate(self._workers):
            worker.number = number
            self._setup.configure(worker)
        for number, worker in enumerate(self._workers):
            try:
                if number > 0:
                    worker.expect("hardware")
                worker.expect_ready()
            except WorkerDiedError:
                self._workers[number] = self._in_place_of(worker, worker.reason())

    def _in_place_of(self, dead: _Worker, reason: str) -> _Worker:
        """A worker that is ready, with the number of one that died; one that dies while it starts is tried again."""
        for attempt in range(1, REPLACEMENTS + 1):
            dead.end()
            self._log(f"{reason}; starting another")
            worker = self._setup.new()
            worker.number = dead.number
            try:
                worker.expect("hardware")
                self._setup.configure(worker)
                worker.expect_ready()
                return worker
            except WorkerDiedError:
                worker.end()
                if attempt == REPLACEMENTS:
                    raise
            except SweeperError:
                worker.end()
                raise
        raise AssertionError

    @property
    def slots(self) -> int:
        """Of all workers that there are to be."""
        return self._count * max((worker.slots for worker in self._workers), default=1)

    def free(self) -> int:
        """Free slots.

        Raises:
            ExecutorError: if no worker is left.
        """
        if not self._workers:
            raise ExecutorError("every worker died and none could be started again; see the warnings above")
        return sum(worker.free() for worker in self._workers)

    def submit(self, spec: TrialSpec) -> None:
        """Hand the training to the worker with the most free slots."""
        worker = max(self._workers, key=_Worker.free)
        worker.specs.append(spec)
        self._watchdog.wait(_waited(worker, spec), spec.purpose, "first")
        with suppress(OSError):  # it died while idle: the next poll finds its pipe at the end and replaces it
            worker.pipe.send(("train", spec))

    def poll(self, timeout_seconds: float) -> list[TrainingEvent]:
        """Messages of the workers, and the deaths among them."""
        events: list[TrainingEvent] = []
        busy = {worker.pipe: worker for worker in self._workers if worker.specs}
        for pipe in wait(list(busy), timeout_seconds):
            assert isinstance(pipe, Connection)
            events += self._told(busy[pipe])
        return events + self._hung()

    def _told(self, worker: _Worker) -> list[TrainingEvent]:
        """What a worker's next message says."""
        try:
            told: TrainingEvent | tuple[str, str] = worker.pipe.recv()
        except (EOFError, OSError):
            return self._lost(worker)
        if isinstance(told, tuple):  # "refused" or "broken": it ends, though it had been ready
            return self._lost(worker, str(told[1]))
        self._watchdog.answered(_waited(worker, told.spec))
        if isinstance(told, Evaluated):
            if told.note:
                self._log(told.note)
            if told.last:
                self._watchdog.wait(_waited(worker, told.spec), told.spec.purpose, "result")
            return [told]
        worker.specs.remove(told.spec)
        if isinstance(told, WorkerLost):
            return [told, *self._lost(worker, told.reason)]
        if isinstance(told, OutOfMemory):
            worker.retires = told.reason
        elif told.result.state == "failed":
            worker.retires = "a training failed in a worker"
        if worker.retires is None:
            self._failures[worker.number] = 0
        elif not worker.specs:
            self._replace(worker, worker.retires)
        return [told]

    def _lost(self, worker: _Worker, reason: str | None = None) -> list[TrainingEvent]:
        """Replace a worker; what it trained is lost."""
        specs, reason = list(worker.specs), self._replace(worker, reason)
        return [WorkerLost(spec, reason) for spec in specs]

    def _hung(self) -> list[TrainingEvent]:
        """Deaths of the workers that say nothing any more: they are killed."""
        found: list[TrainingEvent] = []
        for worker in list(self._workers):
            reasons = [self._watchdog.hangs(_waited(worker, spec)) for spec in worker.specs]
            reason = next((reason for reason in reasons if reason is not None), None)
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

    def _replace(self, worker: _Worker, reason: str | None = None) -> str:
        """Start another in its place; without success the others go on alone. Why it died, or had to."""
        reason = reason or worker.reason()
        for spec in worker.specs:
            self._watchdog.forget(_waited(worker, spec))
        self._workers.remove(worker)
        self._failures[worker.number] += 1
        if self._workers and (failures := self._failures[worker.number]) >= FAILURES:
            worker.end()
            self._log(
                f"{reason}, the last of {failures} failures in a row; going on with {len(self._workers)} worker(s)"
            )
            return reason
        try:
            self._workers.append(self._in_place_of(worker, reason))
        except SweeperError as error:
            self._log(f"{error}; going on with {len(self._workers)} worker(s)")
        return reason

    def close(self) -> None:
        """Kill all workers."""
        for worker in self._workers:
            worker.end()
        self._workers = []


def _waited(worker: _Worker, spec: TrialSpec) -> tuple[_Worker, str, int]:
    """Under which name the watchdog knows a training in a worker."""
    return worker, spec.purpose, spec.number
