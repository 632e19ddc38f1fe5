"""The planned looks at the confirmation: after how many seeds, at which level.

Looking after 3 seeds, and again after 5 and 8, gives chance three occasions. Each look therefore spends a part of the
5 % error, in the proportion 2 : 3 : 5 (: 8 : 13 …), as later looks know more: 0.01, 0.015 and 0.025 for three looks. By
Bonferroni's inequality the intervals of all looks hold together with 95 %, whenever and why ever the confirmation ends
(repeated confidence intervals: Jennison & Turnbull 1989). Boundaries that use the correlation between the looks (Lan &
DeMets 1983) would be sharper by a little, but are derived for known variances: with Student's t on 2, 4 and 7 degrees
of freedom they let 5.6 % through (docs/verdict.md).
"""

from __future__ import annotations

from collections.abc import Sequence

from sweeper.evidence.intervals import LEVEL
from sweeper.records import Evidence, Look

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


def look_at(looks: Sequence[Look], seeds: int) -> int:
    """Index of the look at which `seeds` seeds are complete: the first with at least as many, else the last."""
    return next((k for k, look in enumerate(looks) if look.seeds >= seeds), max(0, len(looks) - 1))


def level_at(looks: Sequence[Look], seeds: int) -> float:
    """Level of a comparison on `seeds` common seeds: 1 − error of their look; without looks LEVEL.

    A finalist that was dropped after an earlier look keeps that look's level: its data are as they were then, and
    judging them again at a later look's more lenient level would spend error twice.

    More seeds than the last look has would be a new plan from the same first look; its last look's level is taken.
    """
    if not looks:
        return LEVEL
    if seeds > looks[-1].seeds:
        return 1 - planned_looks(looks[0].seeds, seeds)[-1].error
    return 1 - looks[look_at(looks, seeds)].error


def common_seeds(evidence: Evidence, first: int, second: int) -> int:
    """On how many seeds two finalists (indices) are compared."""
    return len(set(evidence.finalists[first].seeds) & set(evidence.finalists[second].seeds))


def level_of(evidence: Evidence, first: int, second: int) -> float:
    """Level of the interval that compares two finalists (indices)."""
    return level_at(evidence.looks, common_seeds(evidence, first, second))
