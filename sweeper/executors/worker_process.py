"""The parent's end of one worker process: requests to it, and its answers while it starts."""

from __future__ import annotations

from contextlib import suppress
from multiprocessing.connection import Connection

from sweeper.core.errors import SweeperError, UsageError
from sweeper.core.events import TrainingJob
from sweeper.core.records import TrialSpec
from sweeper.executors.start_process import LaunchedProcess, Method, WorkerDiedError
from sweeper.system.clocks import get_running_seconds
from sweeper.system.system_errors import explain_memory_limit

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
