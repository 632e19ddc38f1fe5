"""The learning rates that the finalists are confirmed at: one grid for all, on the second search seed.

The finalists and the baseline complete the same grid (`sweeper.study.learning_rates`), with more at an end where the
best lies there. From these curves follow their good ranges.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from sweeper.core.records import Conditions, RateRange, SearchSpace, TrialResult, Tuned
from sweeper.study.finalist import Finalist, Need, recheck_of, second_seed
from sweeper.study.learning_rates import beyond, drawn_from, good_range, grid_of, is_one_rate, open_end, pooled
from sweeper.study.training_list import Key, key_of


def lacking_grid(
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
    specs = [recheck_of(f, conditions, lr=lr, seed=second) for lr in grid for f in entered]
    if specs := [spec for spec in specs if key_of(spec) not in have]:
        rates, names = ", ".join(f"{lr:.3g}" for lr in grid), ", ".join(dict.fromkeys(spec.family for spec in specs))
        return Need(tuple(specs), f"training every finalist at the same learning rates ({rates}): {names}")
    further = [(f, lr) for f in entered if (lr := beyond(curve_of(f, rechecks, conditions), space.lr)) is not None]
    specs = [recheck_of(f, conditions, lr=lr, seed=second) for f, lr in further]
    if specs := [spec for spec in specs if key_of(spec) not in have]:
        names = ", ".join(f"{spec.family} at {spec.lr:.3g}" for spec in specs)
        return Need(tuple(specs), f"the best learning rate lies at an end of those tried; going further: {names}")
    return None


def with_rates(
    entered: Sequence[Finalist],
    rechecks: Sequence[TrialResult],
    conditions: Conditions,
    tuned: Sequence[Tuned] = (),
) -> list[Finalist]:
    """The finalists with the learning rates that they are confirmed at, as far as the rechecks tell them.

    Where `tuned` holds those that were decided on from the same trainings, they stand: by whatever rule another version
    of sweeper read them off.
    """
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
