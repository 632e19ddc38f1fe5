"""An executor in a process of its own: what ends or hangs that process ends this executor, and not the sweep.

Ray's driver ends its process at once when the raylet or the cluster's head is gone, without an exception. The sweep has
to outlive that: it leaves no training running, says what happened, and can be resumed.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from multiprocessing import parent_process
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from sweeper.core.errors import ExecutorError, SweeperError, UsageError
from sweeper.core.events import Answer, Hardware, TrainingEvent
from sweeper.core.records import Conditions, TrialSpec
from sweeper.executors.protocol import Executor
from sweeper.executors.start_process import Launched
from sweeper.system.clocks import running_seconds

START_SECONDS = 900.0
"""The most that is waited for a cluster to be joined, and for its first worker to come up."""
CALL_SECONDS = 120.0
"""The most that is waited for anything else, beyond the time that a call is given to wait itself."""
CLOSE_SECONDS = 30.0

Make = Callable[[Callable[[str], None]], Executor]
"""Makes the executor, given who is told of workers that died. Called in the process of its own: it can be pickled."""


class ApartExecutor:
    """Hands every call on to an executor in another process.

    Once that process has ended, or did not answer in time, every call but `close` raises.
    """

    def __init__(self, make: Make, log: Callable[[str], None]) -> None:
        """Start the process, and make the executor there.

        Raises:
            UsageError, SweeperError: as `make`.
            ExecutorError: if the process ends, or does not answer in time.
        """
        self._log = log
        self._gone: str | None = None
        self._process = Launched(_serve, (make,), "spawn")
        try:
            self._reply(START_SECONDS)
        except BaseException:
            self._process.end()
            raise

    def hardware(self) -> Hardware:
        """As there."""
        found = self._call("hardware", seconds=START_SECONDS)
        assert isinstance(found, Hardware)
        return found

    def has_weights(self, encoder: str) -> bool:
        """As there."""
        return bool(self._call("has_weights", encoder, seconds=START_SECONDS))

    def configure(self, conditions: Conditions, checkpoints: Path) -> None:
        """As there."""
        self._call("configure", conditions, checkpoints, seconds=START_SECONDS)

    @property
    def workers(self) -> int:
        """As there."""
        return int(self._call("workers"))

    def free(self) -> int:
        """As there."""
        return int(self._call("free"))

    def submit(self, spec: TrialSpec) -> None:
        """As there."""
        self._call("submit", spec)

    def poll(self, timeout_seconds: float) -> list[TrainingEvent]:
        """As there."""
        events: list[TrainingEvent] = self._call("poll", timeout_seconds, seconds=timeout_seconds + CALL_SECONDS)
        return events

    def answer(self, spec: TrialSpec, answer: Answer) -> None:
        """As there."""
        self._call("answer", spec, answer)

    def close(self) -> None:
        """End everything there, then the process."""
        if self._gone is None:
            with suppress(SweeperError):
                self._call("close", seconds=CLOSE_SECONDS)
            self._gone = "closed"
        self._process.end()

    def _call(self, name: str, *arguments: Any, seconds: float = CALL_SECONDS) -> Any:
        if self._gone is not None:
            raise ExecutorError(self._gone)
        with suppress(OSError):  # it ended: the reply says so
            self._process.pipe.send((name, arguments))
        return self._reply(seconds)

    def _reply(self, seconds: float) -> Any:
        """What the process answers; meanwhile it may have something to say."""
        began = running_seconds()
        while True:
            if not self._process.pipe.poll(1.0):
                if running_seconds() - began > seconds:
                    self._process.end()
                    self._gone = f"the process that talks to Ray did not answer for {seconds:.0f} s and was ended"
                    raise ExecutorError(self._gone)
                continue
            try:
                kind, found = self._process.pipe.recv()
            except (EOFError, OSError):
                how = self._process.reason().removeprefix("worker ")
                self._gone = (
                    f"the process that talks to Ray was lost ({how}): the cluster, or this node's raylet, is gone"
                )
                raise ExecutorError(self._gone) from None
            if kind == "log":
                self._log(found)
            elif kind == "found":
                return found
            else:
                raise {"usage": UsageError, "executor": ExecutorError, "other": SweeperError}[kind](found)


def _serve(pipe: Connection, make: Make) -> None:
    """Entry point of the process: makes the executor, then does what it is called for until the pipe closes."""
    # What is printed here is no result; Ray and its processes print to either stream.
    sys.stdout.flush()
    os.dup2(2, 1)
    # The parent decides what Ctrl-C and SIGTERM end. Not ignored, which the processes started here would inherit.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    _end_with_parent()
    executor: Executor | None = None

    def call(name: str, arguments: tuple[Any, ...]) -> Any:
        nonlocal executor
        if executor is None:
            executor = make(lambda text: pipe.send(("log", text)))
            return None
        found = getattr(executor, name)
        return found(*arguments) if callable(found) else found

    try:
        pipe.send(_answered(call, "make", ()))
        while True:
            pipe.send(_answered(call, *pipe.recv()))
    except (EOFError, OSError):
        return


def _answered(call: Callable[[str, tuple[Any, ...]], Any], name: str, arguments: tuple[Any, ...]) -> tuple[str, Any]:
    """What a call found, or what it raised: exceptions cross no pipe."""
    try:
        return "found", call(name, arguments)
    except UsageError as error:
        return "usage", str(error)
    except ExecutorError as error:
        return "executor", str(error)
    except SweeperError as error:
        return "other", str(error)
    except (EOFError, OSError) as error:
        return "executor", f"{type(error).__name__}: {error}"
    except Exception as error:
        return "executor", f"unexpected {type(error).__name__}: {' '.join(str(error).split())[:300]}"


def _end_with_parent() -> None:
    parent = parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True, name="parent-watch").start()
