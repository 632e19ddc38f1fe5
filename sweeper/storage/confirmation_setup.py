"""Which losses of the search are the same, as it is stored."""

from __future__ import annotations

from sweeper.core.base import Record
from sweeper.core.records import SameLoss


class SameLosses(Record):
    """What was found, so that a resume and the report count these trials as the run did."""

    trials: int
    """How many trials of the search it rests on."""
    found: tuple[SameLoss, ...]
