"""Looks at the confirmation: how many seeds before each, how much error each may spend, and whether to go on.

Looking after 3 seeds, and again after 5 and 8, gives chance three occasions. Each look therefore spends a part of the
5 % error, in the proportion 2 : 3 : 5 (: 8 : 13 …), as later looks know more: 0.01, 0.015 and 0.025 for three looks. By
Bonferroni's inequality all intervals of all looks hold together with 95 %, whenever the confirmation ends.
"""

from __future__ import annotations

from dataclasses import dataclass

from sweeper.evidence.verdict import Decision
from sweeper.records import Evidence, Look, Verdict

SEEDS = (3, 5, 8, 13, 21, 34)
"""Numbers of seeds at which the confirmation is looked at."""
SPENT = (2, 3, 5, 8, 13, 21, 34, 55)
"""Parts in which the error is spent over the looks."""
ERROR = 0.05


def planned_looks(least: int, most: int) -> tuple[Look, ...]:
    """Looks after `least`, then the numbers of SEEDS in between, then `most` seeds.

    Raises:
        ValueError: unless 1 ≤ least ≤ most.
    """
    if not 1 <= least <= most:
        raise ValueError(f"seeds must satisfy 1 ≤ MIN ≤ MAX, got {least}..{most}")
    seeds = [least, *(s for s in SEEDS if least < s < most), *([most] if most > least else [])]
    parts = SPENT[: len(seeds)]
    return tuple(Look(seeds=s, error=ERROR * part / sum(parts)) for s, part in zip(seeds, parts, strict=True))


@dataclass(frozen=True)
class NextStep:
    """Whether the confirmation goes on after a look."""

    go_on: bool
    finalists: tuple[int, ...]
    """Indices into `Evidence.finalists` of those that get more seeds; () when it ends."""
    reason: str
    """One sentence."""


def next_step(evidence: Evidence, decision: Decision) -> NextStep:
    """What follows from a look."""
    if decision.verdict is Verdict.NONE or len(evidence.finalists) < 2 or decision.best is None:
        return NextStep(False, (), "The confirmation ended: there is nothing to compare.")
    if decision.verdict is not Verdict.UNDECIDED:
        return NextStep(False, (), "The confirmation ended: the verdict is settled.")
    if not evidence.looks or evidence.look >= len(evidence.looks) - 1:
        return NextStep(False, (), "The confirmation ended: this was the last planned look.")
    on = {decision.best, *decision.unbeaten, *([] if evidence.baseline is None else [evidence.baseline])}
    return NextStep(True, tuple(sorted(on)), "The verdict is open: the confirmation goes on.")
