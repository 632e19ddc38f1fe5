"""What the search says of its own result: where the spread comes from, and whether the budget sufficed."""

from __future__ import annotations

from sweeper.records import SearchAnalysis
from sweeper.report.facts import Facts
from sweeper.report.words import naming, number, percent, prose, table

SOURCES = {
    "family": "which loss family",
    "parameters": "the loss's own parameters",
    "learning_rate": "learning rate",
    "seed": "seed",
    "rest": "the rest",
}


def parts_table(facts: Facts) -> str:
    """Sources of the spread between trainings, largest first; empty where it could not be divided."""
    analysis = facts.recommendation.analysis
    parts = sorted(analysis.parts, key=lambda p: -p.share) if analysis else []
    rows = [[SOURCES[p.source], number(p.sd), percent(p.share)] for p in parts]
    header = ["what differs between trainings", f"standard deviation, {facts.objective}", "share of the variance"]
    return table(header, rows) if rows else ""


def budget_table(facts: Facts) -> str:
    """How the ranking of the families at each budget agrees with the last; empty with fewer than two budgets."""
    analysis = facts.recommendation.analysis
    points = analysis.budget if analysis else ()
    rows = [
        [f"{p.steps:,}", str(p.families), number(p.tau, 2), "yes" if p.same_leader else "no"]
        for p in sorted(points, key=lambda p: p.steps)
    ]
    header = ["steps", "families compared", "Kendall's τ with the last ranking", "same leader"]
    return table(header, rows, left=0) if len(rows) > 1 else ""


def adequacy(facts: Facts) -> list[str]:
    """The analysis's own sentences and, where none of them says it, at which budget the ranking settled; markdown."""
    analysis = facts.recommendation.analysis
    if analysis is None:
        return []
    told = [prose(naming(text, facts.losses)) for text in analysis.sentences]
    return told if any("settled" in text for text in told) or not analysis.budget else [*told, _settled(analysis)]


def _settled(analysis: SearchAnalysis) -> str:
    last = max(p.steps for p in analysis.budget)
    if analysis.settled_at is None:
        return f"The ranking of the families had not settled by {last:,} steps, or too few families can be compared."
    if analysis.settled_at >= last:
        return f"The ranking of the families settled at the largest budget alone, {last:,} steps: it may still change."
    return f"The ranking of the families settled at {analysis.settled_at:,} of {last:,} steps."
