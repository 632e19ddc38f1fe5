"""What a worker tells its parent. No torch here: the parent takes these apart, and must not load it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sweeper.core.base import Record
from sweeper.core.recipe import Precision
from sweeper.core.records import Evaluation, TrialResult

Answer = Literal["go", "stop", "pause"]
"""What becomes of a training that was looked at: it goes on, ends here, or is kept for going on later."""


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
class Looked:
    """A training was evaluated; `last` when it has nothing more to ask."""

    evaluation: Evaluation
    last: bool
    note: str = ""
    """What people should know of how the training began."""


@dataclass(frozen=True)
class Waits:
    """It waits in its checkpoint; `result` is what it gave if it never goes on."""

    result: TrialResult


@dataclass(frozen=True)
class Done:
    """It ended; failed ones too."""

    result: TrialResult


@dataclass(frozen=True)
class Exhausted:
    """Memory ran out under it. What its process holds besides is unknown, so that another should go on."""

    reason: str


@dataclass(frozen=True)
class DeviceLost:
    """Its device computes nothing more for this process, so that only another process can go on."""

    reason: str


Told = Looked | Waits | Done | Exhausted | DeviceLost
