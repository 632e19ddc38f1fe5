"""Who enters the confirmation: leaders that a second search seed bears out, all tuned on the same learning rates.

The best of many noisy trials is partly luck, and the sampler tries one family more often than another. So before a
leader is believed,

- where the places are contested, the leaders and the first family after them are trained once more on a second search
  seed (other weights, batches and division). They are ranked by the mean of the two values; who diverges is out, and
  the next family takes its place;
- the finalists and the baseline complete the same grid of learning rates on that second seed (`sweeper.rates`), with
  more at an end where the best lies there. From that curve follow the rates at which they are confirmed.

Studies of earlier versions had no grid: each entrant had `RATES` rates, stopped trials counted, and was confirmed at
the best of them.

Everything here is a function of stored results. Trainings are asked for in waves, each of which is stored before it
begins and finished before the next is asked for: a study that was cut off amid one makes the same trainings as one that
ran through.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from typing import NamedTuple

from sweeper.rates import beyond, drawn_from, drawn_rate, good_range, grid_of, is_one_rate, middle_of, open_end, pooled
from sweeper.records import Collapse, Conditions, Coordinate, RateRange, SearchSpace, TrialResult, TrialSpec, Tuned
from sweeper.study.batch import Key, completed, key_of

BASELINE = "cross_entropy"
LEADERS = 3
"""Families that are confirmed, besides the baseline."""
RATES = 3
"""Learning rates that a finalist must have been tried with, at least."""
APART = 1.2
"""Learning rates nearer than this factor count as one."""
CONTESTED = 0.1
"""A leader by more than this above the first family that is left out needs no second seed: its place is safe. Single
trainings differ by 0.01 to 0.05 between seeds, more where they collapse."""
PLACES = (1 / 6, 1 / 3, 1 / 2, 2 / 3, 5 / 6)
"""Where in the logarithmic range of the learning rate missing ones are put."""


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


def choose_finalists(
    trials: Sequence[TrialResult],
    rechecks: Sequence[TrialResult],
    conditions: Conditions,
    leaders: int = LEADERS,
    tuned: Sequence[Tuned] = (),
) -> list[Finalist]:
    """The leading families' best configurations, best first by what both seeds say, and the baseline's in any case.

    With the learning rates that they are confirmed at, as far as the rechecks tell them. Where `tuned` holds those that
    were decided on from the same trainings, they stand: by whatever rule another version of sweeper read them off.
    """
    entered = _entered(trials, rechecks, conditions, leaders)
    if conditions.rates == "searched":
        return entered
    curves = [curve_of(finalist, rechecks, conditions) for finalist in entered]
    known = [curve or {f.trial.spec.lr: f.value} for f, curve in zip(entered, curves, strict=True)]
    drawn = conditions.rates == "drawn"
    rates = _decided(entered, known, tuned)
    if rates is None:
        good = [good_range(curve) for curve in pooled(known)]
        rates = list(drawn_from(good)) if drawn else good
    return [
        finalist._replace(
            tuned=own,
            curve=tuple(sorted(curve.items())),
            drawn=drawn,
            open_end=open_end(curve) is not None,
            trained=_trained_at(finalist, rechecks, conditions, own, drawn=drawn),
        )
        for finalist, own, curve in zip(entered, rates, known, strict=True)
    ]


def _decided(
    entered: Sequence[Finalist], curves: Sequence[dict[float, float]], tuned: Sequence[Tuned]
) -> list[RateRange] | None:
    """The rates that were decided on for these finalists by these curves; None where that is not so for all."""
    of: dict[tuple[object, ...], RateRange] = {
        (t.family, tuple(sorted(t.params.items())), t.curve): t.rates for t in tuned
    }
    found = [of.get((*f.trial.spec.loss, tuple(sorted(c.items())))) for f, c in zip(entered, curves, strict=True)]
    known = [rates for rates in found if rates is not None]
    return known if len(known) == len(entered) else None


def _trained_at(
    finalist: Finalist, rechecks: Sequence[TrialResult], conditions: Conditions, tuned: RateRange, *, drawn: bool
) -> tuple[TrialResult, ...]:
    """A finalist's complete trainings before the confirmation, at rates that it is confirmed at."""
    low, high = (tuned.low, tuned.high) if drawn else (tuned.best, tuned.best)
    same = (r for r in rechecks if r.spec.loss == finalist.trial.spec.loss and r.spec.steps == conditions.recipe.steps)
    return tuple(t for t in (finalist.trial, *same) if t.state == "complete" and low <= t.spec.lr <= high)


def curve_of(finalist: Finalist, rechecks: Sequence[TrialResult], conditions: Conditions) -> dict[float, float]:
    """Learning rate → value of the finalist's completed trainings on the second search seed; 0 where one diverged."""
    return {
        r.spec.lr: r.value or 0.0
        for r in rechecks
        if r.state == "complete"
        and r.spec.seed == second_seed(conditions.seed)
        and r.spec.steps == conditions.recipe.steps
        and r.spec.loss == finalist.trial.spec.loss
    }


def _entered(
    trials: Sequence[TrialResult], rechecks: Sequence[TrialResult], conditions: Conditions, leaders: int = LEADERS
) -> list[Finalist]:
    field = best_of_families(trials, rechecks, conditions)
    ranked = sorted(_rivals(field, leaders), key=lambda f: (-f.belief, f.origin))
    entered = ranked[:leaders]
    return entered + [f for f in field if f.family == BASELINE and f not in entered]


