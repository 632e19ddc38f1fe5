"""Jobs, the workers' answers, and the events that observers of trainings receive.

No torch here: the parent process unpickles these, and must not load it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from sweeper.core.base import Record
from sweeper.core.recipe import Precision
from sweeper.core.records import Evaluation, TrialResult, TrialSpec


class WorkerHardware(Record):
    """Hardware of a worker: its device and precision."""

    device: str
    """`cpu`, `cuda` or `mps`."""
    devices: int
    """Number of devices; 1 for a CPU."""
    name: str
    """Name for display."""
    precision: Precision
    """Autocast type that this device computes natively; on a CPU not always the faster one."""
    processor: str = ""
    """Name of the processor, the key of measured step times; "" = unknown."""


class WorkerLayout(NamedTuple):
    """Division of a machine among trainings."""

    workers: int
    threads: int
    """Threads of each worker, on a CPU."""


@dataclass(frozen=True)
class TrainingJob:
    """A training to continue until it was evaluated at step `until`, or at the first rung after it.

    Repeating a job changes nothing: a training that is already there returns its result so far.
    """

    spec: TrialSpec
    until: int
    """≥ 1."""


@dataclass(frozen=True)
class JobResult:
    """Reply of a finished job."""

    result: TrialResult
    """Result with all evaluations so far; in state `pruned` as long as the training could continue."""
    note: str = ""
    """Remark on how the training began."""

    @property
    def finished(self) -> bool:
        """Whether the training is over: complete, or failed."""
        return self.result.state != "pruned"


@dataclass(frozen=True)
class WorkerLost:
    """Reply if the worker died, hung, ran out of memory or lost its device; only the reason is known."""

    spec: TrialSpec
    reason: str


Reply = JobResult | WorkerLost
"""Reply of an executor to a job."""


@dataclass(frozen=True)
class TrainingEvaluated:
    """A training was evaluated on validation images."""

    spec: TrialSpec
    evaluation: Evaluation


@dataclass(frozen=True)
class TrainingContinued:
    """A training continues beyond a rung; `result` is its result so far, which does not count yet."""

    spec: TrialSpec
    result: TrialResult


@dataclass(frozen=True)
class TrainingPaused:
    """A training waits at a rung, in its checkpoint; `result` counts if it never continues."""

    spec: TrialSpec
    result: TrialResult


@dataclass(frozen=True)
class TrainingStarted:
    """A training begins."""

    spec: TrialSpec


@dataclass(frozen=True)
class TrainingResumed:
    """A waiting training continues; `result` is its result so far, which this session may not know yet."""

    spec: TrialSpec
    result: TrialResult


@dataclass(frozen=True)
class ResultStored:
    """The result of a training (including failed ones) is stored, so that it can no longer be lost."""

    result: TrialResult

    @property
    def spec(self) -> TrialSpec:
        """The training."""
        return self.result.spec


NOT_NEEDED = "it is not needed any more"
"""Reason for dropping a training that an idle worker began and that the interim analysis did not need."""


@dataclass(frozen=True)
class TrainingDropped:
    """A training was interrupted and does not count: its worker `died`, the sweep ends, or it is `NOT_NEEDED`."""

    spec: TrialSpec
    reason: str
    died: bool


SweepEvent = (
    TrainingStarted
    | TrainingEvaluated
    | TrainingContinued
    | TrainingPaused
    | TrainingResumed
    | ResultStored
    | TrainingDropped
)
"""Event that the tracker, the display, the timekeeper and the status file receive by `notify`."""


class Observer(Protocol):
    """Receiver of the events of trainings."""

    def notify(self, event: SweepEvent) -> None:
        """Handle an event; ignore those that do not concern it."""


@dataclass(frozen=True)
class Observers:
    """Several observers as one."""

    observers: tuple[Observer, ...]

    def notify(self, event: SweepEvent) -> None:
        """Pass the event to each observer in turn."""
        for observer in self.observers:
            observer.notify(event)
