"""When a search without a given total has found what it will find."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

PATIENCE = 8
"""Trials beyond the floors that must bring no gain."""


def has_search_settled(decided: Sequence[int], values: Mapping[int, float | None], floors: int, gain: float) -> bool:
    """Return whether the last trials beyond the floors raised the best complete value by no more than `gain`.

    Args:
        decided: numbers of the trials that ended or wait at a rung, ascending.
        values: of those that completed, their value.
        floors: how many trials are the families' floors; these come first.
        gain: as much must be gained for more to be tried, ≥ 0.
    """
    last = set(decided[floors:][-PATIENCE:])
    if len(last) < PATIENCE:
        return False
    best = max((v for v in values.values() if v is not None), default=0.0)
    before = max((v for n, v in values.items() if v is not None and n not in last), default=0.0)
    return best - before <= gain
