"""What the search says of its own result: where the spread comes from, and whether the budget sufficed."""

from __future__ import annotations

from sweeper.report.facts import Facts
from sweeper.report.formatting import naming, number, prose, table

SOURCES = {
    "family": "which loss",
    "parameters": "its parameters",
    "learning_rate": "learning rate",
    "seed": "seed",
    "rest": "unexplained",
}
"""Sources of the spread between trainings, in a word or two."""


def adequacy(facts: Facts) -> list[str]:
    """The analysis's own sentences, as markdown."""
    analysis = facts.recommendation.analysis
    return [prose(naming(text, facts.losses)) for text in analysis.sentences] if analysis else []


def budget_table(facts: Facts) -> str:
    """How the ranking of the families at each budget agrees with the last; empty with fewer than two budgets, or
    fewer than three losses."""
    analysis = facts.recommendation.analysis
    points = analysis.budget if analysis else ()
    if all(p.tau is None for p in points):
        return ""
    rows = [
        [f"{p.steps:,}", str(p.families), number(p.tau, 2), "yes" if p.same_leader else "no"]
        for p in sorted(points, key=lambda p: p.steps)
    ]
    header = ["after steps", "losses compared", "Kendall's τ with the last ranking", "its leader is among the best"]
    return table(header, rows, left=0) if len(rows) > 1 else ""
