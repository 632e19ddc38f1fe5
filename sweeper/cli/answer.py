"""The recommendation as a few lines for a terminal."""

from __future__ import annotations

import shutil
import textwrap

from sweeper.conclude import Outcome
from sweeper.records import Recommendation, Recommended, Verdict

HEADLINE = {
    Verdict.CLEAR_WINNER: "clear winner: {family} beats every rival",
    Verdict.EQUIVALENT: "equivalent: the leaders differ by less than matters; {family} is the simplest of them",
    Verdict.UNDECIDED: "undecided: no loss is shown to be best; {family} is the simplest of those not shown worse",
    Verdict.NONE: "none: no loss can be recommended",
}
REASONS = 3


def answer_text(outcome: Outcome, width: int | None = None) -> str:
    """Which loss, with which numbers, how sure, and where the report lies; wrapped at `width` columns."""
    width = width or min(110, shutil.get_terminal_size((100, 24)).columns)
    recommendation, recommended = outcome.recommendation, outcome.recommendation.recommended
    family = recommended.family if recommended else ""
    verdict = HEADLINE[recommendation.verdict].format(family=family)
    if recommendation.provisional:
        verdict += " (provisional: at this budget)"
    lines = [textwrap.fill(f"Verdict: {verdict}", width, subsequent_indent="         ")]
    if recommended is not None:
        lead = "Use:     " if recommendation.verdict != Verdict.UNDECIDED else "Meanwhile: "
        lines.append(textwrap.fill(lead + _loss_text(recommended), width, subsequent_indent="         "))
    lines += _finalists(recommendation)
    lines += [
        textwrap.fill(reason, width, initial_indent="- ", subsequent_indent="  ")
        for reason in recommendation.reasons[:REASONS]
    ]
    lines.append(f"Report: {outcome.paths.markdown}")
    return "\n".join(lines)


def _loss_text(recommended: Recommended) -> str:
    numbers = {**recommended.params, "lr": recommended.lr}
    text = ", ".join(f"{name}={value:.4g}" for name, value in numbers.items())
    if recommended.threshold is not None:
        return f"{recommended.family} ({text}; threshold {recommended.threshold:.2f})"
    return f"{recommended.family} ({text}; τ {recommended.tau:g})"


def _finalists(recommendation: Recommendation) -> list[str]:
    if recommendation.evidence is None or not recommendation.evidence.finalists:
        return []
    chosen = recommendation.recommended.family if recommendation.recommended else None
    rows = [
        f"{'→' if finalist.family == chosen else ' '} {finalist.family:14} "
        f"{finalist.miou.estimate:.3f}  [{finalist.miou.low:.3f}, {finalist.miou.high:.3f}]"
        for finalist in recommendation.evidence.finalists
    ]
    return ["", "  test mIoU, 95 % interval", *rows, ""]
