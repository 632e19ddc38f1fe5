"""Protocol of executors: a backend describes its hardware, and once it is opened it is the executor, which trains.

Each submitted job is answered once, by `poll` (`sweeper.core.events`). A training continues with its next job, in any
worker, and a job whose worker was lost can be submitted again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from statistics import median
from typing import Literal, Protocol

from sweeper.core.events import Reply, TrainingJob, WorkerHardware, WorkerLayout
from sweeper.core.recipe import Precision, Recipe
from sweeper.core.records import Conditions
from sweeper.system.clocks import get_running_seconds

Stage = Literal["rung", "last"]
"""Stage of a training that is awaited: an evaluation at a rung, or the last one, with the result."""

LEAST_SECONDS = 60.0
FACTOR = 20.0
"""Multiple of the median wait of a kind in this session beyond which a worker counts as hung."""
UNKNOWN_SECONDS = 3600.0
"""Limit of a kind of wait without an example so far: scoring the test split may take much longer than an evaluation."""


class Watchdog:
    """Measures how long each worker has been awaited, and detects hangs by the usual time of such waits.

    It does not watch a worker that has no job or is starting (which has its own limit). It counts only seconds in which
    this process ran: a laptop that sleeps makes no worker hang.
    """

    def __init__(self, least_seconds: float = LEAST_SECONDS, clock: Callable[[], float] = get_running_seconds) -> None:
        self._least, self._clock = least_seconds, clock
        self._since: dict[Hashable, tuple[float, str, Stage]] = {}
        self._known: defaultdict[tuple[str, Stage], list[float]] = defaultdict(list)

    def start_waiting(self, worker: Hashable, purpose: str, stage: Stage) -> None:
        """Begin to watch a worker; `purpose` is that of its training."""
        self._since[worker] = (self._clock(), purpose, stage)

    def stop_waiting(self, worker: Hashable) -> None:
        """Record that the worker answered; it is not watched until the next `start_waiting`."""
        if (waited := self._since.pop(worker, None)) is not None:
            since, purpose, stage = waited
            self._known[purpose, stage].append(self._clock() - since)

    def forget_worker(self, worker: Hashable) -> None:
        """Forget a lost worker, without counting its wait."""
        self._since.pop(worker, None)

    def get_limit(self, purpose: str, stage: Stage) -> float:
        """Return the seconds after which such a wait counts as a hang."""
        if waits := self._known.get((purpose, stage)):
            return max(self._least, FACTOR * median(waits))
        return max(self._least, UNKNOWN_SECONDS)

    def explain_hang(self, worker: Hashable) -> str | None:
        """Explain why the worker counts as hung; None if it does not."""
        if (waited := self._since.get(worker)) is None:
            return None
        since, purpose, stage = waited
        gone, limit = self._clock() - since, self.get_limit(purpose, stage)
        if gone <= limit:
            return None
        return f"worker hung: nothing came from it for {gone:.0f} s, and {limit:.0f} s is the most that is waited"


class Executor(Protocol):
    """Trains specs under the conditions that its backend was opened with."""

    @property
    def workers(self) -> int:
        """Number of trainings run at a time."""

    def free(self) -> int:
        """Return how many more trainings can be submitted now.

        Raises:
            ExecutorError: if no more training is possible.
        """

    def submit(self, job: TrainingJob) -> None:
        """Submit a job, which requires `free() > 0`."""

    def poll(self, timeout_seconds: float) -> list[Reply]:
        """Return the answers since the last call, waiting for the first at most this long.

        Call it even while nothing is trained: only here new and lost workers are noticed.
        """

    def close(self) -> None:
        """End everything, running trainings included. Safe to call twice."""


class Backend(Executor, Protocol):
    """A place where trainings can run, before their conditions are known; `open` makes it their executor."""

    def get_hardware(self) -> WorkerHardware:
        """Return the hardware of the machine.

        Raises:
            SweeperError: if no worker can be started, or the device is missing.
        """

    @property
    def layout(self) -> WorkerLayout:
        """Number of workers, and of the threads of each."""

    def measure_step_seconds(self, conditions: Conditions, precisions: Sequence[Precision]) -> dict[Precision, float]:
        """Return the seconds of a training step on a CPU in each precision, while all workers train.

        It must be called before `open`; {} where no measurement is possible.
        """

    def open(self, conditions: Conditions, checkpoints: Path) -> Executor:
        """Prepare trainings under these conditions, and return the backend itself. Called once.

        Raises:
            UsageError: if the network cannot be built.
        """


def get_stage(job: TrainingJob, recipe: Recipe) -> Stage:
    """Return the stage of a job: its last rung, after which a confirmation is tested, or one before it."""
    return "last" if job.until > (0, *recipe.rungs(job.spec.steps))[-2] else "rung"
