"""A job, what a worker answers to it, and what observers are told of trainings.

No torch here: the parent process takes these apart, and must not load it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, Protocol

from sweeper.core.base import Record
from sweeper.core.recipe import Precision
from sweeper.core.records import Evaluation, TrialResult, TrialSpec


class WorkerHardware(Record):
    """What a worker found: where it trains and in which precision."""

    device: str
    """`cpu`, `cuda` or `mps`."""
    devices: int
    """How many of them; 1 for a CPU."""
    name: str
    """For people."""
    precision: Precision
    """Autocast type that this device computes natively; on a CPU not always the quicker one."""
    processor: str = ""
    """Which processor it is, as times that were measured on it are kept; "" = not known."""


class WorkerLayout(NamedTuple):
    """How trainings share a machine."""

    workers: int
    threads: int
    """Of each worker, on a CPU."""


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
    """With all evaluations so far. In state `pruned` as long as it could go on."""
    note: str = ""
    """What people should know of how the training began."""

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
"""What an executor tells of a job."""


@dataclass(frozen=True)
class TrainingEvaluated:
    """A training was evaluated on validation images."""

    spec: TrialSpec
    evaluation: Evaluation


@dataclass(frozen=True)
class TrainingPaused:
    """A training waits at a rung, in its checkpoint; `result` is what it gave if it never goes on."""

    spec: TrialSpec
    result: TrialResult


@dataclass(frozen=True)
class TrainingStarted:
    """A training begins."""

    spec: TrialSpec


@dataclass(frozen=True)
class TrainingResumed:
    """A training that waited goes on, and gave `result` so far; this session may not know it yet."""

    spec: TrialSpec
    result: TrialResult


@dataclass(frozen=True)
class ResultStored:
    """A training gave its result (failed ones included), and it is stored: from now on nothing can lose it."""

    result: TrialResult


NOT_NEEDED = "it is not needed any more"
"""Why a training is dropped that an idle worker began, and that its interim analysis did not ask for."""


@dataclass(frozen=True)
class TrainingDropped:
    """A training was cut off and does not count: its worker `died`, or the sweep ends."""

    spec: TrialSpec
    reason: str
    died: bool


SweepEvent = TrainingStarted | TrainingEvaluated | TrainingPaused | TrainingResumed | ResultStored | TrainingDropped
"""What the tracker, the display, the timekeeper and the status file are told by `notify`."""


class Observer(Protocol):
    """What is told of trainings."""

    def notify(self, event: SweepEvent) -> None:
        """Take an event; those that mean nothing to it are passed over."""


@dataclass(frozen=True)
class Observers:
    """Tells each in turn."""

    observers: tuple[Observer, ...]

    def notify(self, event: SweepEvent) -> None:
        """Tell each of them."""
        for observer in self.observers:
            observer.notify(event)
