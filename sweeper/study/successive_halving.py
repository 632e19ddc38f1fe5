"""Successive halving, families first: which trials continue from a rung, wait, or can never continue.

After each generation of trials the best share of all that reached a rung continues (Jamieson and Talwalkar 2016,
"Non-stochastic Best Arm Identification and Hyperparameter Optimization"). The others wait, as a trial can still be
promoted later. Here each family's best trial is promoted before all others, up to the middle rung: a training's score
at a quarter of its steps says little about its final score (docs/performance.md). Beyond the middle only the best
families keep this privilege: few of the others' trainings would decide anything.

Everything is a function of the values seen so far, in any order.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Iterable, Sequence

SHARES: tuple[float, ...] = (1 / 8, 1 / 4, 1 / 2)
"""Shares of the trials at the first, second and third rung that continue; from a fourth rung on all do."""

MAX_LAG = 0.08
"""A family whose best value at the middle rung is further below the leader's gets no trials beyond its floor, unless it
is one of those that are pursued."""

EARLY, LATER = 0.8, 0.3
"""Share of its steps that a trial is trained in the mean, of a family's first trial and of the others."""

Order = tuple[float, int]
"""Minus the value, and the number: better first, earlier first among equals."""


def estimate_trained_share(trials: int, families: int) -> float:
    """Estimate the share of all steps of so many trials that is trained, as most stop (bench/search_simulation.py)."""
    first = min(trials, families)
    return (EARLY * first + LATER * (trials - first)) / max(1, trials)


class SuccessiveHalving:
    """State of the trials at their rungs: which may continue."""

    def __init__(
        self, rungs: Sequence[int], *, shares: Sequence[float] = SHARES, present: str = "", pursued: int = 3
    ) -> None:
        """Create it without trials.

        Args:
            rungs: steps after which a trial is evaluated, ascending; the last is its end.
            shares: share of the trials at the first rung, the second … that continue; 1 for the others.
            present: the family that the others are compared with: its best is trained to the end whatever its rank.
            pursued: number of the best families at the middle rung whose best is trained to the end, too.
        """
        self._rungs, self._present, self._pursued = tuple(rungs), present, pursued
        self._middle_rung = (len(rungs) - 1) // 2
        # The last rung has a share, too: a resume decides there about a trial that was interrupted after it.
        self._shares = (*shares[: len(rungs) - 1], *(1.0,) * max(1, len(rungs) - len(shares)))
        self._reached: dict[int, list[Order]] = {}  # per trial, one entry per rung
        self._families: dict[int, str] = {}
        # Best first, of all trials and of each family; sorted for bisection, as each event asks for all that wait.
        self._ranked: list[list[Order]] = [[] for _ in rungs]
        self._of: list[dict[str, list[Order]]] = [defaultdict(list) for _ in rungs]

    def record(self, number: int, family: str, step: int, value: float) -> None:
        """Record a trial's value at its next rung; recording it again changes nothing."""
        if step in self.list_reached_steps(number):
            return
        rung, order = self._rungs.index(step), (-value, number)
        self._families[number] = family
        self._reached.setdefault(number, []).append(order)
        insort(self._ranked[rung], order)
        insort(self._of[rung][family], order)

    def list_reached_steps(self, number: int) -> tuple[int, ...]:
        """Return the rungs that a trial has reached, as steps."""
        return self._rungs[: len(self._reached.get(number, ()))]

    def may_continue(self, number: int) -> bool:
        """Return whether a trial may train beyond the last rung it reached."""
        rung = self._get_rung(number)
        by_rank = self._is_among_best(number, rung, len(self._ranked[rung]))
        return by_rank or self._leads_family(number, rung)

    def cannot_be_promoted(self, number: int, total: int) -> bool:
        """Return whether a waiting trial can never continue, even if all others of `total` trials are worse."""
        rung = self._get_rung(number)
        is_best = self._of[rung][self._families[number]][0] == self._reached[number][rung]
        return not (is_best or self._is_among_best(number, rung, max(total, len(self._ranked[rung]))))

    def list_trailing_families(self) -> set[str]:
        """Return the families that are not pursued, and more than `MAX_LAG` below the best at the middle rung."""
        best = self._rank_families()
        lowest = min(best.values(), default=(0.0, 0))[0] + MAX_LAG
        return {family for family, order in best.items() if order[0] > lowest} - self._list_pursued()

    def _list_pursued(self) -> set[str]:
        """Return the best families at the middle rung."""
        best = self._rank_families()
        return set(sorted(best, key=lambda family: best[family])[: self._pursued])

    def _rank_families(self) -> dict[str, Order]:
        """Return the rank of each family's best trial at the middle rung."""
        return {family: held[0] for family, held in self._of[self._middle_rung].items() if held}

    def sort_by_promotion(self, waiting: Iterable[int]) -> list[int]:
        """Return the waiting trials in the order of their promotion: from the highest rung down, the best first."""
        return sorted(waiting, key=lambda number: (-self._get_rung(number), self._reached[number][-1]))

    def _get_rung(self, number: int) -> int:
        return len(self._reached[number]) - 1

    def _is_among_best(self, number: int, rung: int, trials: int) -> bool:
        """Return whether the trial would be among those that continue, with this many trials at the rung."""
        allowed = math.floor(self._shares[rung] * trials + 1e-9)
        return bisect_left(self._ranked[rung], self._reached[number][rung]) < allowed

    def _leads_family(self, number: int, rung: int) -> bool:
        """Return whether the trial leads its family; beyond the middle rung the family must be pursued."""
        family = self._families[number]
        pursued = {self._present, *self._list_pursued()}
        is_favoured = rung < self._middle_rung or family in pursued
        return is_favoured and self._of[rung][family][0] == self._reached[number][rung]
