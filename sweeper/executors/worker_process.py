"""The parent's end of one worker process: how it is started, made ready and replaced."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from sweeper.core.errors import SweeperError, UsageError
from sweeper.core.events import Hardware
from sweeper.core.records import Conditions, TrialSpec
from sweeper.core.text import count
from sweeper.executors.protocol import compile_seconds, without_recordings
from sweeper.executors.start_process import Launched, Method, WorkerDiedError
from sweeper.system.clocks import running_seconds
from sweeper.system.system_errors import memory_limit

START_SECONDS = 120.0
"""A worker that has not begun by then is given up; seconds that this process ran."""
MEASURE_SECONDS = 300.0
"""So much longer a worker may take that measures its slots, which should be some seconds."""
REPLACEMENTS = 3
"""A worker that dies while it starts in place of another is tried again this often in all."""


class WorkerProcess(Launched):
    """The parent's end of one worker process."""

    broken: str | None = None
    """Why it says that it cannot be made ready."""

    def __init__(self, device: str, method: Method) -> None:
        super().__init__(_serve, (device,), method)
        self.specs: list[TrialSpec] = []
        """What it trains."""
        self.slots = 1
        self.asked: int | None = None
        """Slots that it is told to have; None = as many as it finds to pay."""
        self.crowded = False
        """Whether a training ran out of memory beside others in it."""
        self.shared_its_end = False
        """Whether it died with several trainings."""
        self.lost = False
        """Whether it died, hung, or said that it is of no more use, when it may have recorded steps."""
        self.may_record = True
        """Whether it is told that it may."""
        self.retires: str | None = None
        """Why it gets no more trainings, and is replaced once those that it has are done."""
        self.begun = False
        """Whether it told its hardware."""
        self.number = 0
        """Its place among the workers; with several GPUs it says which one."""

    def free(self) -> int:
        """How many more trainings it takes."""
        return 0 if self.retires is not None else self.slots - len(self.specs)

    def expect(self, kind: str, seconds: float = START_SECONDS) -> tuple[object, ...]:
        """The next message within so many seconds, which must be of this kind; for start-up only."""
        began = running_seconds()
        while not (found := self.pipe.poll(1.0)) and running_seconds() - began < seconds:
            pass
        if not found and kind == "ready" and self.asked is None:
            self.broken = f"measuring its slots took more than {seconds:.0f} s"
            raise WorkerDiedError(f"a worker cannot be made ready ({self.broken}); try --slots 1")
        if not found:
            raise SweeperError(
                f"a worker did not start within {seconds:.0f} s; {memory_limit() or 'try --executor inline'}"
            )
        try:
            message: tuple[object, ...] = self.pipe.recv()
        except (EOFError, OSError):
            words = f"a worker died while starting ({self.reason()}); {memory_limit() or 'try --executor inline'}"
            raise WorkerDiedError(words) from None
        if message[0] == "refused":
            raise UsageError(str(message[1]))
        if message[0] == "broken":
            self.broken = str(message[1])
            raise WorkerDiedError(
                f"a worker cannot be made ready ({self.broken}); {memory_limit() or 'try fewer --workers'}"
            )
        if message[0] != kind:
            raise SweeperError(f"a worker said {message[0]!r} where {kind!r} was expected")
        self.begun = True
        return message

    def expect_ready(self, seconds: float) -> str:
        """Wait until it can train, and note its slots; what it says of their number."""
        _, slots, said = self.expect("ready", seconds)
        assert isinstance(slots, int)
        self.slots = self.asked = slots
        return str(said)

    def fewer_slots(self) -> int:
        """What the one in its place is told to have: half as many where memory ran out, one where it died with several,
        or before it had found how many pay."""
        if self.crowded:
            return max(1, self.slots // 2)
        return 1 if self.shared_its_end else self.asked or 1

    def reason(self) -> str:
        """How the process ended, or why it is of no use, for people."""
        return super().reason() if self.broken is None else f"worker cannot be made ready: {self.broken}"


def _serve(pipe: Connection, device: str) -> None:
    from sweeper.training.worker import serve  # torch is imported here, in the child

    serve(pipe, device)


@dataclass(frozen=True)
class Setup:
    """How a worker is made, and what it is told before its first training."""

    new: Callable[[], WorkerProcess]
    conditions: Conditions
    checkpoints: Path
    hardware: Hardware
    threads: int
    log: Callable[[str], None]
    """Is told of workers that died."""
    say: Callable[[str], None]
    """Is told what they found of their slots."""
    slots: int | None = None
    """Of each worker; None = as many as it finds to pay."""

    def make_ready(self, workers: list[WorkerProcess]) -> None:
        """Configure workers, which may have told their hardware; one that dies is replaced in the list.

        Raises:
            UsageError: if they refuse the conditions.
            SweeperError: if one cannot be made ready, and none in its place.
        """
        if self.slots is None:
            self.say("measuring, for some seconds, how many trainings a GPU does best at a time")
        for number, worker in enumerate(workers):
            worker.number, worker.asked = number, self.slots
            self._configure(worker)
        for number, worker in enumerate(workers):
            try:
                if not worker.begun:
                    worker.expect("hardware")
                said = worker.expect_ready(self._ready_seconds)
                if said and number == 0:  # the others have the same device, or one like it
                    self.say(said)
            except WorkerDiedError:
                worker.lost = worker.asked is None  # it measured its slots, by recorded steps
                workers[number] = self.in_place_of(worker, worker.reason())

    def records(self, worker: WorkerProcess) -> bool:
        """Whether a worker records steps where it can, and need not."""
        recipe = self.conditions.recipe
        return worker.may_record and self._on_gpu and recipe.engine == "auto" and not recipe.deterministic

    @property
    def _on_gpu(self) -> bool:
        return self.hardware.device == "cuda"

    def in_place_of(self, dead: WorkerProcess, reason: str) -> WorkerProcess:
        """A worker that is ready, with the number of one that died; one that dies while it starts is tried again.

        Where recorded steps may have ended it, they are not what ends this one.

        Raises:
            SweeperError: if that fails `REPLACEMENTS` times, or the conditions are refused.
        """
        single = dead.lost and self.records(dead)
        for attempt in range(1, REPLACEMENTS + 1):
            dead.end()
            fewer = dead.fewer_slots()
            of_fewer = f" with {count(fewer, 'slot')} in place of {dead.slots}" if fewer < dead.slots else ""
            compiling = ", which compiles the network first" if self.conditions.recipe.compiled else ""
            eager = ", which takes steps one by one, as recorded ones may have ended it" if single else ""
            self.log(f"{reason}; starting another{of_fewer}{eager}{compiling}")
            worker = self.new()
            worker.number, worker.asked = dead.number, dead.fewer_slots()
            worker.may_record = dead.may_record and not single
            try:
                worker.expect("hardware")
                self._configure(worker)
                worker.expect_ready(self._ready_seconds)
                return worker
            except WorkerDiedError:
                worker.end()
                if attempt == REPLACEMENTS:
                    raise
            except SweeperError:
                worker.end()
                raise
        raise AssertionError

    @property
    def _ready_seconds(self) -> float:
        return START_SECONDS + compile_seconds(self.conditions) + (MEASURE_SECONDS if self.slots is None else 0.0)

    def _configure(self, worker: WorkerProcess) -> None:
        kind = self.hardware.device
        place = f"cuda:{worker.number % self.hardware.devices}" if kind == "cuda" else kind
        conditions = self.conditions if worker.may_record else without_recordings(self.conditions)
        with suppress(OSError):  # it died: found out when its answer is expected
            worker.pipe.send(("configure", conditions, place, self.threads, self.checkpoints, worker.asked))
