"""Where trainings run: in this process (for debugging and tests) or in supervised worker processes.

Both have one interface. `poll` returns events; after each `Reported` that is not the training's last, `answer` must
say whether it goes on. Torch is imported in the workers alone: the parent stays small.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING, Protocol

from sweeper.errors import SweeperError, UsageError
from sweeper.records import Conditions, Evaluation, TrialResult, TrialSpec

if TYPE_CHECKING:
    from sweeper.training.engine import Training
    from sweeper.training.hardware import Hardware

START_SECONDS = 120.0
"""A worker that has not said hello by then is given up."""
MAX_WORKERS = 8


def available_cores() -> int:
    """Processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True)
class Reported:
    """A training looked at its validation pictures; `last` when it has nothing more to ask."""

    spec: TrialSpec
    evaluation: Evaluation
    last: bool


@dataclass(frozen=True)
class Finished:
    """A training gave its result (failed ones included)."""

    spec: TrialSpec
    result: TrialResult


@dataclass(frozen=True)
class Died:
    """The worker died under the training; nothing is known of it but the reason."""

    spec: TrialSpec
    reason: str


Event = Reported | Finished | Died


class Executor(Protocol):
    """A place where trainings run."""

    def hardware(self) -> Hardware:
        """What the machine offers; called once, first."""

    def has_weights(self, encoder: str) -> bool:
        """Whether ImageNet weights of the encoder lie in the local cache; may be called second."""

    def configure(self, conditions: Conditions) -> None:
        """Make ready for trainings under these conditions; called once, before the first of them.

        Raises:
            UsageError: if the network cannot be built as asked.
        """

    def free(self) -> int:
        """How many more trainings can be submitted now."""

    def submit(self, spec: TrialSpec) -> None:
        """Start a training. Only when `free() > 0`."""

    def poll(self, timeout_seconds: float) -> list[Event]:
        """Events since the last call, waiting for the first at most this long."""

    def answer(self, spec: TrialSpec, go_on: bool) -> None:
        """Whether a training that reported goes on."""

    def close(self) -> None:
        """End everything, running trainings included. Safe to call twice."""


class InlineExecutor:
    """Trains in this process, one training at a time; an exception in a training is a failed result."""

    def __init__(self, device: str) -> None:
        self._asked = device
        self._training: Training | None = None
        self._spec: TrialSpec | None = None
        self._seen: list[Evaluation] = []
        self._stopped = False
        self._waiting = False
        self._began = 0.0

    def hardware(self) -> Hardware:
        """Probe this process's device."""
        from sweeper.training.hardware import probe

        self._hardware = probe(self._asked)
        return self._hardware

    def has_weights(self, encoder: str) -> bool:
        """Look into the local cache."""
        from sweeper.training.model import imagenet_cached

        return imagenet_cached(encoder)

    def configure(self, conditions: Conditions) -> None:
        """Open the store and build the network once."""
        from sweeper.data.store import open_store
        from sweeper.training.worker import check_model

        check_model(conditions)
        self._conditions = conditions
        self._store = open_store(conditions.dataset.store)

    def free(self) -> int:
        """One when idle."""
        return 0 if self._spec else 1

    def submit(self, spec: TrialSpec) -> None:
        """Take the training; it is begun at the next poll."""
        self._spec, self._training, self._seen = spec, None, []
        self._stopped = self._waiting = False
        self._began = time.perf_counter()

    def poll(self, timeout_seconds: float) -> list[Event]:
        """Train to the next evaluation, or to the result."""
        from sweeper.training.engine import Training
        from sweeper.training.worker import explain, failed

        spec = self._spec
        if spec is None or self._waiting:
            return []
        try:
            if self._training is None:
                self._training = Training(spec, self._conditions, self._store, self._hardware.device)
            if self._training.finished or self._stopped:
                result = self._training.result("pruned" if self._stopped else "complete")
            else:
                evaluation = self._training.advance()
                self._seen.append(evaluation)
                self._waiting = not self._training.finished
                return [Reported(spec, evaluation, last=self._training.finished)]
        except Exception as error:
            seconds = time.perf_counter() - self._began
            result = failed(spec, tuple(self._seen), explain(error), seconds, self._hardware.device)
        self._spec = self._training = None
        return [Finished(spec, result)]

    def answer(self, spec: TrialSpec, go_on: bool) -> None:
        """Let the one training go on, or stop it."""
        self._stopped, self._waiting = not go_on, False

    def close(self) -> None:
        """Forget the training."""
        self._spec = self._training = None


