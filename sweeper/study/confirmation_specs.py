"""Trainings of the confirmation and of the longer look: what is trained, and which results count."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence

from sweeper.core.records import Conditions, TrialResult, TrialSpec
from sweeper.study.finalist import Finalist

KEPT_PREDICTIONS = 48
"""Test images whose predictions are kept from each finalist's first seed, for the report's side-by-side figure."""


def derive_confirmation_seed(study_seed: int, number: int) -> int:
    """Return the seed of confirmation `number` (from 0) of each finalist: never one of the search's."""
    return 1000 * (study_seed + 1) + number


def list_fold_numbers(folds: int | None) -> Sequence[int | None]:
    """Return the folds of the trainings that make up one seed of a finalist; a single None without folds."""
    return [None] if folds is None else range(folds)


def make_confirmation_specs(finalists: Sequence[Finalist], conditions: Conditions, seeds: int) -> list[TrialSpec]:
    """Make `seeds` seeds of each finalist, ordered by seed, then fold, so that whatever is finished is paired."""
    folds = list_fold_numbers(conditions.folds)
    steps, kept = conditions.recipe.confirm_steps, -(-KEPT_PREDICTIONS // len(folds))
    return [
        _make_spec(
            finalist, conditions, "confirm", number, steps, fold=fold, keep_predictions=kept if number == 0 else 0
        )
        for number in range(seeds)
        for fold in folds
        for finalist in finalists
    ]


LONGER_FROM = 900
"""Number of the first seed of the longer trainings, beyond those of any confirmation."""


def make_longer_spec(finalist: Finalist, conditions: Conditions, times: int, number: int) -> TrialSpec:
    """Return the finalist's training on seed `number` (from 0) of the longer look, at `times` the steps."""
    steps = times * conditions.recipe.confirm_steps
    return _make_spec(finalist, conditions, "longer", LONGER_FROM + number, steps)


def _make_spec(
    finalist: Finalist, conditions: Conditions, purpose: str, number: int, steps: int, **more: int | None
) -> TrialSpec:
    """Return the finalist's training on seed `number` of the confirmation's, at the rate of that seed."""
    seed, lr = derive_confirmation_seed(conditions.seed, number), finalist.get_learning_rate(number)
    return finalist.trial.spec.model_copy(update={"purpose": purpose, "seed": seed, "lr": lr, "steps": steps, **more})


def select_longer_results(
    results: Sequence[TrialResult], finalists: Sequence[Finalist], conditions: Conditions
) -> list[TrialResult]:
    """Return the completed longer trainings of these finalists; only those with the most steps."""
    steps, matched = conditions.recipe.confirm_steps, _match_finalists(results, finalists, conditions)
    chosen = [r for r, _, _ in matched if r.spec.steps > steps and r.spec.steps % steps == 0]
    most = max((r.spec.steps for r in chosen), default=0)
    return [r for r in chosen if r.spec.steps == most]


def select_confirmed(
    results: Sequence[TrialResult],
    finalists: Sequence[Finalist],
    conditions: Conditions,
    seeds: Mapping[str, int] | int | None,
) -> list[TrialResult]:
    """Return the completed confirmations of these finalists on their first `seeds` seeds.

    `seeds` may be given by family (a missing family has none); None = all. A seed that lacks a fold is left out, as it
    has not scored every image.
    """
    seeds_by_family = {f.family: seeds.get(f.family, 0) if isinstance(seeds, Mapping) else seeds for f in finalists}
    chosen = [
        r
        for r, finalist, number in _match_finalists(results, finalists, conditions)
        if r.spec.steps == conditions.recipe.confirm_steps
        and ((most := seeds_by_family[finalist.family]) is None or 0 <= number < most)
    ]
    have: dict[object, set[int | None]] = defaultdict(set)
    for r in chosen:
        have[r.spec.loss, r.spec.seed].add(r.spec.fold)
    needed = set(list_fold_numbers(conditions.folds))
    return [r for r in chosen if have[r.spec.loss, r.spec.seed] >= needed]


def _match_finalists(
    results: Sequence[TrialResult], finalists: Sequence[Finalist], conditions: Conditions
) -> Iterator[tuple[TrialResult, Finalist, int]]:
    """Yield the completed trainings of finalists at their rates, with the finalist and the number of the seed."""
    by_loss = {finalist.trial.spec.loss: finalist for finalist in finalists}
    for r in results:
        finalist, number = by_loss.get(r.spec.loss), r.spec.seed - derive_confirmation_seed(conditions.seed, 0)
        if finalist is None or r.state != "complete" or (number < 0 and finalist.drawn):
            continue
        if r.spec.lr == finalist.get_learning_rate(number):
            yield r, finalist, number
