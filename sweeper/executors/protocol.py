"""Protocol of the places where trainings run: a backend says what it offers; opened, it gives an executor that trains.

There is no dialogue (`sweeper.core.events`): each submitted job is answered once, by `poll`. A training continues
with the next job for it, in any worker, and a job whose worker was lost can be submitted again.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Hashable, Sequence
from pathlib import Path
from statistics import median
from typing import Literal, Protocol

from sweeper.core.events import Answer, TrainingJob, WorkerHardware, WorkerLayout
from sweeper.core.recipe import Precision, Recipe
from sweeper.core.records import Conditions
from sweeper.system.clocks import get_running_seconds

Stage = Literal["rung", "last"]
"""Stage that a training is waited for: an evaluation at a rung, or its last one with its result."""

LEAST_SECONDS = 60.0
FACTOR = 20.0
"""So many times the median of the same wait in this session is no longer slow, but stuck."""
UNKNOWN_SECONDS = 3600.0
"""For a wait that nobody has had yet: scoring the test split may take much longer than an evaluation."""


class Watchdog:
    """Knows since when each worker is waited for, and how long such waits usually take.

    A worker without a job is not watched; nor is one that starts (that has a limit of its own).
    Seconds are those that this process itself ran: where all are stopped, as on a laptop that sleeps, no worker hangs.
    """

    def __init__(self, least_seconds: float = LEAST_SECONDS, clock: Callable[[], float] = get_running_seconds) -> None:
        self._least, self._clock = least_seconds, clock
        self._since: dict[Hashable, tuple[float, str, Stage]] = {}
        self._known: defaultdict[tuple[str, Stage], list[float]] = defaultdict(list)

    def start_waiting(self, worker: Hashable, purpose: str, stage: Stage) -> None:
        """Note that the worker is waited for from now on; `purpose` of its training."""
        self._since[worker] = (self._clock(), purpose, stage)

    def stop_waiting(self, worker: Hashable) -> None:
        """Note that the worker said something; it is not watched until the next `start_waiting`."""
        if (waited := self._since.pop(worker, None)) is not None:
            since, purpose, stage = waited
            self._known[purpose, stage].append(self._clock() - since)

    def forget_worker(self, worker: Hashable) -> None:
        """Forget a worker that is gone: how long it was waited for says nothing."""
        self._since.pop(worker, None)

    def get_limit(self, purpose: str, stage: Stage) -> float:
        """Return the seconds after which such a wait counts as a hang."""
        if waits := self._known.get((purpose, stage)):
            return max(self._least, FACTOR * median(waits))
        return max(self._least, UNKNOWN_SECONDS)

    def explain_hang(self, worker: Hashable) -> str | None:
        """Return why the worker counts as hung; None while it does not."""
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
            ExecutorError: if none can be any more.
        """

    def submit(self, job: TrainingJob) -> None:
        """Have a job done. Only when `free() > 0`."""

    def poll(self, timeout_seconds: float) -> list[Answer]:
        """Answers since the last call, waiting for the first at most this long.

        To be called although nothing is trained: workers that became ready, or were lost, are seen here.
        """

    def close(self) -> None:
        """End everything, running trainings included. Safe to call twice."""


class Backend(Protocol):
    """A place where trainings can run, before anybody knows which."""

    def hardware(self) -> WorkerHardware:
        """Return what the machine offers.

        Raises:
            SweeperError: if no worker can be started, or the device is not there.
        """

    @property
    def layout(self) -> WorkerLayout:
        """Division of the machine among its trainings."""

    def step_seconds(self, conditions: Conditions, precisions: Sequence[Precision]) -> dict[Precision, float]:
        """Return the seconds of a training step on a CPU in each precision, while all workers train.

        Before `open`; {} where it cannot be measured.
        """

    def open(self, conditions: Conditions, checkpoints: Path) -> Executor:
        """Make ready for trainings under these conditions. Called once; the executor is closed with the backend.

        Raises:
            UsageError: if the network cannot be built as asked.
        """

    def close(self) -> None:
        """End everything, an executor that was opened included. Safe to call twice."""


def estimate_compile_seconds(conditions: Conditions) -> float:
    """Return the longest time to compile the network, which takes minutes for a large one on a slow processor."""
    return 1800.0 if conditions.recipe.compiled else 0.0


def get_stage(job: TrainingJob, recipe: Recipe) -> Stage:
    """Return what is waited for: the last rung, after which a confirmation is tested, or one before it."""
    return "last" if job.until > (0, *recipe.rungs(job.spec.steps))[-2] else "rung"
