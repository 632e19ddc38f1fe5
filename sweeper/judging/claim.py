"""Check a claim about two methods, "B > A by 0.005", against their scores, for CI and programs."""

from __future__ import annotations

import re

from sweeper.core.errors import UsageError
from sweeper.core.records import Contest, Remark
from sweeper.core.text import suggest_or_list
from sweeper.evidence.answer import make_remark
from sweeper.evidence.verdict_predicates import get_difference, has_enough_seeds, is_measured

CLAIM_CODES = ("CLAIM_HOLDS", "CLAIM_NOT_SHOWN", "CLAIM_CONTRADICTED")
"""Outcomes of a claim: the interval of the difference is above the amount, contains it, or is below it."""


def check_claim(text: str, contest: Contest, level: float) -> Remark:
    """Compare a claim, `B > A` or `B > A by 0.005`, with the two-sided interval of the two methods' difference.

    A wrong claim holds with a probability of at most half of 1 − level. With fewer than three trainings of each it is
    not shown. The remark has the lead of B over A, above 0 if B is the better one.

    Raises:
        UsageError: if the text is no such claim, or one of its methods has no scores.
    """
    names = [each.family for each in contest.finalists]
    better, worse, by = _parse_claim(text, names)
    i, j = names.index(better), names.index(worse)
    gap, code = get_difference(contest, i, j), CLAIM_CODES[1]
    if has_enough_seeds(contest, i, j):
        if gap.low > by:
            code = CLAIM_CODES[0]
        elif gap.high < by:
            code = CLAIM_CODES[2]
    values = {"better": better, "worse": worse, "by": by, "level": level, "estimate": gap.estimate}
    ends = {"low": gap.low, "high": gap.high} if is_measured(contest, i, j) else {}
    return make_remark(code if ends else "CLAIM_UNKNOWN", **values, **ends)


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
