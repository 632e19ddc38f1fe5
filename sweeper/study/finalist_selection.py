"""Who enters the confirmation: leaders that a second search seed bears out, all tuned on the same learning rates.

The best of many noisy trials is partly luck, and the sampler tries one family more often than another. So before a
family is a finalist,

- where the places are contested, the leaders and the first family after them are trained once more on a second search
  seed (other weights, batches and division). They are ranked by the mean of the two values; who diverges is out, and
  the next family takes its place;
- the finalists and the baseline complete the same grid of learning rates on that second seed
  (`sweeper.study.learning_rates`), with more at an end where the best lies there. From that curve follow the rates at
  which they are confirmed.

Studies of earlier versions had no grid (`sweeper.study.earlier_rates`).

Everything here is a function of stored results. Trainings are asked for in waves, each of which is stored before it
begins and finished before the next is asked for: a study that was cut off during one makes the same trainings as one
that ran through.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sweeper.core.records import Conditions, SearchSpace, TrialResult, Tuned
from sweeper.study.earlier_rates import lacking_rates
from sweeper.study.finalist import (
    BASELINE,
    LEADERS,
    Finalist,
    Need,
    best_of_families,
    recheck_of,
    rivals_of,
    second_seed,
)
from sweeper.study.finalist_rates import lacking_grid, with_rates
from sweeper.study.training_list import Key, completed, key_of

CONTESTED = 0.1
"""A leader by more than this above the first family that is left out needs no second seed: its place is safe. Single
trainings differ by 0.01 to 0.05 between seeds, more where they collapse."""


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
    return entered if conditions.rates == "searched" else with_rates(entered, rechecks, conditions, tuned)


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
    rivals = rivals_of(field, LEADERS)
    have = {*completed(rechecks), *given_up}
    old = conditions.rates == "searched"
    if old and (need := lacking_rates(trials, rechecks, space, conditions, have)):
        return need
    specs = [recheck_of(f, conditions, seed=second_seed(conditions.seed)) for f in _contested(field, rivals)]
    if specs := [spec for spec in specs if key_of(spec) not in have]:
        names = ", ".join(spec.family for spec in specs)
        return Need(tuple(specs), f"training the leaders on a second seed, as one training may be lucky: {names}")
    return None if old else lacking_grid(_entered(trials, rechecks, conditions), rechecks, space, conditions, have)


def _entered(
    trials: Sequence[TrialResult], rechecks: Sequence[TrialResult], conditions: Conditions, leaders: int = LEADERS
) -> list[Finalist]:
    field = best_of_families(trials, rechecks, conditions)
    ranked = sorted(rivals_of(field, leaders), key=lambda f: (-f.belief, f.origin))
    entered = ranked[:leaders]
    return entered + [f for f in field if f.family == BASELINE and f not in entered]


def _contested(field: Sequence[Finalist], rivals: Sequence[Finalist]) -> list[Finalist]:
    """Rivals whose place a second seed could change: none where every family enters anyhow."""
    if len(rivals) <= LEADERS:
        return []
    near = [f for f in rivals if f.value - rivals[LEADERS].value <= CONTESTED]
    return near if len(near) > 1 else []
