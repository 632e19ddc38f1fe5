"""The answer: the verdict, the recommendation, and what the search itself says of both."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from sweeper.core.base import Record
from sweeper.core.records.evidence import Evidence
from sweeper.core.records.misses import MissControl


class Verdict(StrEnum):
    """How sure the answer is."""

    CLEAR_WINNER = "clear_winner"
    EQUIVALENT = "equivalent"
    SAFE_CHOICE = "safe_choice"
    UNDECIDED = "undecided"
    NONE = "none"


Strength = Literal["shown", "probable", "open"]
"""How sure it is that the recommended loss costs at most the margin: shown by intervals, probable, or neither."""


class AnalysisTaken(Record):
    """What an interim analysis of the confirmation found."""

    seeds: int
    """Seeds that all who were compared had in common."""
    within: dict[str, int] | int | None = None
    """Of each finalist the confirmations of the first so many seeds were weighed, those that were there; a number: of
    all; None where it was not kept."""
    error: float
    verdict: Verdict
    reason: str
    """Why the confirmation went on, or ended, after it; a sentence."""


class Recommended(Record):
    """The loss to train with, ready to paste."""

    family: str
    params: dict[str, float]
    lr: float
    threshold: float | None
    tau: float | None
    snippet: str
    equivalent: str | None = None
    """The same loss with other libraries, as a Python function; None where none of them agrees."""


class Recommendation(Record):
    """The answer: which loss, how sure, why."""

    verdict: Verdict
    recommended: Recommended | None
    """None only for verdict `none`."""
    strength: Strength = "open"
    evidence: Evidence | None
    provisional: bool
    """True when the baseline was still improving, so that a clear verdict holds at this budget only."""
    reasons: tuple[str, ...]
    """Why this verdict, in sentences with their numbers."""
    next_steps: tuple[str, ...]
    """What would settle it, where it is not settled."""
    winners_curse: float | None
    """Search value minus confirmed test value of the recommended configuration."""
    misses: MissControl | None = None
    """What decides about the operating point, where `--miss-at-most` was given."""
