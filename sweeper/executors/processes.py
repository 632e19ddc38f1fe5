"""Supervised worker processes: torch is imported in them alone, so that the parent stays small.

On Linux they are forked from a process that loaded the libraries once and did nothing else (multiprocessing's fork
server): the second worker, and one that replaces a dead one, costs no import. Elsewhere each is started anew.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from statistics import fmean

from sweeper.core.errors import SweeperError
from sweeper.core.events import Hardware, Layout
from sweeper.core.recipe import Precision
from sweeper.core.records import Conditions
from sweeper.executors.process_executor import ProcessExecutor
from sweeper.executors.start_process import WorkerDiedError, begin_loading
from sweeper.executors.watchdog import Watchdog
from sweeper.executors.worker_process import Setup, WorkerProcess
from sweeper.system.cores import threads_asked

MAX_WORKERS = 8


def _may_have_gpu() -> bool:
    """Whether a driver of one is there; torch alone knows for sure."""
    if sys.platform == "win32":
        return (Path(os.environ.get("SYSTEMROOT", "C:/Windows")) / "System32" / "nvcuda.dll").exists()
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
        *,
        threads: int | None = None,
    ) -> None:
        """`workers` None = as many as pay: one per GPU; on a CPU one thread each (or `threads`, or as OMP_NUM_THREADS
        says), one per core, at most 8, unless `use` says otherwise. `log` is told of workers that died."""
        self._threads = threads or threads_asked()
        self._asked, self._count, self._cores, self._log = device, workers, cores, log
        self._watchdog = watchdog or Watchdog()
        # Loading torch takes seconds: it begins at once, with as many processes as load for themselves.
        self._method = begin_loading()
        alone = self._method == "spawn"
        self._workers = [self._new() for _ in range(self._count or self._guess())] if alone else []
        """Not configured; the first has told its hardware once it was asked."""
        self._opened: ProcessExecutor | None = None

    def _new(self) -> WorkerProcess:
        return WorkerProcess(self._asked, self._method)

    def _guess(self) -> int:
        """How many workers there will be, should there be no GPU; one where there may be some."""
        gpu = self._asked not in {"auto", "cpu"} or (self._asked == "auto" and _may_have_gpu())
        return 1 if gpu else self._as_many_as_pay()

    def _as_many_as_pay(self) -> int:
        """Workers on a CPU."""
        return max(1, min(self._cores // (self._threads or 1), MAX_WORKERS))

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
        """Threads of each worker: what the user says, or its share of the cores.

        Not fewer on a machine that is busy just now: sums of floats, and with them every digit of a result, depend on
        how many threads share them.
        """
        return self._threads or max(1, self._cores // self.workers)

    @property
    def layouts(self) -> tuple[Layout, ...]:
        """Half as many workers with twice the threads may be quicker, where two threads share a core."""
        usual = Layout(self.workers, self.threads)
        free = self._hardware.device == "cpu" and self._count is None and self._threads is None
        if not free or usual.workers == 1:
            return (usual,)
        fewer = usual.workers // 2
        return usual, Layout(fewer, self._cores // fewer)

    def use(self, layout: Layout) -> None:
        """Open with so many workers of so many threads."""
        self._count, self._threads = layout

    def step_seconds(
        self, conditions: Conditions, precisions: Sequence[Precision], layout: Layout
    ) -> dict[Precision, float]:
        """The mean of the workers, which take steps at the same time; all are ended where one cannot."""
        while len(self._workers) < layout.workers:
            self._workers.append(self._new())
        timed, found = self._workers[: layout.workers], list[dict[Precision, float]]()
        try:
            for worker in timed:
                if not worker.begun:
                    worker.expect("hardware")
            for worker in timed:
                worker.pipe.send(("time", conditions, precisions, layout.threads))
            for worker in timed:
                _, times = worker.expect("time")
                assert isinstance(times, dict)
                found.append(times)
        except (SweeperError, OSError):  # what is wrong is said where workers are made ready
            for worker in self._workers:
                worker.end()
            self._workers = []
            return {}
        return {p: fmean(times[p] for times in found) for p in precisions} if all(found) else {}

    def open(self, conditions: Conditions, checkpoints: Path) -> ProcessExecutor:
        """Start the other workers and hand the conditions to all."""
        setup = Setup(self._new, conditions, checkpoints, self.hardware(), self.threads, self._log)
        while len(self._workers) > self.workers:
            self._workers.pop().end()
        while len(self._workers) < self.workers:
            self._workers.append(self._new())
        setup.make_ready(self._workers)
        ready, self._workers = self._workers, []
        self._opened = ProcessExecutor(ready, setup, self._log, self._watchdog)
        return self._opened

    def close(self) -> None:
        """Kill all workers."""
        for worker in self._workers:
            worker.end()
        self._workers = []
        if self._opened is not None:
            self._opened.close()
