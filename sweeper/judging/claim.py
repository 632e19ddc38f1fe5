"""Check a claim about two methods, "B > A by 0.005", against their scores, for CI and programs."""

from __future__ import annotations

import math
import re
from typing import Literal

from sweeper.core.base import Record
from sweeper.core.errors import UsageError
from sweeper.core.records import Contest
from sweeper.core.text import join_words, replace_minus, suggest_correction
from sweeper.evidence.interim_analyses import DECIDING_SEEDS
from sweeper.evidence.verdict_predicates import get_difference, has_enough_seeds, is_measured

Outcome = Literal["holds", "not_shown", "contradicted"]
_CLAIM = re.compile(r"(?P<better>.+?)\s+>\s+(?P<worse>.+?)(?:\s+by\s+(?P<by>[0-9.eE+-]+))?", re.DOTALL)
_RULE = '--claim must be "B > A" or "B > A by 0.005": two methods, > for better, and a number of 0 or more'


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
    better, worse, by = _parse_claim(text, [each.family for each in contest.finalists])
    i, j = ([each.family for each in contest.finalists].index(name) for name in (better, worse))
    gap, digits = get_difference(contest, i, j), contest.scale.digits
    has_error = is_measured(contest, i, j)
    outcome: Outcome = "not_shown"
    if has_enough_seeds(contest, i, j):
        outcome = "holds" if gap.low > by else "contradicted" if gap.high < by else "not_shown"
    estimate = replace_minus(f"{gap.estimate:+.{digits}f}")
    if has_error:
        estimate += replace_minus(f" [{gap.low:+.{digits}f}, {gap.high:+.{digits}f}] ({100 * level:g} %)")
    words = {
        "holds": f"holds: {better} − {worse} is {estimate}, and the interval lies above {by:g}.",
        "contradicted": f"is contradicted: {better} − {worse} is {estimate}, and the interval lies below {by:g}.",
        "not_shown": f"is not shown: {better} − {worse} is {estimate}"
        + (
            f", and the interval contains {by:g}."
            if has_enough_seeds(contest, i, j)
            else f"; it needs {DECIDING_SEEDS} trainings of each."
        ),
    }
    return ClaimRow(
        better=better,
        worse=worse,
        by=by,
        outcome=outcome,
        difference=gap.estimate,
        ci_low=gap.low if has_error else None,
        ci_high=gap.high if has_error else None,
        level=level,
        sentence=f"The claim {' '.join(text.split())!r} {words[outcome]}",
    )


def _parse_claim(text: str, methods: list[str]) -> tuple[str, str, float]:
    """Parse the two names and the amount; names may contain blanks, > and "by", as they are matched with `methods`."""
    for better in methods:
        rest = text.strip().removeprefix(better)
        for worse in methods if rest != text.strip() else ():
            match = re.fullmatch(rf"\s*>\s*{re.escape(worse)}(?:\s+by\s+(\S+))?", rest)
            if match and worse != better:
                return better, worse, _parse_amount(match[1] or "0", text)
    split = _CLAIM.fullmatch(text.strip())
    if split is None:
        raise UsageError(f"{_RULE}, got {text!r}")
    unknown = [name for name in (split["better"], split["worse"]) if name not in methods]
    if not unknown:
        raise UsageError(f"{_RULE}; got {split['better']!r} twice")
    near = suggest_correction(unknown[0], methods) or f"; the methods are {join_words(methods[:10])}"
    raise UsageError(f"--claim must compare two methods of the table, and {unknown[0]!r} is none{near}")


def _parse_amount(word: str, text: str) -> float:
    try:
        by = float(word)
    except ValueError:
        by = math.nan
    if not 0 <= by < math.inf:
        raise UsageError(f"{_RULE}, got {text!r}")
    return by
