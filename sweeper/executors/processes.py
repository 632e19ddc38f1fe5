"""Supervised worker processes: only they import torch, so that the parent stays small.

On Linux they are forked from a process that only loaded the libraries (multiprocessing's fork server), so that a second
or replacement worker needs no import. Elsewhere each is started from scratch.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cached_property
from multiprocessing.connection import Connection, wait
from pathlib import Path
from statistics import fmean

from sweeper.core.errors import ExecutorError, SweeperError, UsageError
from sweeper.core.events import Reply, TrainingJob, WorkerHardware, WorkerLayout, WorkerLost
from sweeper.core.recipe import Precision
from sweeper.core.records import Conditions, TrialSpec
from sweeper.core.text import format_count
from sweeper.executors.protocol import Watchdog, get_stage
from sweeper.executors.start_process import HINT, LaunchedProcess, Method, WorkerDiedError, begin_loading
from sweeper.system.clocks import get_running_seconds
from sweeper.system.machine import read_requested_threads

FAILURES = 4
"""Failed trainings in a row after which a place among several workers is given up: its GPU may be broken, and a worker
that fails fast would get most of the trainings."""
MAX_WORKERS = 8
REPLACEMENTS = 3
"""Attempts to start a worker in place of a lost one."""
PAUSE_SECONDS = 0.1
"""Pause between attempts: a fork server that was just killed may look alive for a moment."""
START_SECONDS = 240.0
"""Time limit for the start of a worker, in seconds that this process ran."""


class WorkerProcess(LaunchedProcess):
    """The parent's end of one worker process."""

    broken: str | None = None
    """Reason why it cannot be made ready."""

    def __init__(self, device: str, method: Method) -> None:
        super().__init__(_serve_worker, (device,), method)
        self.job: TrainingJob | None = None
        """Its current job."""
        self.holds: TrialSpec | None = None
        """The training that it has in memory."""
        self.number = 0
        """Its place among the workers, which selects its GPU."""

    def send(self, order: object) -> None:
        """Send a request or a job; if the worker died, reading its answer shows that."""
        with suppress(OSError):
            self.pipe.send(order)

    def expect_message(self, kind: str, seconds: float = START_SECONDS) -> tuple[object, ...]:
        """Return the next message, which must be of this kind, within `seconds`; only for start-up."""
        began = get_running_seconds()
        while not (has_message := self.pipe.poll(1.0)) and get_running_seconds() - began < seconds:
            pass
        if not has_message:
            raise SweeperError(f"a worker did not start within {seconds:.0f} s; {HINT}")
        try:
            message: tuple[object, ...] = self.pipe.recv()
        except (EOFError, OSError):
            raise WorkerDiedError(f"a worker died while starting ({self.explain_end()}); {HINT}") from None
        if message[0] == "refused":
            raise UsageError(str(message[1]))
        if message[0] == "broken":
            self.broken = str(message[1])
            raise WorkerDiedError(f"a worker cannot be made ready ({self.broken}); {HINT}")
        assert message[0] == kind
        return message

    def explain_end(self) -> str:
        """Explain how the process ended, or why it is useless."""
        return super().explain_end() if self.broken is None else f"worker cannot be made ready: {self.broken}"


def _serve_worker(pipe: Connection, device: str) -> None:
    from sweeper.training.worker import serve_jobs  # torch is imported here, in the child

    serve_jobs(pipe, device)


