"""The judgement for programs: the document that `sweeper judge` prints, and its rows."""

from __future__ import annotations

import math
from itertools import combinations
from typing import ClassVar

from sweeper.core.base import Record
from sweeper.core.document import Document
from sweeper.core.records import Contest, Regret, Scope, Strength, Verdict
from sweeper.evidence.verdict import Decision
from sweeper.evidence.verdict_predicates import get_difference, has_beaten, is_measured
from sweeper.judging.claim import ClaimRow
from sweeper.judging.score_table import ScoreTable
from sweeper.judging.table_evidence import MethodContest, MethodEvidence, restore_score_direction


class MethodDifferenceRow(Record):
    """A difference with its interval; above 0 the first is better, whichever direction the score has."""

    first: str
    second: str
    difference: float
    ci_low: float | None = None
    """Null = not known."""
    ci_high: float | None = None
    se_seed: float | None = None
    """Standard error from other trainings; null = not known."""
    se_image: float | None = None
    """Standard error from other images; 0 where its square was estimated below 0, and cut off; null = not known. Its
    square is multiplied by K/(K − 1) where K folds make up a run."""
    shown: bool
    """Whether the first beats the second: the interval lies above 0, and the difference is at least the margin."""


class MethodRow(Record):
    """One method, best first."""

    name: str
    runs: tuple[str, ...]
    score: float
    """Mean over its runs, in the score's own direction."""
    ci_low: float | None
    """At 95 %; null = not known."""
    ci_high: float | None
    regret: Regret | None
    """Possible cost of taking it, against the best, in the score's unit."""


class NetworksRow(Record):
    """Conclusions about these networks on other images; they say nothing about the methods."""

    verdict: Verdict
    strength: Strength
    named: str
    reasons: tuple[str, ...]
    next_steps: tuple[str, ...]
    comparisons: tuple[MethodDifferenceRow, ...]


class JudgementDocument(Document):
    """Document that `sweeper judge` prints, and `judgement.json`."""

    SCHEMA: ClassVar[str] = "sweeper.judgement/1"

    source: str
    metric: str
    higher_is_better: bool
    margin: float
    """A difference that does not matter, in the score's unit."""
    level: float
    """Level of the intervals of differences."""
    verdict: Verdict
    """On the methods; with fewer than three runs of each it is undecided, whatever `networks` says."""
    strength: Strength
    named: str
    """The method to take; with `networks` that of the network to take."""
    scope: Scope
    """What the verdict generalises to: `both` = other trainings and other images; `trainings` = other trainings, scored
    on the same images, as images are not distinguished."""
    paired_seeds: bool
    images: int
    """0 = not distinguished."""
    groups: int | None
    """Groups of related images, which count as one image each."""
    left_out: int
    """Images without a score for at least one run."""
    methods: tuple[MethodRow, ...]
    baseline: str | None
    comparisons: tuple[MethodDifferenceRow, ...]
    """Differences of all pairs, the higher score first."""
    networks: NetworksRow | None
    """Present if some method has fewer than three runs and images are distinguished; else null."""
    claim: ClaimRow | None
    """Result of `--claim`."""
    reasons: tuple[str, ...]
    next_steps: tuple[str, ...]
    caveats: tuple[str, ...]


def make_method_row(table: ScoreTable, each: MethodEvidence) -> MethodRow:
    """Return the row of a method."""
    interval = restore_score_direction(table, each)
    return MethodRow(
        name=each.family,
        runs=each.runs,
        score=interval.estimate,
        ci_low=_drop_infinite(interval.low),
        ci_high=_drop_infinite(interval.high),
        regret=each.regret,
    )


def make_difference_rows(contest: Contest) -> tuple[MethodDifferenceRow, ...]:
    """Return the differences of all pairs, the higher score first."""
    rows = []
    for (i, first), (j, second) in combinations(enumerate(contest.finalists), 2):
        gap = get_difference(contest, i, j)
        errors = {"ci_low": gap.low, "ci_high": gap.high, "se_seed": gap.se_seed, "se_image": gap.se_image}
        rows.append(
            MethodDifferenceRow(
                first=first.family,
                second=second.family,
                difference=gap.estimate,
                shown=has_beaten(contest, i, j),
                **(errors if is_measured(contest, i, j) else {}),
            )
        )
    return tuple(rows)


def make_networks_row(contest: MethodContest, decision: Decision) -> NetworksRow:
    """Return the conclusions about these networks."""
    return NetworksRow(
        verdict=decision.verdict,
        strength=decision.strength,
        named=contest.finalists[decision.recommended or 0].family,
        reasons=decision.reasons,
        next_steps=decision.next_steps,
        comparisons=make_difference_rows(contest),
    )


def _drop_infinite(value: float) -> float | None:
    return value if math.isfinite(value) else None
