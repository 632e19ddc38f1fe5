"""Which trials go on from a rung, which wait there, and which never can: successive halving, families first.

Asynchronous successive halving (Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning") promotes a
trial as soon as it is among the best share of those that reached its rung, and lets the others wait, so that no worker
is ever idle and a late riser can still be called. Here a family's best is promoted before anything else: families are
compared at a quarter of the budget only loosely as at its end, so that each has a say at the full budget.

Everything is a function of the values seen so far, in whatever order they came.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from sweeper.space import FLOOR

SHARES: tuple[float, ...] = (1 / 3, 1 / 2)
"""Of the trials that reach the first rung, and the second, how many go on beyond it; from a third on all do."""


class Halving:
    """The field of a search."""

    def __init__(self, rungs: Sequence[int], *, owed: int = FLOOR, shares: Sequence[float] = SHARES) -> None:
        """Make an empty field.

        Args:
            rungs: steps after which a trial is evaluated, ascending; the last is its end.
            owed: so many trials of a family are seen before its best goes on as such.
            shares: of the trials that reach the first rung, the second …, how many go on beyond it; 1 for the others.
        """
        self._rungs, self._owed = tuple(rungs), owed
        self._shares = (*shares[: len(rungs) - 1], *(1.0,) * (len(rungs) - 1 - len(shares)))
        self._values: list[dict[int, float]] = [{} for _ in rungs]
        self._families: dict[int, str] = {}

    def see(self, number: int, family: str, step: int, value: float) -> None:
        """Take what a trial reached at a rung; taking it again changes nothing."""
        self._families[number] = family
        self._values[self._rungs.index(step)][number] = value

    def forget(self, number: int) -> None:
        """Take a trial out: its attempt was cut off and says nothing."""
        for values in self._values:
            values.pop(number, None)

    def steps(self, number: int) -> set[int]:
        """Rungs that a trial has reached, as steps."""
        return {step for step, values in zip(self._rungs, self._values, strict=True) if number in values}

    def goes_on(self, number: int, *, more: bool) -> bool:
        """Whether a trial may train beyond the last rung it reached; `more` = new trials may still begin."""
        rung = self._rung_of(number)
        return self._leads(number, rung, more=more) or self._ranks(
            number, rung, self._allowed(rung, len(self._values[rung]))
        )

    def hopeless(self, number: int, total: int) -> bool:
        """Whether a waiting trial can never go on, even if all of `total` trials reach its rung and are worse."""
        rung = self._rung_of(number)
        most = max(total, len(self._values[rung]))
        return not (self._best(number, rung) or self._ranks(number, rung, self._allowed(rung, most)))

    def next(self, waiting: Iterable[int], *, more: bool) -> int | None:
        """Which of the waiting trials to promote: of the highest rung, the best; None when none may go on."""
        ready = [number for number in waiting if self.goes_on(number, more=more)]
        return min(ready, key=lambda n: (-self._rung_of(n), *self._order(n, self._rung_of(n))), default=None)

    def _rung_of(self, number: int) -> int:
        return max(rung for rung, values in enumerate(self._values) if number in values)

    def _order(self, number: int, rung: int) -> tuple[float, int]:
        """Better first, earlier first among equals."""
        return -self._values[rung][number], number

    def _allowed(self, rung: int, trials: int) -> int:
        """How many of so many trials may go on beyond a rung."""
        return math.floor(self._shares[rung] * trials + 1e-9)

    def _ranks(self, number: int, rung: int, allowed: int) -> bool:
        mine = self._order(number, rung)
        return sum(self._order(other, rung) < mine for other in self._values[rung]) < allowed

    def _best(self, number: int, rung: int) -> bool:
        family, mine = self._families[number], self._order(number, rung)
        return all(mine <= self._order(other, rung) for other in self._of(family, rung))

    def _leads(self, number: int, rung: int, *, more: bool) -> bool:
        """Whether it is the best of its family, among as many as the family is owed."""
        heard = not more or rung > 0 or len(self._of(self._families[number], rung)) >= self._owed
        return heard and self._best(number, rung)

    def _of(self, family: str, rung: int) -> list[int]:
        return [number for number in self._values[rung] if self._families[number] == family]