class ProcessBackend:
    """Backend of supervised worker processes on this machine, which begin to load the libraries at once; and executor.

    They share the decoded store through the page cache. The job of a worker that dies is lost (`WorkerLost`), and the
    worker is replaced; so is one in which a training failed, as its state is unknown afterwards. If the parent dies,
    the workers end.
    """

    _conditions: Conditions
    _checkpoints: Path
    """Set by `open`, as are the conditions."""

    def __init__(
        self, device: str, workers: int | None, cores: int, log: Callable[[str], None], watchdog: Watchdog | None = None
    ) -> None:
        """Create the backend; its workers start when they are needed.

        `workers` None = one per GPU; on a CPU one per core, or per OMP_NUM_THREADS cores, at most 8.
        `log` receives the deaths of workers.
        """
        self._threads = read_requested_threads()
        self._asked, self._count, self._cores, self._log = device, workers, cores, log
        self._watchdog = watchdog or Watchdog()
        self._method = begin_loading()  # loading torch takes seconds: it begins at once
        self._workers = [self._start_worker()] if self._method == "spawn" else []
        """Unconfigured workers; the first has reported its hardware if that was requested."""
        self._failures: Counter[int] = Counter()
        """Failures in a row, by the place among the workers."""

    def _start_worker(self) -> WorkerProcess:
        return WorkerProcess(self._asked, self._method)

    @cached_property
    def _hardware(self) -> WorkerHardware:
        self._workers = self._workers or [self._start_worker()]
        self._workers[0].send(("hardware",))
        _, hardware = self._workers[0].expect_message("hardware")
        assert isinstance(hardware, WorkerHardware)
        return hardware

    def get_hardware(self) -> WorkerHardware:
        """Return the first worker's report."""
        return self._hardware

    @property
    def workers(self) -> int:
        """Number of processes to run."""
        if self._count is not None:
            return self._count
        if self._hardware.device != "cpu":
            return self._hardware.devices
        return max(1, min(self._cores // (self._threads or 1), MAX_WORKERS))

    @property
    def threads(self) -> int:
        """Threads of each worker: the user's number, or its share of the cores.

        It does not depend on the machine's load: sums of floats, and with them the last digits of results, depend on
        the number of threads.
        """
        return self._threads or max(1, self._cores // self.workers)

    @property
    def layout(self) -> WorkerLayout:
        """Number of workers, and of the threads of each."""
        return WorkerLayout(self.workers, self.threads)

    def measure_step_seconds(self, conditions: Conditions, precisions: Sequence[Precision]) -> dict[Precision, float]:
        """Return the workers' mean step times, measured at the same time; if one fails, end all."""
        self._start_all()
        measured = list[dict[Precision, float]]()
        try:
            for worker in self._workers:
                worker.send(("time", conditions, precisions, self.threads))
            for worker in self._workers:
                _, times = worker.expect_message("time")
                assert isinstance(times, dict)
                measured.append(times)
        except SweeperError:  # the cause is reported when workers are made ready
            self.close()
            return {}
        return {p: fmean(times[p] for times in measured) for p in precisions} if all(measured) else {}

    def open(self, conditions: Conditions, checkpoints: Path) -> ProcessBackend:
        """Start the other workers and configure all with the conditions; replace those that die.

        Raises:
            UsageError: if they refuse the conditions.
            SweeperError: if neither a worker nor its replacements can be made ready.
        """
        self._conditions, self._checkpoints = conditions, checkpoints
        self._start_all()
        for number, worker in enumerate(self._workers):
            self._configure(worker, number)
        for number, worker in enumerate(self._workers):
            try:
                worker.expect_message("ready")
            except WorkerDiedError:
                self._workers[number] = self._start_replacement(worker, worker.explain_end())
        return self

    def _start_all(self) -> None:
        while len(self._workers) < self.workers:
            self._workers.append(self._start_worker())

    def _configure(self, worker: WorkerProcess, number: int) -> None:
        """Give a worker its place among the workers, and the conditions."""
        worker.number, kind = number, self._hardware.device
        place = f"cuda:{number % self._hardware.devices}" if kind == "cuda" else kind
        worker.send(("configure", self._conditions, place, self.threads, self._checkpoints))

    def _start_replacement(self, dead: WorkerProcess, reason: str) -> WorkerProcess:
        """Return a ready worker with the number of a dead one, in up to `REPLACEMENTS` attempts.

        Raises:
            SweeperError: if all attempts fail, or the conditions are refused.
        """
        worker, number = dead, dead.number
        for attempt in range(1, REPLACEMENTS + 1):
            worker.end_process()
            self._log(f"{reason}; starting another")
            try:
                worker = self._start_worker()
                self._configure(worker, number)
                worker.expect_message("ready")
                return worker
            except SweeperError as error:
                worker.end_process()
                if not isinstance(error, WorkerDiedError) or attempt == REPLACEMENTS:
                    raise
                time.sleep(PAUSE_SECONDS)
        raise AssertionError

    def free(self) -> int:
        """Return the number of idle workers.

        Raises:
            ExecutorError: if no worker is left.
        """
        if not self._workers:
            raise ExecutorError("every worker died and none could be started again; see the warnings above")
        return sum(worker.job is None for worker in self._workers)

    def submit(self, job: TrainingJob) -> None:
        """Submit to an idle worker: the one that has the training in memory, else one that has none."""
        idle = [worker for worker in self._workers if worker.job is None]
        worker = min(idle, key=lambda w: (w.holds != job.spec, w.holds is not None))
        worker.job, worker.holds = job, job.spec
        self._watchdog.start_waiting(worker, job.spec.purpose, get_stage(job, self._conditions.recipe))
        worker.send(job)

    def poll(self, timeout_seconds: float) -> list[Reply]:
        """Return the workers' answers, and the losses of those that died or hang."""
        answers: list[Reply] = []
        busy = {worker.pipe: worker for worker in self._workers if worker.job is not None}
        for pipe in wait(list(busy), timeout_seconds):
            assert isinstance(pipe, Connection)
            answers.append(self._read_answer(busy[pipe]))
        return answers + self._find_hung()

    def _read_answer(self, worker: WorkerProcess) -> Reply:
        """Return what a worker's next message says."""
        try:
            answer: Reply | tuple[str, str] = worker.pipe.recv()
        except (EOFError, OSError):
            return self._replace_lost(worker)
        if isinstance(answer, tuple):  # "refused" or "broken": it ends, though it had been ready
            return self._replace_lost(worker, str(answer[1]))
        self._watchdog.stop_waiting(worker)
        if isinstance(answer, WorkerLost):
            return self._replace_lost(worker, answer.reason)
        if answer.note:
            self._log(answer.note)
        if answer.result.state == "failed":
            self._replace(worker, "a training failed in a worker")
            return answer
        worker.job, self._failures[worker.number] = None, 0
        if answer.finished:
            worker.holds = None
        return answer

    def _replace_lost(self, worker: WorkerProcess, reason: str | None = None) -> WorkerLost:
        """Replace a worker; its job is lost."""
        assert worker.job is not None
        return WorkerLost(worker.job.spec, self._replace(worker, reason))

    def _find_hung(self) -> list[Reply]:
        """Kill the workers that hang, and return their losses."""
        answers: list[Reply] = []
        for worker in list(self._workers):
            reason = self._watchdog.explain_hang(worker)
            if reason is not None and not worker.pipe.poll():
                answers.append(self._replace_lost(worker, reason))
        return answers

    def _replace(self, worker: WorkerProcess, reason: str | None = None) -> str:
        """Replace a worker, unless its place failed too often or no other can start; return the reason."""
        reason = reason or worker.explain_end()
        self._watchdog.forget_worker(worker)
        self._workers.remove(worker)
        self._failures[worker.number] += 1
        failures = self._failures[worker.number]
        if self._workers and failures >= FAILURES:
            worker.end_process()
            left = format_count(len(self._workers), "worker")
            self._log(f"{reason}, the last of {failures} failures in a row; continuing with {left}")
            return reason
        try:
            self._workers.append(self._start_replacement(worker, reason))
        except SweeperError as error:
            self._log(f"{error}; continuing with {format_count(len(self._workers), 'worker')}")
        return reason

    def close(self) -> None:
        """Kill all workers."""
        for worker in self._workers:
            worker.end_process()
        self._workers = []
