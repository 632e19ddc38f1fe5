"""A finalist: the best configuration of a family, as the search and the trainings before the confirmation know it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from sweeper.core.records import Collapse, Conditions, RateRange, TrialResult, TrialSpec
from sweeper.study.learning_rates import drawn_rate, middle_of

BASELINE = "cross_entropy"
LEADERS = 3
"""Families that are confirmed, besides the baseline."""


class Finalist(NamedTuple):
    """The best configuration of a family, as the search and the rechecks know it."""

    trial: TrialResult
    """The training it is best in: a search trial, or a recheck at another learning rate."""
    origin: int
    """Number of the search trial that its coordinates come from."""
    second: TrialResult | None
    """Its training on the second search seed."""
    tuned: RateRange | None = None
    """Its good learning rates, and the best, as the grid told; None before it, and in studies of earlier versions."""
    curve: tuple[tuple[float, float], ...] = ()
    """(learning rate, value), from which they were read."""
    drawn: bool = False
    """Whether each seed of the confirmation draws a rate from these; else all use the best."""
    open_end: bool = False
    """Whether its best rate is the lowest or the highest that was tried."""
    trained: tuple[TrialResult, ...] = ()
    """Its trainings before the confirmation, at the rates that it is confirmed at."""

    @property
    def lr(self) -> float:
        """The learning rate that stands for the configuration."""
        if self.tuned is None:
            return self.trial.spec.lr
        return middle_of(self.tuned) if self.drawn else self.tuned.best

    def lr_of(self, number: int) -> float:
        """The learning rate of its `number`-th confirmation seed, from 0."""
        return drawn_rate(self.tuned, number) if self.drawn and self.tuned is not None else self.lr

    @property
    def text(self) -> str:
        """What its confirmations are known by."""
        if not self.drawn or self.tuned is None:
            return str((*self.trial.spec.loss, self.lr))
        return str((*self.trial.spec.loss, self.tuned.low, self.tuned.high))

    @property
    def family(self) -> str:
        """Its loss."""
        return self.trial.spec.family

    @property
    def value(self) -> float:
        """The search's value, on its own seed."""
        return self.trial.value or 0.0

    @property
    def belief(self) -> float:
        """Mean over the search seeds it was trained on."""
        return self.value if self.second is None else (self.value + (self.second.value or 0.0)) / 2

    @property
    def diverged(self) -> bool:
        """Whether the second seed ended in NaN or infinity."""
        return self.second is not None and self.second.collapse == Collapse.DIVERGED


class Need(NamedTuple):
    """Trainings that the choice of finalists waits for, and why, in a sentence."""

    specs: tuple[TrialSpec, ...]
    why: str


def second_seed(study_seed: int) -> int:
    """The second search seed: neither the search's nor one of the confirmation's (which are at most 100)."""
    return 1000 * (study_seed + 1) + 999


def best_of_families(
    trials: Sequence[TrialResult], rechecks: Sequence[TrialResult], conditions: Conditions
) -> list[Finalist]:
    """The best completed training of each family on the search seed, best first; diverged ones are not eligible.

    Ties go to the earlier training, search trials before rechecks.
    """
    again = [r for r in rechecks if r.spec.steps == conditions.recipe.steps]
    on_second = {
        r.spec.configuration: r for r in again if r.state == "complete" and r.spec.seed == second_seed(conditions.seed)
    }
    best: dict[str, TrialResult] = {}
    for trial in (*trials, *(r for r in again if r.spec.seed == conditions.seed)):
        if trial.state != "complete" or trial.value is None or trial.collapse == Collapse.DIVERGED:
            continue
        held = best.get(trial.spec.family)
        if held is None or trial.value > (held.value or 0.0):
            best[trial.spec.family] = trial
    found = [Finalist(t, _origin(t, trials), on_second.get(t.spec.configuration)) for t in best.values()]
    return sorted(found, key=lambda f: (-f.value, f.origin))


def rivals_of(field: Sequence[Finalist], leaders: int) -> list[Finalist]:
    """The leaders by the search's own values and the first family after them, but for those that diverged since."""
    return [f for f in field if not f.diverged][: leaders + 1]


def recheck_of(
    finalist: Finalist, conditions: Conditions, *, lr: float | None = None, seed: int | None = None
) -> TrialSpec:
    """A training of the finalist's configuration before the confirmation, at another learning rate or seed."""
    spec = finalist.trial.spec
    return spec.model_copy(
        update={
            "purpose": "recheck",
            "number": 0,
            "lr": spec.lr if lr is None else lr,
            "seed": conditions.seed if seed is None else seed,
        }
    )


def _origin(trial: TrialResult, trials: Sequence[TrialResult]) -> int:
    """The search trial with the same coordinates: the best of those that completed.

    A stopped one's value is from fewer steps and a part of the images.
    """
    if trial.spec.purpose == "search":
        return trial.spec.number
    same = [t for t in trials if (t.spec.family, t.spec.params) == (trial.spec.family, trial.spec.params)]
    return max(same, key=lambda t: (t.state == "complete", t.value or 0.0, -t.spec.number)).spec.number
