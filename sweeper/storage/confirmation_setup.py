"""What is decided before the confirmation: which losses are the same, and at which learning rates all are confirmed."""

from __future__ import annotations

from sweeper.core.base import Record
from sweeper.core.records import SameLoss, Tuned


class SameLosses(Record):
    """What was found, so that a resume and the report count these trials as the run did."""

    trials: int
    """How many trials of the search it rests on."""
    found: tuple[SameLoss, ...]


class TunedFinalists(Record):
    """The finalists' learning rates, so that a report by another version of sweeper finds their confirmations."""

    finalists: tuple[Tuned, ...]
