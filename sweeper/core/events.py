"""Jobs, the workers' answers to them, and the events that observers of trainings receive.

No torch here: the parent process takes these apart, and must not load it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from sweeper.core.base import Record
from sweeper.core.recipe import Precision
from sweeper.core.records import Evaluation, TrialResult, TrialSpec


class WorkerHardware(Record):
    """Hardware of a worker: where it trains and in which precision."""

    device: str
    """`cpu`, `cuda` or `mps`."""
    devices: int
    """Number of devices; 1 for a CPU."""
    name: str
    """Name for display."""
    precision: Precision
    """Autocast type that this device computes natively; on a CPU not always the quicker one."""
    processor: str = ""
    """Name of the processor, by which measured times are kept; "" = unknown."""


class WorkerLayout(NamedTuple):
    """Division of a machine among trainings."""

    workers: int
    threads: int
    """Threads of each worker, on a CPU."""


@dataclass(frozen=True)
class TrainingJob:
    """Train this until it was evaluated at this step, or at the first rung after it.

    To do a job again changes nothing: a training that is there already says what it gave so far.
    """

    spec: TrialSpec
    until: int
    """≥ 1."""


@dataclass(frozen=True)
class JobResult:
    """A job was done."""

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
    """The worker died, hung, ran out of memory or lost its device; nothing is known of the training but the reason."""

    spec: TrialSpec
    reason: str


Answer = JobResult | WorkerLost
"""Answer of an executor to a job."""


@dataclass(frozen=True)
class TrainingEvaluated:
    """A training was evaluated on validation images."""

    spec: TrialSpec
    evaluation: Evaluation


@dataclass(frozen=True)
class TrainingContinued:
    """A training continues beyond a rung; `result` is what it gave so far, which counts for nothing yet."""

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
    """A waiting training continues, and gave `result` so far; this session may not know it yet."""

    spec: TrialSpec
    result: TrialResult


@dataclass(frozen=True)
class ResultStored:
    """A training gave its result (failed ones included), and it is stored: from now on nothing can lose it."""

    result: TrialResult


NOT_NEEDED = "it is not needed any more"
"""Reason for dropping a training that an idle worker began and that the interim analysis did not need."""


@dataclass(frozen=True)
class TrainingDropped:
    """A training was cut off and does not count: its worker `handle_dead_worker`, or the sweep ends."""

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
        """Take an event; those that mean nothing to it are passed over."""


@dataclass(frozen=True)
class Observers:
    """Several observers as one."""

    observers: tuple[Observer, ...]

    def notify(self, event: SweepEvent) -> None:
        """Pass the event to each observer in turn."""
        for observer in self.observers:
            observer.notify(event)
