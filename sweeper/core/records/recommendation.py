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


class VariancePart(Record):
    """One source of the spread between trainings."""

    source: Literal["family", "parameters", "learning_rate", "seed", "rest"]
    sd: float
    """Standard deviation that it alone causes, in the objective."""
    share: float
    """Share of the variance, 0–1."""


class BudgetPoint(Record):
    """How the ranking of the families at one budget agrees with the last."""

    steps: int
    families: int
    tau: float | None
    """Kendall's τ-b with the ranking at the largest budget; None with fewer than 3 families, or where all are tied."""
    same_leader: bool
    """Whether the best at this budget ends within the region of practical equivalence of the best at the last."""


class SearchAnalysis(Record):
    """What the search itself says of its result: where the spread comes from, and whether the budget sufficed."""

    parts: tuple[VariancePart, ...]
    """Empty where too few trainings completed."""
    budget: tuple[BudgetPoint, ...]
    """By ascending steps, over the rungs of the same trainings: the budget probe's, else the confirmation's where at
    least three losses were confirmed, else the search's."""
    settled_at: int | None
    """Smallest budget from which on the ranking agrees with the last; None where it never did, or cannot be said."""
    confirmation_tau: float | None
    """Kendall's τ-b between the search's and the confirmation's ranking of the finalists."""
    sentences: tuple[str, ...]
    """The same for people, each with its numbers."""


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
    analysis: SearchAnalysis | None = None
    misses: MissControl | None = None
    """What decides about the operating point, where `--miss-at-most` was given."""
