"""What happens to a training, told the same way by a job, a worker process, a Ray actor and a machine that joined.

Each event carries the spec of its training, so that one process may train several. No torch here: the parent process
takes these apart, and must not load it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

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
    """Autocast type that this device computes natively."""


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
