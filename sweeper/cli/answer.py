"""The recommendation as a few lines for a terminal."""

from __future__ import annotations

import shutil
import textwrap

from sweeper.core.records import Recommendation, Recommended, Verdict
from sweeper.data.folds import NOT_HELD_OUT
from sweeper.evidence.preferences import preference_rows, recommended_index
from sweeper.report.compare_text import answer_lines
from sweeper.report.compared_studies import sides
from sweeper.workflow.compare import Compared
from sweeper.workflow.conclude import Outcome

HEADLINE = {
    Verdict.CLEAR_WINNER: "clear winner: {family} beats every rival",
    Verdict.EQUIVALENT: "equivalent: the leaders differ by less than matters; {family} is named",
    Verdict.SAFE_CHOICE: "safe choice: no finalist is better than {family} by more than the margin",
    Verdict.UNDECIDED: "undecided: no loss is shown to be best; {family} costs least on average",
    Verdict.NONE: "none: no loss can be recommended",
}
REASONS = 3


def answer_text(outcome: Outcome, width: int | None = None) -> str:
    """Which loss, with which numbers, how sure, and where the report lies; wrapped at `width` columns."""
    width = width or min(110, shutil.get_terminal_size((100, 24)).columns)
    recommendation, recommended = outcome.recommendation, outcome.recommendation.recommended
    family = recommended.family if recommended else ""
    verdict = HEADLINE[recommendation.verdict].format(family=family)
    evidence = recommendation.evidence
    if recommendation.verdict is Verdict.UNDECIDED and evidence is not None and len(evidence.finalists) == 1:
        verdict = f"undecided: only {family} was confirmed, so that nothing was compared"
    elif recommendation.verdict is Verdict.UNDECIDED and recommendation.strength == "probable":
        verdict = f"undecided who is best; probably {family} costs no more than the margin against the best"
    if recommendation.provisional:
        verdict += " (provisional: at this budget)"
    if outcome.sweep.conditions.folds is not None:
        verdict += f" ({NOT_HELD_OUT}: the search saw these images)"
    lines = [textwrap.fill(f"Verdict: {verdict}", width, subsequent_indent="         ")]
    if recommended is not None:
        lead = "Use:     " if recommendation.strength != "open" else "Meanwhile: "
        lines.append(textwrap.fill(lead + _loss_text(recommended), width, subsequent_indent="         "))
    lines += _finalists(recommendation)
    lines += [
        textwrap.fill(reason, width, initial_indent="- ", subsequent_indent="  ")
        for reason in recommendation.reasons[:REASONS]
    ]
    others = [row for row in preference_rows(recommendation) if row.instead_of is not None]
    lines += [
        textwrap.fill(f"- If you care most about {row.care_about}: {row.family}.", width, subsequent_indent="  ")
        for row in others
    ]
    lines.append(f"Report: {outcome.paths.markdown} (and report.html beside it)")
    return "\n".join(lines)


def comparison_text(compared: Compared) -> str:
    """A line per study, from the mildest to the severest imbalance, and where the comparison lies."""
    lines = answer_lines(sides(compared.studies))
    return "\n".join([*lines, f"Comparison: {compared.paths.markdown} (and report.html beside it)"])


def _loss_text(recommended: Recommended) -> str:
    numbers = {**recommended.params, "lr": recommended.lr}
    text = ", ".join(f"{name}={value:.4g}" for name, value in numbers.items())
    if recommended.threshold is not None:
        return f"{recommended.family} ({text}; threshold {recommended.threshold:.2f})"
    return f"{recommended.family} ({text}; τ {recommended.tau:g})"


def _finalists(recommendation: Recommendation) -> list[str]:
    if recommendation.evidence is None or not recommendation.evidence.finalists:
        return []
    chosen = recommended_index(recommendation)
    rows = [
        f"{'→' if i == chosen else ' '} {finalist.family:14} "
        f"{finalist.miou.estimate:.3f}  [{finalist.miou.low:.3f}, {finalist.miou.high:.3f}]"
        for i, finalist in enumerate(recommendation.evidence.finalists)
    ]
    return ["", "  test mIoU, 95 % interval", *rows, ""]
