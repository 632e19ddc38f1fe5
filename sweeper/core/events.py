"""What happens to a training, told the same way by a job, a worker process and a Ray actor.

Each event carries the spec of its training, so that one process may train several. No torch here: the parent process
takes these apart, and must not load it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

from sweeper.core.base import Record
from sweeper.core.recipe import Precision
from sweeper.core.records import Evaluation, TrialResult, TrialSpec

Answer = Literal["go", "stop", "pause"]
"""What becomes of a training that was evaluated: it goes on, ends here, or is kept for going on later."""


class Hardware(Record):
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


class Layout(NamedTuple):
    """How trainings share a machine."""

    workers: int
    threads: int
    """Of each worker, on a CPU."""


@dataclass(frozen=True)
class Evaluated:
    """A training was evaluated on validation images; it waits for an answer, unless this is its `last` evaluation."""

    spec: TrialSpec
    evaluation: Evaluation
    last: bool
    note: str = ""
    """What people should know of how the training began."""


@dataclass(frozen=True)
class Paused:
    """A training was told to pause and waits in its checkpoint; `result` is what it gave if it never goes on."""

    spec: TrialSpec
    result: TrialResult


@dataclass(frozen=True)
class Finished:
    """A training gave its result (failed ones included)."""

    spec: TrialSpec
    result: TrialResult


@dataclass(frozen=True)
class OutOfMemory:
    """Memory ran out. What the process holds besides is unknown, so that another should go on."""

    spec: TrialSpec
    reason: str


@dataclass(frozen=True)
class WorkerLost:
    """The worker died, hung, or lost its device; nothing is known of the training but the reason."""

    spec: TrialSpec
    reason: str


TrainingEvent = Evaluated | Paused | Finished | OutOfMemory | WorkerLost
"""What an executor tells."""


@dataclass(frozen=True)
class Started:
    """A training begins."""

    spec: TrialSpec


@dataclass(frozen=True)
class Resumed:
    """A training that waited goes on, and gave `result` so far; this session may not know it yet."""

    spec: TrialSpec
    result: TrialResult


@dataclass(frozen=True)
class Stored:
    """A result is stored: from now on nothing can lose it, and people may be told."""

    result: TrialResult


NOT_NEEDED = "it is not needed any more"
"""Why a training is dropped that an idle worker began, and that its interim analysis did not ask for."""


@dataclass(frozen=True)
class Dropped:
    """A training was cut off and does not count: its worker `died`, or the sweep ends."""

    spec: TrialSpec
    reason: str
    died: bool


SweepEvent = Started | Evaluated | Paused | Resumed | Finished | Stored | Dropped
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
