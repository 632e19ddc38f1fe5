"""Looks at the confirmation: how many seeds before each, how much error each may spend, and whether to go on.

Looking after 3 seeds, and again after 5 and 8, gives chance three occasions. Each look therefore spends a part of the
5 % error, in the proportion 2 : 3 : 5 (: 8 : 13 …), as later looks know more: 0.01, 0.015 and 0.025 for three looks. By
Bonferroni's inequality all intervals of all looks hold together with 95 %, whenever the confirmation ends.
"""

from __future__ import annotations

from sweeper.records import Look

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
