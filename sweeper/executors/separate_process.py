"""A backend and its executor in another process, whose end or hang does not end the sweep.

Ray's driver ends its process at once, without an exception, when the raylet or the cluster's head is gone. The sweep
must outlive that: it leaves no training running, reports what happened, and can be resumed.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from sweeper.core.errors import ExecutorError, SweeperError, UsageError, get_cause
from sweeper.core.events import Reply, TrainingJob, WorkerHardware, WorkerLayout
from sweeper.core.recipe import Precision
from sweeper.core.records import Conditions
from sweeper.executors.protocol import Backend
from sweeper.executors.start_process import LaunchedProcess
from sweeper.system.clocks import get_running_seconds

START_SECONDS = 900.0
"""Time limit for joining a cluster and starting its first worker."""
CALL_SECONDS = 120.0
"""Time limit for any other call, beyond a call's own timeout."""
CLOSE_SECONDS = 30.0

Make = Callable[[Callable[[str], None]], Backend]
"""Creates the backend; its argument receives the deaths of workers. It must be picklable, as the other process calls
it."""


class SubprocessBackend:
    """A backend in another process, and its executor after `open`.

    Once that process has ended, or did not answer in time, every call but `close` raises.
    """

    def __init__(self, make: Make, log: Callable[[str], None]) -> None:
        """Start the process, and create the backend there.

        Raises:
            UsageError, SweeperError: as `make`.
            ExecutorError: if the process ends, or does not answer in time.
        """
        self._log = log
        self._gone: str | None = None
        self._process = LaunchedProcess(_serve_backend, (make,), "spawn")
        try:
            self._receive_reply(START_SECONDS)
        except BaseException:
            self._process.end_process()
            raise

    def get_hardware(self) -> WorkerHardware:
        """Return the hardware of the machine that the other process trains on."""
        hardware: WorkerHardware = self._call("get_hardware", seconds=START_SECONDS)
        return hardware

    @property
    def layout(self) -> WorkerLayout:
        """Number of workers on that machine, and of the threads of each."""
        layout: WorkerLayout = self._call("layout")
        return layout

    def measure_step_seconds(self, conditions: Conditions, precisions: Sequence[Precision]) -> dict[Precision, float]:
        """Return the seconds of a training step in each precision, measured by the other process."""
        seconds: dict[Precision, float] = self._call(
            "measure_step_seconds", conditions, precisions, seconds=START_SECONDS
        )
        return seconds

    def open(self, conditions: Conditions, checkpoints: Path) -> SubprocessBackend:
        """Open the backend in the other process; this object is its executor from then on."""
        self._call("open", conditions, checkpoints, seconds=START_SECONDS)
        return self

    @property
    def workers(self) -> int:
        """Number of trainings run at a time."""
        return int(self._call("workers"))

    def free(self) -> int:
        """Return how many more trainings can be submitted now."""
        return int(self._call("free"))

    def submit(self, job: TrainingJob) -> None:
        """Submit a job."""
        self._call("submit", job)

    def poll(self, timeout_seconds: float) -> list[Reply]:
        """Return the answers that came within `timeout_seconds`."""
        answers: list[Reply] = self._call("poll", timeout_seconds, seconds=timeout_seconds + CALL_SECONDS)
        return answers

    def close(self) -> None:
        """End everything there, then the process."""
        if self._gone is None:
            with suppress(SweeperError):
                self._call("close", seconds=CLOSE_SECONDS)
            self._gone = "closed"
        self._process.end_process()

    def _call(self, name: str, *arguments: Any, seconds: float = CALL_SECONDS) -> Any:
        """Call `name` of the backend, or of the opened executor, with these arguments.

        Raises:
            UsageError, SweeperError: as there.
            ExecutorError: if the process ends, or does not answer in time.
        """
        if self._gone is not None:
            raise ExecutorError(self._gone)
        with suppress(OSError):  # it has ended, which `_reply` reports
            self._process.pipe.send((name, arguments))
        return self._receive_reply(seconds)

    def _receive_reply(self, seconds: float) -> Any:
        """Return the reply of the process; log messages that come before."""
        began = get_running_seconds()
        while True:
            if not self._process.pipe.poll(1.0):
                if get_running_seconds() - began > seconds:
                    self._process.end_process()
                    self._gone = f"the process that talks to Ray did not answer for {seconds:.0f} s and was ended"
                    raise ExecutorError(self._gone)
                continue
            try:
                kind, value = self._process.pipe.recv()
            except (EOFError, OSError):
                how = self._process.explain_end().removeprefix("worker ")
                self._gone = (
                    f"the process that talks to Ray was lost ({how}): the cluster, or this node's raylet, is gone"
                )
                raise ExecutorError(self._gone) from None
            if kind == "log":
                self._log(value)
            elif kind == "found":
                return value
            else:
                raise value


def _serve_backend(pipe: Connection, make: Make) -> None:
    """Run the process: create the backend, then answer calls until the pipe closes."""
    # Output here must not mix with results; Ray and its processes print to either stream.
    sys.stdout.flush()
    os.dup2(2, 1)
    # The parent handles Ctrl-C and SIGTERM. SIG_IGN would be inherited by the processes started here.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    backend: Backend | None = None

    def call(name: str, arguments: tuple[Any, ...]) -> Any:
        nonlocal backend
        if backend is None:
            backend = make(lambda text: pipe.send(("log", text)))
            return None
        attribute = getattr(backend, name)
        value = attribute(*arguments) if callable(attribute) else attribute
        return None if value is backend else value  # `open` returns the backend itself

    try:
        pipe.send(_answer_call(call, "make", ()))
        while True:
            pipe.send(_answer_call(call, *pipe.recv()))
    except (EOFError, OSError):
        return


def _answer_call(call: Callable[[str, tuple[Any, ...]], Any], name: str, arguments: tuple[Any, ...]) -> tuple[str, Any]:
    """Return a call's result, or its error as text only, so that it can be pickled."""
    try:
        return "found", call(name, arguments)
    except SweeperError as error:
        kind = next(kind for kind in (UsageError, ExecutorError, SweeperError) if isinstance(error, kind))
        return "raised", kind(str(error))
    except Exception as error:
        return "raised", ExecutorError(f"unexpected {type(error).__name__}: {get_cause(error)}")
