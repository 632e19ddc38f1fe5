"""A backend and its executor in a process of their own: what ends or hangs that process does not end the sweep.

Ray's driver ends its process at once when the raylet or the cluster's head is gone, without an exception. The sweep has
to outlive that: it leaves no training running, says what happened, and can be resumed.
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

from sweeper.core.errors import ExecutorError, SweeperError, UsageError
from sweeper.core.events import Answer, TrainingJob, WorkerHardware, WorkerLayout
from sweeper.core.recipe import Precision
from sweeper.core.records import Conditions
from sweeper.executors.protocol import Backend, Executor, estimate_compile_seconds
from sweeper.executors.start_process import LaunchedProcess
from sweeper.system.clocks import get_running_seconds

START_SECONDS = 900.0
"""The most that is waited for a cluster to be joined, and for its first worker to come up."""
CALL_SECONDS = 120.0
"""The most that is waited for anything else, beyond the time that a call is given to wait itself."""
CLOSE_SECONDS = 30.0

Make = Callable[[Callable[[str], None]], Backend]
"""Makes the backend, given the receiver of workers' deaths. Called in its own process, so that it can be pickled."""


class SubprocessBackend:
    """A backend in another process, and the executor that it is opened to.

    Once that process has ended, or did not answer in time, every call but `close` raises.
    """

    def __init__(self, make: Make, log: Callable[[str], None]) -> None:
        """Start the process, and make the backend there.

        Raises:
            UsageError, SweeperError: as `make`.
            ExecutorError: if the process ends, or does not answer in time.
        """
        self._log = log
        self._gone: str | None = None
        self._process = LaunchedProcess(_serve_backend, (make,), "spawn")
        try:
            self._reply(START_SECONDS)
        except BaseException:
            self._process.end_process()
            raise

    def hardware(self) -> WorkerHardware:
        """Return the hardware of the machine that the other process trains on."""
        reply = self._call("hardware", seconds=START_SECONDS)
        assert isinstance(reply, WorkerHardware)
        return reply

    @property
    def layout(self) -> WorkerLayout:
        """Division of that machine among trainings."""
        layout: WorkerLayout = self._call("layout")
        return layout

    def step_seconds(self, conditions: Conditions, precisions: Sequence[Precision]) -> dict[Precision, float]:
        """Return the seconds of a training step in each precision, measured by the other process."""
        seconds: dict[Precision, float] = self._call("step_seconds", conditions, precisions, seconds=START_SECONDS)
        return seconds

    def open(self, conditions: Conditions, checkpoints: Path) -> SubprocessBackend:
        """Let the other process begin to execute; this object is its executor from then on."""
        self._call("open", conditions, checkpoints, seconds=START_SECONDS + estimate_compile_seconds(conditions))
        return self

    @property
    def workers(self) -> int:
        """Trainings that it makes at the same time."""
        return int(self._call("workers"))

    def free(self) -> int:
        """Return how many more jobs it takes now."""
        return int(self._call("free"))

    def submit(self, job: TrainingJob) -> None:
        """Hand it a job."""
        self._call("submit", job)

    def poll(self, timeout_seconds: float) -> list[Answer]:
        """Answers that came within `timeout_seconds`."""
        answers: list[Answer] = self._call("poll", timeout_seconds, seconds=timeout_seconds + CALL_SECONDS)
        return answers

    def close(self) -> None:
        """End everything there, then the process."""
        if self._gone is None:
            with suppress(SweeperError):
                self._call("close", seconds=CLOSE_SECONDS)
            self._gone = "closed"
        self._process.end_process()

    def _call(self, name: str, *arguments: Any, seconds: float = CALL_SECONDS) -> Any:
        """Return what `name` of the backend, or of the opened executor, returns for these arguments.

        Raises:
            UsageError, SweeperError: as there.
            ExecutorError: if the process ends, or does not answer in time.
        """
        if self._gone is not None:
            raise ExecutorError(self._gone)
        with suppress(OSError):  # it ended: the reply says so
            self._process.pipe.send((name, arguments))
        return self._reply(seconds)

    def _reply(self, seconds: float) -> Any:
        """Return what the process answers; meanwhile it may have messages."""
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
    """Entry point of the process: makes the backend, then does what it is called for until the pipe closes."""
    # What is printed here is no result; Ray and its processes print to either stream.
    sys.stdout.flush()
    os.dup2(2, 1)
    # The parent decides what Ctrl-C and SIGTERM end. Not ignored, which the processes started here would inherit.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    backend: Backend | None = None
    executor: Executor | None = None

    def call(name: str, arguments: tuple[Any, ...]) -> Any:
        nonlocal backend, executor
        if backend is None:
            backend = make(lambda text: pipe.send(("log", text)))
            return None
        if name == "open":
            executor = backend.open(*arguments)
            return None
        attribute = getattr(backend if executor is None or name == "close" else executor, name)
        return attribute(*arguments) if callable(attribute) else attribute

    try:
        pipe.send(_answer_call(call, "make", ()))
        while True:
            pipe.send(_answer_call(call, *pipe.recv()))
    except (EOFError, OSError):
        return


def _answer_call(call: Callable[[str, tuple[Any, ...]], Any], name: str, arguments: tuple[Any, ...]) -> tuple[str, Any]:
    """Return a call's result, or its error made of text only, so that it can be sent."""
    try:
        return "found", call(name, arguments)
    except SweeperError as error:
        kind = next(kind for kind in (UsageError, ExecutorError, SweeperError) if isinstance(error, kind))
        return "raised", kind(str(error))
    except Exception as error:
        return "raised", ExecutorError(f"unexpected {type(error).__name__}: {' '.join(str(error).split())[:300]}")
