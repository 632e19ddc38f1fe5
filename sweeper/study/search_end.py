"""When a search without a given total ends."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sweeper.core.records import TrialResult

PATIENCE = 8
"""Trials beyond the floors that must bring no gain."""


def has_search_settled(trials: Sequence[TrialResult], floors: int, gain: float, *, waiting: Iterable[int] = ()) -> bool:
    """Return whether the last trials beyond the floors raised the best complete value by no more than `gain`.

    `trials` have ended, those of the numbers `waiting` wait at a rung; the first `floors` are the families' floors.
    """
    decided = sorted([*(trial.spec.number for trial in trials), *waiting])
    last = set(decided[floors:][-PATIENCE:])
    if len(last) < PATIENCE:
        return False
    values = {t.spec.number: t.value for t in trials if t.state == "complete" and t.value is not None}
    best = max(values.values(), default=0.0)
    before = max((value for number, value in values.items() if number not in last), default=0.0)
    return best - before <= gain