class _Worker:
    """The parent's end of one worker process."""

    def __init__(self, device: str) -> None:
        context = multiprocessing.get_context("spawn")  # fork would copy locks and CUDA state
        self.pipe, theirs = context.Pipe()
        self.process: BaseProcess = context.Process(
            target=_serve, args=(theirs, device, os.getpid()), daemon=True, name="sweeper-worker"
        )
        self.process.start()
        theirs.close()
        self.spec: TrialSpec | None = None

    def expect(self, kind: str) -> tuple[object, ...]:
        """The next message, which must be of this kind; for start-up only."""
        if not self.pipe.poll(START_SECONDS):
            raise SweeperError(f"a worker did not start within {START_SECONDS:.0f} s; try --executor inline")
        try:
            message: tuple[object, ...] = self.pipe.recv()
        except EOFError:
            raise SweeperError(f"a worker died while starting ({self.reason()}); try --executor inline") from None
        if message[0] == "refused":
            raise UsageError(str(message[1]))
        if message[0] != kind:
            raise SweeperError(f"a worker said {message[0]!r} where {kind!r} was expected")
        return message

    def reason(self) -> str:
        """How the process ended, for people."""
        self.process.join(5)
        code = self.process.exitcode
        if code is not None and code < 0:
            hint = ", out of memory?" if code == -9 else ""
            return f"worker killed by signal {-code}{hint}"
        return f"worker ended with status {code}"

    def end(self) -> None:
        """Kill the process and wait for it."""
        self.pipe.close()
        if self.process.is_alive():
            self.process.kill()
        self.process.join(5)


def _serve(pipe: Connection, device: str, parent: int) -> None:
    from sweeper.training.worker import serve  # torch is imported here, in the child

    serve(pipe, device, parent)


class ProcessExecutor:
    """Supervised worker processes that share the decoded store through the page cache.

    A worker that dies costs its training (`Died`) and is replaced; the parent's death ends the workers.
    """

    def __init__(self, device: str, workers: int | None, cores: int, log: Callable[[str], None]) -> None:
        """`workers` None = as many as pay: one per GPU; on a CPU one thread each, one per core, at most 8."""
        self._asked, self._count, self._cores, self._log = device, workers, cores, log
        self._workers: list[_Worker] = [_Worker(device)]

    def hardware(self) -> Hardware:
        """Wait for the first worker's report."""
        hardware = self._workers[0].expect("hardware")[1]
        from sweeper.base import Record

        assert isinstance(hardware, Record)
        self._hardware: Hardware = hardware  # type: ignore[assignment]
        if self._count is None:
            self._count = self._hardware.devices if self._hardware.device != "cpu" else min(self._cores, MAX_WORKERS)
        return self._hardware

    def has_weights(self, encoder: str) -> bool:
        """Ask the first worker: the library that knows is heavy."""
        self._workers[0].pipe.send(("weights", encoder))
        return bool(self._workers[0].expect("weights")[1])

    @property
    def workers(self) -> int:
        """How many worker processes there are to be."""
        return self._count or 1

    @property
    def threads(self) -> int:
        """Threads of each worker."""
        return max(1, self._cores // self.workers)

    def configure(self, conditions: Conditions) -> None:
        """Start the other workers and hand the conditions to all."""
        self._conditions = conditions
        self._workers += [_Worker(self._asked) for _ in range(self.workers - 1)]
        for number, worker in enumerate(self._workers):
            if number > 0:
                worker.expect("hardware")
            self._send_conditions(worker, number)
        for worker in self._workers:
            worker.expect("ready")

    def _send_conditions(self, worker: _Worker, number: int) -> None:
        kind = self._hardware.device
        place = f"cuda:{number % self._hardware.devices}" if kind == "cuda" else kind
        worker.pipe.send(("configure", self._conditions, place, self.threads))

    def free(self) -> int:
        """Idle workers."""
        return sum(worker.spec is None for worker in self._workers)

    def submit(self, spec: TrialSpec) -> None:
        """Hand the training to the first idle worker."""
        worker = next(worker for worker in self._workers if worker.spec is None)
        worker.spec = spec
        with suppress(OSError):  # it died while idle: the next poll finds its pipe at the end and replaces it
            worker.pipe.send(("train", spec))

    def poll(self, timeout_seconds: float) -> list[Event]:
        """Messages of the workers, and the deaths among them."""
        events: list[Event] = []
        busy = {worker.pipe: worker for worker in self._workers if worker.spec is not None}
        for pipe in wait(list(busy), timeout_seconds):
            assert isinstance(pipe, Connection)
            worker = busy[pipe]
            spec = worker.spec
            assert spec is not None
            try:
                kind, payload, *rest = pipe.recv()
            except (EOFError, OSError):
                events.append(Died(spec, self._replace(worker)))
                continue
            if kind == "evaluation":
                events.append(Reported(spec, payload, last=rest[0]))
            else:
                worker.spec = None
                events.append(Finished(spec, payload))
        return events

    def answer(self, spec: TrialSpec, go_on: bool) -> None:
        """Tell the worker of this training."""
        for worker in self._workers:
            if worker.spec == spec:
                with suppress(OSError):  # it died meanwhile: the next poll reports it
                    worker.pipe.send(go_on)

    def _replace(self, worker: _Worker) -> str:
        reason = worker.reason()
        worker.end()
        number = self._workers.index(worker)
        self._log(f"{reason}; starting another")
        fresh = _Worker(self._asked)
        fresh.expect("hardware")
        self._send_conditions(fresh, number)
        fresh.expect("ready")
        self._workers[number] = fresh
        return reason

    def close(self) -> None:
        """Kill all workers."""
        for worker in self._workers:
            worker.end()
        self._workers = []
