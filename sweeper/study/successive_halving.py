"""Which trials go on from a rung, which wait there, and which never can: successive halving, families first.

Asynchronous successive halving (Li et al. 2020, "A System for Massively Parallel Hyperparameter Tuning") promotes a
trial as soon as it is among the best share of those that reached its rung, and lets the others wait, so that no worker
is ever idle and a late riser can still be called. Here a family's best is promoted before anything else: families are
compared at a quarter of the budget only loosely as at its end, so that each has a say at the full budget.

Everything is a function of the values seen so far, in whatever order they came.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Iterable, Sequence

from sweeper.space import FLOOR

SHARES: tuple[float, ...] = (1 / 3, 1 / 2)
"""Of the trials that reach the first rung, and the second, how many go on beyond it; from a third on all do."""

Order = tuple[float, int]
"""Minus the value, and the number: better first, earlier first among equals."""


class Halving:
    """The field of a search."""

    def __init__(self, rungs: Sequence[int], *, least: int = FLOOR, shares: Sequence[float] = SHARES) -> None:
        """Make an empty field.

        Args:
            rungs: steps after which a trial is evaluated, ascending; the last is its end.
            least: so many trials of a family are seen before its best goes on as such.
            shares: of the trials that reach the first rung, the second …, how many go on beyond it; 1 for the others.
        """
        self._rungs, self._least = tuple(rungs), least
        # The last rung has its share too: a trial that was cut off after it is looked at there by a resume.
        self._shares = (*shares[: len(rungs) - 1], *(1.0,) * max(1, len(rungs) - len(shares)))
        self._reached: dict[int, list[Order]] = {}  # of each trial, rung by rung
        self._families: dict[int, str] = {}
        # Best first, of all and of each family: places are found by halves, as each event asks for all that wait.
        self._ranked: list[list[Order]] = [[] for _ in rungs]
        self._of: list[dict[str, list[Order]]] = [defaultdict(list) for _ in rungs]

    def see(self, number: int, family: str, step: int, value: float) -> None:
        """Take what a trial reached at its next rung; taking it again changes nothing."""
        if step in self.steps(number):
            return
        rung, order = self._rungs.index(step), (-value, number)
        self._families[number] = family
        self._reached.setdefault(number, []).append(order)
        insort(self._ranked[rung], order)
        insort(self._of[rung][family], order)

    def steps(self, number: int) -> tuple[int, ...]:
        """Rungs that a trial has reached, as steps."""
        return self._rungs[: len(self._reached.get(number, ()))]

    def goes_on(self, number: int, *, more: bool) -> bool:
        """Whether a trial may train beyond the last rung it reached; `more` = new trials may still begin."""
        rung = self._rung_of(number)
        return self._leads(number, rung, more=more) or self._ranks(number, rung, len(self._ranked[rung]))

    def hopeless(self, number: int, total: int) -> bool:
        """Whether a waiting trial can never go on, even if all of `total` trials reach its rung and are worse.

        Those that a family would complete as a finalist may: its best `FLOOR`.
        """
        rung = self._rung_of(number)
        spare = bisect_left(self._of[rung][self._families[number]], self._reached[number][rung]) < FLOOR
        return not (spare or self._ranks(number, rung, max(total, len(self._ranked[rung]))))

    def behind(self, margin: float) -> set[str]:
        """Families whose best value at the middle rung is more than `margin` below the best of all there."""
        middle = (len(self._rungs) - 1) // 2
        best = {family: -found[0][0] for family, found in self._of[middle].items() if found}
        return {family for family, value in best.items() if value < max(best.values()) - margin}

    def next(self, waiting: Iterable[int], *, more: bool) -> int | None:
        """Which of the waiting trials to promote: of the highest rung, the best; None when none may go on."""
        return next(iter(self.line(number for number in waiting if self.goes_on(number, more=more))), None)

    def line(self, waiting: Iterable[int]) -> list[int]:
        """Trials that wait, in the order in which they would go on: of the highest rung, the best first."""
        return sorted(waiting, key=lambda number: (-self._rung_of(number), self._reached[number][-1]))

    def _rung_of(self, number: int) -> int:
        return len(self._reached[number]) - 1

    def _ranks(self, number: int, rung: int, trials: int) -> bool:
        """Whether it is among those that may go on, were there so many trials at the rung."""
        allowed = math.floor(self._shares[rung] * trials + 1e-9)
        return bisect_left(self._ranked[rung], self._reached[number][rung]) < allowed

    def _best(self, number: int, rung: int) -> bool:
        return self._of[rung][self._families[number]][0] == self._reached[number][rung]

    def _leads(self, number: int, rung: int, *, more: bool) -> bool:
        """Whether it is the best of its family, among the family's minimum of trials."""
        enough = not more or rung > 0 or len(self._of[rung][self._families[number]]) >= self._least
        return enough and self._best(number, rung)
