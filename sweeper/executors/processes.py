"""Supervised worker processes: torch is imported in them alone, so that the parent stays small.

On Linux they are forked from a process that loaded the libraries once and did nothing else (multiprocessing's fork
server): the second worker, and one that replaces a dead one, costs no import. Elsewhere each is started anew.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
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
        self.spec: TrialSpec | None = None
        self.number = 0
        """Its place among the workers; with several GPUs it says which one."""

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

    def reason(self) -> str:
        """How the process ended, or why it is of no use, for people."""
        return super().reason() if self.broken is None else f"worker cannot be made ready: {self.broken}"


def _serve(pipe: Connection, device: str) -> None:
    from sweeper.training.worker import serve  # torch is imported here, in the child

    serve(pipe, device)


def _may_have_gpu() -> bool:
    """Whether a driver of one is loaded; torch alone knows for sure."""
    return sys.platform == "darwin" or Path("/proc/driver/nvidia/version").exists() or Path("/dev/kfd").exists()


class ProcessExecutor:
    """Supervised worker processes that share the decoded store through the page cache.

    A worker that dies costs its training (`WorkerLost`) and is replaced; the parent's death ends the workers. One
    in which a training failed is replaced, too: what a failure leaves behind in a process is unknown.
    """

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
        self._failures: Counter[int] = Counter()
        """In a row, by the place among the workers."""

    def _new(self) -> _Worker:
        return _Worker(self._asked, self._method)

    def _guess(self) -> int:
        """How many workers there will be, should there be no GPU; one where there may be some."""
        gpu = self._asked not in {"auto", "cpu"} or (self._asked == "auto" and _may_have_gpu())
        return 1 if gpu else self._as_many_as_pay()

    def _as_many_as_pay(self) -> int:
        """Workers on a CPU."""
        return max(1, min(self._cores // (threads_asked() or 1), MAX_WORKERS))

    def hardware(self) -> Hardware:
        """Wait for the first worker's report."""
        hardware = self._first("hardware")
        assert isinstance(hardware, Hardware)
        self._hardware = hardware
        if self._count is None:
            self._count = self._hardware.devices if self._hardware.device != "cpu" else self._as_many_as_pay()
        return self._hardware

    def has_weights(self, encoder: str) -> bool:
        """Ask the first worker: the library that knows is heavy."""
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
                self._workers[0] = self._another(worker, worker.reason())
                if order:
                    self._workers[0].expect("hardware")
        raise AssertionError

    def _another(self, worker: _Worker, reason: str) -> _Worker:
        worker.end()
        self._log(f"{reason}; starting another")
        return self._new()

    @property
    def workers(self) -> int:
        """How many worker processes there are to be."""
        return self._count or 1

    @property
    def threads(self) -> int:
        """Threads of each worker: what the user says by OMP_NUM_THREADS, or its share of the cores.

        Not fewer on a machine that is busy just now: sums of floats, and with them every digit of a result, depend on
        how many threads share them.
        """
        return threads_asked() or max(1, self._cores // self.workers)

    def configure(self, conditions: Conditions, checkpoints: Path) -> None:
        """Start the other workers and hand the conditions to all."""
        self._conditions, self._checkpoints = conditions, checkpoints
        self._workers += [self._new() for _ in range(self.workers - len(self._workers))]
        while len(self._workers) > self.workers:
            self._workers.pop().end()
        for number, worker in enumerate(self._workers):
            worker.number = number
            self._send_conditions(worker)
        for number, worker in enumerate(self._workers):
            try:
                if number > 0:
                    worker.expect("hardware")
                worker.expect("ready")
            except WorkerDiedError:
                self._workers[number] = self._in_place_of(worker, worker.reason())

    def _in_place_of(self, dead: _Worker, reason: str) -> _Worker:
        """A worker that is ready, with the number of one that died; one that dies while it starts is tried again."""
        for attempt in range(1, REPLACEMENTS + 1):
            worker = self._another(dead, reason)
            worker.number = dead.number
            try:
                worker.expect("hardware")
                self._send_conditions(worker)
                worker.expect("ready")
                return worker
            except WorkerDiedError:
                worker.end()
                if attempt == REPLACEMENTS:
                    raise
            except SweeperError:
                worker.end()
                raise
        raise AssertionError

    def _send_conditions(self, worker: _Worker) -> None:
        kind = self._hardware.device
        place = f"cuda:{worker.number % self._hardware.devices}" if kind == "cuda" else kind
        with suppress(OSError):  # it died: found out when its answer is expected
            worker.pipe.send(("configure", self._conditions, place, self.threads, self._checkpoints))

    def free(self) -> int:
        """Idle workers.

        Raises:
            ExecutorError: if no worker is left.
        """
        if not self._workers:
            raise ExecutorError("every worker died and none could be started again; see the warnings above")
        return sum(worker.spec is None for worker in self._workers)

    def submit(self, spec: TrialSpec) -> None:
        """Hand the training to the first idle worker."""
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
            worker = busy[pipe]
            spec = worker.spec
            assert spec is not None
            self._watchdog.answered(worker)
            try:
                told: TrainingEvent | tuple[str, str] = pipe.recv()
            except (EOFError, OSError):
                events.append(WorkerLost(spec, self._replace(worker)))
                continue
            if isinstance(told, tuple):  # "refused" or "broken": it ends, though it had been ready
                events.append(WorkerLost(spec, self._replace(worker, str(told[1]))))
                continue
            if isinstance(told, OutOfMemory | WorkerLost):
                self._replace(worker, told.reason)
                events.append(told)
                continue
            if isinstance(told, Evaluated):
                if told.note:
                    self._log(told.note)
                if told.last:
                    self._watchdog.wait(worker, spec.purpose, "result")
                events.append(told)
                continue
            worker.spec = None
            events.append(told)
            if told.result.state == "failed":
                self._replace(worker, "a training failed in a worker")
            else:
                self._failures[worker.number] = 0
        return events + self._hung()

    def _hung(self) -> list[TrainingEvent]:
        """Deaths of the workers that say nothing any more: they are killed."""
        found: list[TrainingEvent] = []
        for worker in [w for w in self._workers if w.spec is not None]:
            reason = self._watchdog.hangs(worker)
            if reason is not None and worker.spec is not None and not worker.pipe.poll():
                found.append(WorkerLost(worker.spec, self._replace(worker, reason)))
        return found

    def answer(self, spec: TrialSpec, answer: Answer) -> None:
        """Tell the worker of this training."""
        for worker in self._workers:
            if worker.spec == spec:
                self._watchdog.wait(worker, spec.purpose, "next" if answer == "go" else "result")
                with suppress(OSError):  # it died meanwhile: the next poll reports it
                    worker.pipe.send(answer)

    def _replace(self, worker: _Worker, reason: str | None = None) -> str:
        """Start another in its place; without success the others go on alone. Why it died, or had to."""
        reason = reason or worker.reason()
        self._watchdog.forget(worker)
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