def what_is_needed(
    trials: Sequence[TrialResult],
    rechecks: Sequence[TrialResult],
    space: SearchSpace,
    conditions: Conditions,
    *,
    given_up: Collection[Key] = (),
) -> Need | None:
    """The next trainings to be made before the finalists can be chosen; None when they can.

    Args:
        trials: results of the search.
        rechecks: results of the rechecks so far.
        space: for the range of the learning rate.
        conditions: the study's.
        given_up: keys of trainings that failed and are not to be asked for again.
    """
    field = best_of_families(trials, rechecks, conditions)
    rivals = _rivals(field, LEADERS)
    have = {*completed(rechecks), *given_up}
    old = conditions.rates == "searched"
    if old and (need := _lacking_rates(trials, rechecks, space, conditions, have)):
        return need
    specs = [_recheck(f, conditions, seed=second_seed(conditions.seed)) for f in _contested(field, rivals)]
    if specs := [spec for spec in specs if key_of(spec) not in have]:
        names = ", ".join(spec.family for spec in specs)
        return Need(tuple(specs), f"training the leaders on a second seed before they are believed: {names}")
    return None if old else _grid(_entered(trials, rechecks, conditions), rechecks, space, conditions, have)


def _grid(
    entered: Sequence[Finalist],
    rechecks: Sequence[TrialResult],
    space: SearchSpace,
    conditions: Conditions,
    have: Collection[Key],
) -> Need | None:
    """What the finalists' common grid of learning rates lacks, then what its ends do."""
    if is_one_rate(space.lr):
        return None
    second = second_seed(conditions.seed)
    grid = grid_of([f.trial.spec.lr for f in entered], space.lr)
    specs = [_recheck(f, conditions, lr=lr, seed=second) for lr in grid for f in entered]
    if specs := [spec for spec in specs if key_of(spec) not in have]:
        rates, names = ", ".join(f"{lr:.3g}" for lr in grid), ", ".join(dict.fromkeys(spec.family for spec in specs))
        return Need(tuple(specs), f"training every finalist at the same learning rates ({rates}): {names}")
    further = [(f, lr) for f in entered if (lr := beyond(curve_of(f, rechecks, conditions), space.lr)) is not None]
    specs = [_recheck(f, conditions, lr=lr, seed=second) for f, lr in further]
    if specs := [spec for spec in specs if key_of(spec) not in have]:
        names = ", ".join(f"{spec.family} at {spec.lr:.3g}" for spec in specs)
        return Need(tuple(specs), f"the best learning rate lies at an end of those tried; going further: {names}")
    return None


def _lacking_rates(
    trials: Sequence[TrialResult],
    rechecks: Sequence[TrialResult],
    space: SearchSpace,
    conditions: Conditions,
    have: Collection[Key],
) -> Need | None:
    """As earlier versions asked: each entrant is to be tried with `RATES` learning rates, stopped trials included."""
    field = best_of_families(trials, rechecks, conditions)
    rivals = _rivals(field, LEADERS)
    entrants = [*rivals, *(f for f in field if f.family == BASELINE and f not in rivals)]
    rates = {f.family: _missing_rates(f, trials, rechecks, space.lr, conditions.seed) for f in entrants}
    specs = [_recheck(f, conditions, lr=lr) for f in entrants for lr in rates[f.family]]
    if specs := [spec for spec in specs if key_of(spec) not in have]:
        families = dict.fromkeys(spec.family for spec in specs)
        lacking = "; ".join(f"{f} at {', '.join(f'{s.lr:g}' for s in specs if s.family == f)}" for f in families)
        return Need(
            tuple(specs),
            f"each finalist is to be tried with at least {RATES} learning rates, and the search gave fewer: training "
            f"{lacking}",
        )
    return None


def _rivals(field: Sequence[Finalist], leaders: int) -> list[Finalist]:
    """The leaders by the search's own values and the first family after them, but for those that diverged since."""
    return [f for f in field if not f.diverged][: leaders + 1]


def _contested(field: Sequence[Finalist], rivals: Sequence[Finalist]) -> list[Finalist]:
    """Rivals whose place a second seed could change: none where every family enters anyhow."""
    if len(rivals) <= LEADERS:
        return []
    near = [f for f in rivals if f.value - rivals[LEADERS].value <= CONTESTED]
    return near if len(near) > 1 else []


def _origin(trial: TrialResult, trials: Sequence[TrialResult]) -> int:
    """The search trial with the same coordinates: the best of those that completed.

    A stopped one's value is from fewer steps and a part of the images.
    """
    if trial.spec.purpose == "search":
        return trial.spec.number
    same = [t for t in trials if (t.spec.family, t.spec.params) == (trial.spec.family, trial.spec.params)]
    return max(same, key=lambda t: (t.state == "complete", t.value or 0.0, -t.spec.number)).spec.number


def _recheck(
    finalist: Finalist, conditions: Conditions, *, lr: float | None = None, seed: int | None = None
) -> TrialSpec:
    spec = finalist.trial.spec
    return spec.model_copy(
        update={
            "purpose": "recheck",
            "number": 0,
            "lr": spec.lr if lr is None else lr,
            "seed": conditions.seed if seed is None else seed,
        }
    )


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
