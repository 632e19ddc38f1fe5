"""The rechecks that were asked for last."""

from __future__ import annotations

from sweeper.core.base import Record
from sweeper.core.records import TrialSpec


class Wave(Record):
    """Rechecks that were asked for together, so that a resume finishes them before others are asked for."""

    trials: int
    """How many trials of the search they rest on."""
    why: str
    specs: tuple[TrialSpec, ...]
