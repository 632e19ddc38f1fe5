"""Learning rates by the rule of earlier versions, for studies that began under it.

There was no grid: each finalist was to be tried with `RATES` rates, stopped trials counted, and was confirmed at the
best of them.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence

from sweeper.core.records import Conditions, Coordinate, SearchSpace, TrialResult
from sweeper.study.finalist import BASELINE, LEADERS, Finalist, Need, best_of_families, recheck_of, rivals_of
from sweeper.study.training_list import Key, key_of

RATES = 3
"""Learning rates that a finalist must have been tried with, at least."""
APART = 1.2
"""Learning rates nearer than this factor count as one."""
PLACES = (1 / 6, 1 / 3, 1 / 2, 2 / 3, 5 / 6)
"""Where in the logarithmic range of the learning rate missing ones are put."""


def lacking_rates(
    trials: Sequence[TrialResult],
    rechecks: Sequence[TrialResult],
    space: SearchSpace,
    conditions: Conditions,
    have: Collection[Key],
) -> Need | None:
    """What the finalists lack: each is to be tried with `RATES` learning rates, stopped trials included."""
    field = best_of_families(trials, rechecks, conditions)
    rivals = rivals_of(field, LEADERS)
    entrants = [*rivals, *(f for f in field if f.family == BASELINE and f not in rivals)]
    rates = {f.family: _missing_rates(f, trials, rechecks, space.lr, conditions.seed) for f in entrants}
    specs = [recheck_of(f, conditions, lr=lr) for f in entrants for lr in rates[f.family]]
    if specs := [spec for spec in specs if key_of(spec) not in have]:
        families = dict.fromkeys(spec.family for spec in specs)
        lacking = "; ".join(f"{f} at {', '.join(f'{s.lr:g}' for s in specs if s.family == f)}" for f in families)
        return Need(
            tuple(specs),
            f"each finalist is to be tried with at least {RATES} learning rates, and the search gave fewer: training "
            f"{lacking}",
        )
    return None


def _missing_rates(
    finalist: Finalist, trials: Sequence[TrialResult], rechecks: Sequence[TrialResult], space: Coordinate, seed: int
) -> list[float]:
    """Learning rates that the family must still be tried with, each as far as can be from those it was tried with."""
    if space.kind == "fixed" or space.high <= space.low:
        return []
    width = math.log(space.high / space.low)
    apart = min(math.log(APART), width / (2 * RATES))
    tried = [
        math.log(t.spec.lr)
        for t in (*trials, *(r for r in rechecks if r.spec.seed == seed))
        if t.spec.family == finalist.family and t.state != "failed"
    ]
    missing: list[float] = []
    while _distinct(tried, apart) < RATES:
        places = [math.log(space.low) + place * width for place in PLACES]
        place = max(places, key=lambda p: min((abs(p - t) for t in tried), default=math.inf))
        tried.append(place)
        missing.append(min(max(float(f"{math.exp(place):.3g}"), space.low), space.high))
    return sorted(missing)


def _distinct(logs: Sequence[float], apart: float) -> int:
    """How many values there are, those nearer than `apart` to the one before counted with it."""
    count, last = 0, -math.inf
    for value in sorted(logs):
        if value - last >= apart:
            count, last = count + 1, value
    return count
