"""A finalist: the best configuration of a family, and the learning rates that it is confirmed at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from sweeper.core.records import Collapse, RateRange, TrialResult
from sweeper.study.learning_rates import drawn_rate, middle_of
from sweeper.study.successive_halving import PURSUED

BASELINE = "cross_entropy"
LEADERS = 3
"""Families that are confirmed at most, besides the baseline."""
CLOSE = 0.05
"""A third family is confirmed where its best reads at most this much below the second's."""


class Finalist(NamedTuple):
    """The best configuration of a family."""

    trial: TrialResult
    """The search trial that it is best in."""
    rates: RateRange | None = None
    """Learning rates that it is confirmed at; None before they are known, and where a single rate is searched."""
    drawn: bool = False
    """Whether each seed of the confirmation draws a rate from these; else all use the best."""
    trained: tuple[TrialResult, ...] = ()
    """Its complete trainings before the confirmation, at rates that it is confirmed at."""
    tried: int = 0
    """Search trials of its family."""
    completed: int = 0
    """How many of them were trained to the end."""
    other_names: tuple[str, ...] = ()
    """Families that are this very function on these data, where nothing else was tried."""

    @property
    def lr(self) -> float:
        """The learning rate that stands for the configuration."""
        if self.rates is None:
            return self.trial.spec.lr
        return middle_of(self.rates) if self.drawn else self.rates.best

    def lr_of(self, number: int) -> float:
        """The learning rate of its `number`-th confirmation seed, from 0."""
        return drawn_rate(self.rates, number) if self.drawn and self.rates is not None else self.lr

    @property
    def text(self) -> str:
        """What its confirmations are known by."""
        if not self.drawn or self.rates is None:
            return str((*self.trial.spec.loss, self.lr))
        return str((*self.trial.spec.loss, self.rates.low, self.rates.high))

    @property
    def family(self) -> str:
        """Its loss."""
        return self.trial.spec.family

    @property
    def value(self) -> float:
        """The search's value."""
        return self.trial.value or 0.0


def best_of_families(trials: Sequence[TrialResult]) -> list[Finalist]:
    """The best completed trial of each family, best first; diverged ones are not eligible. Ties go to the earlier."""
    best: dict[str, TrialResult] = {}
    for trial in trials:
        if trial.state != "complete" or trial.value is None or trial.collapse == Collapse.DIVERGED:
            continue
        held = best.get(trial.spec.family)
        if held is None or trial.value > (held.value or 0.0):
            best[trial.spec.family] = trial
    tried = Counter(trial.spec.family for trial in trials)
    done = Counter(trial.spec.family for trial in trials if trial.state == "complete")
    found = [Finalist(t, tried=tried[family], completed=done[family]) for family, t in best.items()]
    return sorted(found, key=lambda f: (-f.value, f.trial.spec.number))


def entrants(trials: Sequence[TrialResult]) -> list[Finalist]:
    """Who enters the confirmation: the leading families, best first, and the baseline wherever it stands.

    The best two do whatever their values. The third does not where it reads more than `CLOSE` below the second: the
    first may be there by luck.
    """
    field = best_of_families(trials)
    least = field[:PURSUED][-1].value - CLOSE if field else 0.0
    leaders = [f for f in field[:LEADERS] if f.value >= least]
    return leaders + [f for f in field[len(leaders) :] if f.family == BASELINE]
