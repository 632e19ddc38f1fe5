"""The parent's end of one worker process: how it is started, made ready and replaced."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from sweeper.core.errors import SweeperError, UsageError
from sweeper.core.events import TrainingJob, WorkerHardware
from sweeper.core.records import Conditions, TrialSpec
from sweeper.executors.protocol import estimate_compile_seconds
from sweeper.executors.start_process import LaunchedProcess, Method, WorkerDiedError
from sweeper.system.clocks import get_running_seconds
from sweeper.system.system_errors import explain_memory_limit

START_SECONDS = 240.0
"""Time limit for the start of a worker, in seconds that this process ran."""
REPLACEMENTS = 3
"""Attempts to start a worker in place of a lost one."""
PAUSE_SECONDS = 0.1
"""Pause between attempts: a fork server that was just killed may look alive for a moment."""


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

    def send_request(self, *order: object) -> None:
        """Send a request; if the worker died, `expect_message` notices."""
        with suppress(OSError):
            self.pipe.send(order)

    def expect_message(self, kind: str, seconds: float = START_SECONDS) -> tuple[object, ...]:
        """Return the next message, which must be of this kind, within `seconds`; only for start-up."""
        began = get_running_seconds()
        while not (has_message := self.pipe.poll(1.0)) and get_running_seconds() - began < seconds:
            pass
        if not has_message:
            raise SweeperError(
                f"a worker did not start within {seconds:.0f} s; {explain_memory_limit() or 'try --executor inline'}"
            )
        try:
            message: tuple[object, ...] = self.pipe.recv()
        except (EOFError, OSError):
            advice = explain_memory_limit() or "try --executor inline"
            words = f"a worker died while starting ({self.explain_end()}); {advice}"
            raise WorkerDiedError(words) from None
        if message[0] == "refused":
            raise UsageError(str(message[1]))
        if message[0] == "broken":
            self.broken = str(message[1])
            raise WorkerDiedError(
                f"a worker cannot be made ready ({self.broken}); {explain_memory_limit() or 'try fewer --workers'}"
            )
        assert message[0] == kind
        return message

    def explain_end(self) -> str:
        """Explain how the process ended, or why it is useless."""
        return super().explain_end() if self.broken is None else f"worker cannot be made ready: {self.broken}"


def _serve_worker(pipe: Connection, device: str) -> None:
    from sweeper.training.worker import serve_jobs  # torch is imported here, in the child

    serve_jobs(pipe, device)


@dataclass(frozen=True)
class WorkerSetup:
    """How a worker is created, and what it receives before its first training."""

    new: Callable[[], WorkerProcess]
    conditions: Conditions
    checkpoints: Path
    hardware: WorkerHardware
    threads: int
    log: Callable[[str], None]
    """Receiver of the deaths of workers."""

    def make_ready(self, workers: list[WorkerProcess]) -> None:
        """Configure workers; replace those in the list that die.

        Raises:
            UsageError: if they refuse the conditions.
            SweeperError: if neither a worker nor its replacements can be made ready.
        """
        for number, worker in enumerate(workers):
            worker.number = number
            self._configure(worker)
        for number, worker in enumerate(workers):
            try:
                worker.expect_message("ready", self._ready_seconds)
            except WorkerDiedError:
                workers[number] = self.replace_worker(worker, worker.explain_end())

    def replace_worker(self, dead: WorkerProcess, reason: str) -> WorkerProcess:
        """Return a ready worker with the number of a dead one, in up to `REPLACEMENTS` attempts.

        Raises:
            SweeperError: if all attempts fail, or the conditions are refused.
        """
        worker, number = dead, dead.number
        for attempt in range(1, REPLACEMENTS + 1):
            worker.end_process()
            compiling = ", which compiles the network first" if self.conditions.recipe.compiled else ""
            self.log(f"{reason}; starting another{compiling}")
            try:
                worker = self.new()
                worker.number = number
                self._configure(worker)
                worker.expect_message("ready", self._ready_seconds)
                return worker
            except SweeperError as error:
                worker.end_process()
                if not isinstance(error, WorkerDiedError) or attempt == REPLACEMENTS:
                    raise
                time.sleep(PAUSE_SECONDS)
        raise AssertionError

    @property
    def _ready_seconds(self) -> float:
        return START_SECONDS + estimate_compile_seconds(self.conditions)

    def _configure(self, worker: WorkerProcess) -> None:
        kind = self.hardware.device
        place = f"cuda:{worker.number % self.hardware.devices}" if kind == "cuda" else kind
        worker.send_request("configure", self.conditions, place, self.threads, self.checkpoints)
