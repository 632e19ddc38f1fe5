"""How a worker process is started and ended, also where the process that workers are forked from is gone.

On Linux workers are forked from one process that loaded the libraries (multiprocessing's fork server). It may be killed
as any other process, alone or with its workers: the next start begins it anew, and what it alone knew is done without.
"""

from __future__ import annotations

import multiprocessing
import os
import select
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from types import ModuleType
from typing import Any, Literal

from sweeper.core.errors import SweeperError
from sweeper.system.cores import waiting_quietly
from sweeper.system.system_errors import memory_limit

PRELOAD = "sweeper.training.preload"
END_SECONDS = 5.0
"""How long the end of a process that was killed is waited for."""
SIGNALS = {
    4: "illegal instruction",
    6: "aborted",
    7: "bus error: shared memory or the disk may be full",
    8: "arithmetic error",
    9: "out of memory?",
    11: "segmentation fault",
}
"""What a signal says about the end of a worker that nobody killed on purpose."""
UNKNOWN = 255
"""What multiprocessing takes for the status of a process when its fork server is gone; no worker ends with it."""

Method = Literal["forkserver", "spawn"]  # never fork: it would copy locks and CUDA's state


class WorkerDiedError(SweeperError):
    """A worker ended before it was ready."""


def begin_loading() -> Method:
    """Have the libraries of the workers loaded meanwhile; the first worker waits for what is left of it.

    Returns:
        How workers are to be started: anew where there is no fork server, as where the folder of temporary files has
        a name too long for a socket.
    """
    if sys.platform != "linux":
        return "spawn"
    forkserver.set_forkserver_preload([PRELOAD])
    try:
        with waiting_quietly(), _without_working_folder():
            forkserver.ensure_running()
    except OSError:
        return "spawn"
    return "forkserver"


@contextmanager
def _without_script() -> Iterator[None]:
    """Start processes that do not import the script which calls sweeper: one without a guard would begin anew there."""
    script = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = script


@contextmanager
def _without_working_folder() -> Iterator[None]:
    """Start Python without the working folder on its path: a `types.py` among the data is no module of Python's."""
    if os.environ.get("PYTHONSAFEPATH"):
        yield
        return
    os.environ["PYTHONSAFEPATH"] = "1"
    try:
        yield
    finally:
        os.environ.pop("PYTHONSAFEPATH", None)


class Launched:
    """A process with a pipe to it. `target` is called there with the other end of the pipe and `args`.

    Raises:
        WorkerDiedError: if it cannot be started: the fork server may be killed while it forks.
    """

    def __init__(self, target: Callable[..., None], args: tuple[Any, ...], method: Method) -> None:
        context = multiprocessing.get_context(method)
        self.pipe, theirs = context.Pipe()
        self.process: BaseProcess = context.Process(  # type: ignore[attr-defined]
            target=target, args=(theirs, *args), daemon=True, name="sweeper-worker"
        )
        try:
            with waiting_quietly(), _without_working_folder(), _without_script():
                self.process.start()
        except (OSError, EOFError) as error:  # no process to be had, or the fork server ended
            self.pipe.close()
            words = (
                f"no worker could be started ({str(error) or 'killed'}); {memory_limit() or 'try --executor inline'}"
            )
            raise WorkerDiedError(words) from error
        finally:
            theirs.close()
        self._handle = _handle_of(self.process)

    def reason(self) -> str:
        """How the process ended, for people."""
        self.process.join(END_SECONDS)
        code = self.process.exitcode
        if code == UNKNOWN:
            return "worker ended, and so has the process that it was forked from, which alone knows how"
        if code is not None and code < 0:
            hint = SIGNALS.get(-code, "")
            return f"worker killed by signal {-code}{hint and f' ({hint})'}"
        return f"worker ended with status {code}"

    def end(self) -> None:
        """Kill the process and wait for it. Safe to call twice."""
        self.pipe.close()
        if self._handle is None:
            if self.process.is_alive():
                self.process.kill()
        else:  # whose child it is does not matter; nor can its number be another's by now
            try:
                signal.pidfd_send_signal(self._handle, signal.SIGKILL)
                select.select([self._handle], [], [], END_SECONDS)
            except ProcessLookupError:
                pass
            os.close(self._handle)
            self._handle = None
        self.process.join(END_SECONDS)


def _handle_of(process: BaseProcess) -> int | None:
    """A file that stands for the process, Linux alone: multiprocessing takes a worker for dead once its server is."""
    if process.pid is None or not hasattr(os, "pidfd_open"):
        return None
    try:
        return os.pidfd_open(process.pid)
    except OSError:  # it has ended, or the kernel is older than 5.3
        return None
