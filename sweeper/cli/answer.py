"""The recommendation as a few lines for a terminal."""

from __future__ import annotations

from sweeper.records import Interval, Verdict
from sweeper.sweep import Outcome

HEADLINE = {
    Verdict.CLEAR_WINNER: "clear winner",
    Verdict.EQUIVALENT: "equivalent to its rivals, and the simplest of them",
    Verdict.UNDECIDED: "undecided: not shown to be better than its rivals",
    Verdict.NONE: "no recommendation",
}


def answer_text(outcome: Outcome) -> str:
    """Which loss, with which numbers, how sure, and where the report lies."""
    recommendation, recommended = outcome.recommendation, outcome.recommendation.recommended
    lines = [f"Verdict: {HEADLINE[recommendation.verdict]}"]
    if recommended is not None:
        numbers = {**recommended.params, "lr": recommended.lr}
        text = ", ".join(f"{name}={value:.4g}" for name, value in numbers.items())
        point = (
            f"threshold {recommended.threshold:.2f}" if recommended.threshold is not None else f"τ {recommended.tau:g}"
        )
        lines.append(f"Loss:    {recommended.family} ({text}; {point})")
    if recommendation.evidence is not None and recommended is not None:
        for finalist in recommendation.evidence.finalists:
            mark = "→" if finalist.family == recommended.family else " "
            lines.append(f"  {mark} {finalist.family:14} test mIoU {_interval(finalist.miou)}")
    lines += [f"  {reason}" for reason in recommendation.reasons[:2]]
    lines.append(f"Report:  {outcome.paths.markdown}")
    return "\n".join(lines)


def _interval(interval: Interval) -> str:
    return f"{interval.estimate:.3f}  [{interval.low:.3f}, {interval.high:.3f}]"
