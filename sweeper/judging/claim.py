"""Check a claim about two methods, "B > A by 0.005", against their scores, for CI and programs."""

from __future__ import annotations

import re
from typing import Literal

from sweeper.core.base import Record
from sweeper.core.errors import UsageError
from sweeper.core.records import Contest
from sweeper.core.text import replace_minus, suggest_or_list
from sweeper.evidence.interim_analyses import DECIDING_SEEDS
from sweeper.evidence.verdict_predicates import get_difference, has_enough_seeds, is_measured

Outcome = Literal["holds", "not_shown", "contradicted"]


class ClaimRow(Record):
    """A claim that one method is better than another by more than some amount, and whether the scores show it."""

    better: str
    worse: str
    by: float
    """Amount in the score's unit; 0 = any improvement."""
    outcome: Outcome
    """`holds`: the interval of the difference is above `by`; `contradicted`: below it; `not_shown`: neither, or there
    are fewer than three trainings of each."""
    difference: float
    """Lead of `better` over `worse`: above 0 if it is the better one, whichever direction the score has."""
    ci_low: float | None
    """Null = not known."""
    ci_high: float | None
    level: float
    sentence: str
    """The outcome as a sentence."""


def check_claim(text: str, contest: Contest, level: float) -> ClaimRow:
    """Compare a claim, `B > A` or `B > A by 0.005`, with the two-sided interval of the two methods' difference.

    A wrong claim holds with a probability of at most half of 1 − level.

    Raises:
        UsageError: if the text is no such claim, or one of its methods has no scores.
    """
    methods = [each.family for each in contest.finalists]
    better, worse, by = _parse_claim(text, methods)
    i, j = methods.index(better), methods.index(worse)
    gap, digits, has_seeds = get_difference(contest, i, j), contest.scale.digits, has_enough_seeds(contest, i, j)
    outcome: Outcome = "not_shown"
    words = f"the interval contains {by:g}" if has_seeds else f"{DECIDING_SEEDS} trainings of each are needed"
    if has_seeds and not gap.low <= by <= gap.high:
        outcome, side = ("holds", "above") if gap.low > by else ("contradicted", "below")
        words = f"the interval lies {side} {by:g}"
    has_error = is_measured(contest, i, j)
    ends = f" [{gap.low:+.{digits}f}, {gap.high:+.{digits}f}] ({100 * level:g} %)" if has_error else ""
    state = {"holds": "holds", "contradicted": "is contradicted", "not_shown": "is not shown"}[outcome]
    return ClaimRow(
        better=better,
        worse=worse,
        by=by,
        outcome=outcome,
        difference=gap.estimate,
        ci_low=gap.low if has_error else None,
        ci_high=gap.high if has_error else None,
        level=level,
        sentence=f"The claim {' '.join(text.split())!r} {state}: {better} − {worse} is "
        f"{replace_minus(f'{gap.estimate:+.{digits}f}{ends}')}, and {words}.",
    )


def _parse_claim(text: str, methods: list[str]) -> tuple[str, str, float]:
    """Parse the two names and the amount; names may contain blanks, > and "by", as they are matched with `methods`."""
    name = "|".join(map(re.escape, sorted(methods, key=len, reverse=True)))
    match = re.fullmatch(rf"\s*({name})\s*>\s*({name})(?:\s+by\s+(\d*\.?\d+(?:[eE][+-]?\d+)?))?\s*", text)
    if match is None or match[1] == match[2]:
        words = (word.strip() for word in re.split(r">|\sby\s", text))
        near = [suggest_or_list(word, methods) for word in words if word not in methods]
        raise UsageError(
            '--claim must be "B > A" or "B > A by 0.005": two methods, > for better, and a number of 0 or more, got '
            f"{text!r}{''.join(near)}"
        )
    return match[1], match[2], float(match[3] or 0)
