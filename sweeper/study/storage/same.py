"""Which search trials are another name for a simpler loss."""

from __future__ import annotations

from sweeper.base import Record
from sweeper.records import SameLoss


class SameLosses(Record):
    """What was found, so that a resume and the report count these trials as the run did."""

    trials: int
    """How many trials of the search it rests on."""
    found: tuple[SameLoss, ...]
