"""Start and end of a worker process, even if the process that workers are forked from is gone.

On Linux workers are forked from one process that loaded the libraries (multiprocessing's fork server). It may be killed
like any other process, with or without its workers: the next start then begins a new fork server.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from multiprocessing import forkserver, resource_tracker
from multiprocessing.process import BaseProcess
from types import ModuleType
from typing import Any, Literal

from sweeper.core.errors import SweeperError
from sweeper.system.machine import set_unless_given, use_passive_waiting

PRELOAD = "sweeper.training.preload"
SAFE_PATH = {"PYTHONSAFEPATH": "1"}
"""Python starts without the working folder on its path, where a `types.py` would hide Python's own."""
HINT = "try --workers 0 or fewer of them; a worker reserves 5 GB of memory (`ulimit -v`), and uses a part of it"
END_SECONDS = 5.0
"""Seconds to wait for the end of a killed process."""
GUESSES = {7: "bus error: shared memory or the disk may be full", 9: "out of memory?"}
"""Likely causes of a worker's end by its signal, if nobody killed it on purpose."""

Method = Literal["forkserver", "spawn"]  # never fork: it would copy locks and CUDA's state


class WorkerDiedError(SweeperError):
    """A worker ended before it was ready."""


def begin_loading() -> Method:
    """Begin to load the workers' libraries in the background; the first worker waits for the rest of it.

    Returns:
        How to start workers: `spawn` where there is no fork server, for example because the path of the temporary
        folder is too long for a socket.
    """
    if sys.platform != "linux":
        return "spawn"
    forkserver.set_forkserver_preload([PRELOAD])
    try:
        with use_passive_waiting(), set_unless_given(SAFE_PATH), _block_interrupts():
            forkserver.ensure_running()
    except OSError:
        return "spawn"
    return "forkserver"


@contextmanager
def _block_interrupts() -> Iterator[None]:
    """Start processes that Ctrl-C does not end: it reaches every process of the terminal, but only this one decides.

    A process that still loads its libraries cannot ignore the signal yet; it would end with a traceback.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    resource_tracker.ensure_running()  # its first start unblocks the signal
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextmanager
def _hide_caller() -> Iterator[None]:
    """Start processes from any caller: a script without a main guard would run again, a pool's worker may start none.

    Python forbids that in a daemonic process, because it may leave them; these end with their parent by themselves.
    """
    script, config = sys.modules["__main__"], multiprocessing.current_process()._config  # type: ignore[attr-defined]
    is_daemonic = config.get("daemon", False)
    sys.modules["__main__"], config["daemon"] = ModuleType("__main__"), False
    try:
        yield
    finally:
        sys.modules["__main__"], config["daemon"] = script, is_daemonic


class LaunchedProcess:
    """A process with a pipe to it. It calls `target` with the other end of the pipe and `args`.

    Raises:
        WorkerDiedError: if it cannot be started: the fork server may be killed while it forks.
    """

    def __init__(self, target: Callable[..., None], args: tuple[Any, ...], method: Method) -> None:
        context = multiprocessing.get_context(method)
        self.pipe, child_end = context.Pipe()
        self.process: BaseProcess = context.Process(  # type: ignore[attr-defined]
            target=_begin_process, args=(target, child_end, *args), daemon=True, name="sweeper-worker"
        )
        # The fork server blocks Ctrl-C itself. Until it has loaded, the start waits for it, and Ctrl-C ends the wait.
        interrupts = _block_interrupts() if method == "spawn" else nullcontext()
        try:
            with use_passive_waiting(), set_unless_given(SAFE_PATH), _hide_caller(), interrupts:
                self.process.start()
        except (OSError, EOFError) as error:  # no process is available, or the fork server ended
            self.pipe.close()
            raise WorkerDiedError(f"no worker could be started ({str(error) or 'killed'}); {HINT}") from error
        finally:
            child_end.close()

    def explain_end(self) -> str:
        """Explain how the process ended."""
        self.process.join(END_SECONDS)
        code = self.process.exitcode
        if code is not None and code < 0:
            name = signal.strsignal(-code) or "unknown"
            words = GUESSES.get(-code, name.lower())
            return f"worker killed by signal {-code} ({words})"
        return f"worker ended with status {code}"

    def end_process(self) -> None:
        """Kill the process and wait for it. Safe to call twice.

        A process whose fork server is gone cannot be killed: it ends when it finds the pipe closed, or with this
        process.
        """
        self.pipe.close()
        if self.process.is_alive():
            self.process.kill()
        self.process.join(END_SECONDS)


def _begin_process(target: Callable[..., None], *arguments: Any) -> None:
    """Call the target in the new process, which ends with its parent, even in a training step."""
    parent = multiprocessing.parent_process()

    def watch() -> None:
        if parent is not None:
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True, name="parent-watch").start()
    target(*arguments)
