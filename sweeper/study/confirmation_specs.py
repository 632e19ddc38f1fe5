"""The confirmation: finalists trained again on fresh paired seeds, and scored on test. `rounds` says how many seeds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from sweeper.core.records import Conditions, TrialResult, TrialSpec
from sweeper.study.finalist import Finalist

SHOWN = 48
"""Test images whose predictions are kept, of each finalist's first seed, for the report's side-by-side figure."""


def confirm_seed(study_seed: int, number: int) -> int:
    """Seed of the number-th (from 0) confirmation of each finalist: never one of the search's."""
    return 1000 * (study_seed + 1) + number


def fold_numbers(folds: int | None) -> Sequence[int | None]:
    """The trainings that make up one seed of a finalist: one, or one for each fold."""
    return [None] if folds is None else range(folds)


def confirmations(finalists: Sequence[Finalist], conditions: Conditions, seeds: int) -> list[TrialSpec]:
    """`seeds` seeds of each finalist, seed by seed (and fold by fold), so that whatever is finished is paired."""
    folds = fold_numbers(conditions.folds)
    shown = -(-SHOWN // len(folds))
    return [
        finalist.trial.spec.model_copy(
            update={
                "purpose": "confirm",
                "seed": confirm_seed(conditions.seed, number),
                "lr": finalist.lr_of(number),
                "fold": fold,
                "steps": conditions.recipe.confirm_steps,
                "keep_predictions": shown if number == 0 else 0,
            }
        )
        for number in range(seeds)
        for fold in folds
        for finalist in finalists
    ]


def confirmed(
    results: Sequence[TrialResult],
    finalists: Sequence[Finalist],
    conditions: Conditions,
    seeds: Mapping[str, int] | int | None,
) -> list[TrialResult]:
    """Those completed confirmations that belong to these finalists and to their first `seeds` seeds.

    `seeds` may be told by family (one that is not named has none); None = all.

    With folds, of whole rotations alone: a seed that lacks a fold has not scored every image.
    """
    wanted = {f.trial.spec.loss: f for f in finalists}
    first = confirm_seed(conditions.seed, 0)
    of = {f.family: seeds.get(f.family, 0) if isinstance(seeds, Mapping) else seeds for f in finalists}
    steps = conditions.recipe.confirm_steps
    found = [
        r
        for r in results
        if r.state == "complete"
        and r.spec.steps == steps
        and (finalist := wanted.get(r.spec.loss)) is not None
        and ((most := of[finalist.family]) is None or 0 <= r.spec.seed - first < most)
        and (r.spec.seed >= first or not finalist.drawn)
        and r.spec.lr == finalist.lr_of(r.spec.seed - first)
    ]
    have: dict[object, set[int | None]] = defaultdict(set)
    for r in found:
        have[r.spec.loss, r.spec.seed].add(r.spec.fold)
    needed = set(fold_numbers(conditions.folds))
    return [r for r in found if have[r.spec.loss, r.spec.seed] >= needed]
