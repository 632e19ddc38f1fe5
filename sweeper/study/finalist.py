"""The finalists: the best configuration of each leading family, and the learning rates of its confirmation.

All finalists are confirmed around the optimum that is fitted to the complete trials of all families
(`sweeper.study.learning_rates`). A finalist whose own best rate is more than `FAR_RATE_DECADES` from it is trained at
the optimum, too, on the search's seed. Where its own rate is better by more than `CLEAR_RATE_GAIN`, after shrinking the
difference for luck, it draws from a range around its own rate instead, at the same quantiles.

Everything here is a function of stored results.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from sweeper.core.records import Conditions, RateFit, RateRange, SameLoss, SearchSpace, TrialResult, TrialSpec
from sweeper.study.budget_ladder import choose_ladder_pair
from sweeper.study.learning_rates import NOISE, UNIT, choose_confirmation_range, draw_rate, fit_rates, is_one_rate
from sweeper.study.loop import index_completed

FINALISTS = 3
"""Most families that are confirmed, including the present loss. A fourth lowers the regret of simulated searches by
at most 0.0007 mIoU (docs/decisions.md) and takes a quarter of the confirmation."""


class Finalist(NamedTuple):
    """The best configuration of a family."""

    trial: TrialResult
    """Its best search trial."""
    rates: RateRange | None = None
    """Learning rates of its confirmation; None before they are known, and where a single rate is searched."""
    drawn: RateRange | None = None
    """`rates` if each seed of the confirmation draws one of them; None = all use the best."""
    trained: tuple[TrialResult, ...] = ()
    """Its complete trainings before the confirmation, at rates within those of the confirmation."""
    tried: int = 0
    """Search trials of its family."""
    completed: int = 0
    """Number of these trials that were trained to the end."""
    other_names: tuple[str, ...] = ()
    """Families that are the same function on these data, if nothing else was tried."""

    @property
    def lr(self) -> float:
        """The learning rate that represents the configuration."""
        if self.drawn is not None:
            return draw_rate(self.drawn, 0)
        return self.trial.spec.lr if self.rates is None else self.rates.best

    def get_learning_rate(self, number: int) -> float:
        """Return the learning rate of confirmation seed `number`, from 0."""
        return self.lr if self.drawn is None else draw_rate(self.drawn, number)

    @property
    def identity(self) -> str:
        """Key that matches it with its stored confirmations."""
        rate = (self.lr,) if self.drawn is None else (self.drawn.low, self.drawn.high)
        return str((*self.trial.spec.loss, *rate))

    @property
    def family(self) -> str:
        """Family of its loss."""
        return self.trial.spec.family

    @property
    def value(self) -> float:
        """Value of its search trial."""
        return self.trial.score


def select_best_of_families(trials: Sequence[TrialResult]) -> list[Finalist]:
    """Return the best completed trial of each family, best first.

    Diverged trials are not eligible. Ties go to the earlier trial.
    """
    best: dict[str, TrialResult] = {}
    for trial in sorted(trials, key=lambda trial: (-trial.score, trial.spec.number)):
        if trial.has_score:
            best.setdefault(trial.spec.family, trial)
    tried = Counter(trial.spec.family for trial in trials)
    done = Counter(trial.spec.family for trial in trials if trial.state == "complete")
    return [Finalist(t, tried=tried[family], completed=done[family]) for family, t in best.items()]


def count_finalists(space: SearchSpace) -> int:
    """Return the largest number of finalists: every loss where losses were named, and only their rate is searched."""
    return max(FINALISTS, len(space.families)) if space.is_named else FINALISTS


def select_finalist_families(trials: Sequence[TrialResult], space: SearchSpace) -> list[Finalist]:
    """Return the finalists, best first: the present loss wherever it ranks, and the best others."""
    field, present = select_best_of_families(trials), space.present.family
    others = [f for f in field if f.family != present]
    chosen = others[: count_finalists(space) - (len(others) < len(field))]
    return [f for f in field if f in chosen or f.family == present]


FAR_RATE_DECADES = 0.3
"""Decades between a finalist's own best rate and the common optimum beyond which both are tried."""
CLEAR_RATE_GAIN = 1.5 * UNIT
"""mIoU by which its own rate must be better, after shrinkage."""
SIGNAL_SHARE = 0.03**2 / (0.03**2 + 2 * NOISE**2)
"""Part of a difference between two trainings that is not luck: losses differ by some 0.03 between such rates, and each
training has its noise."""


def fit_common_rate(trials: Sequence[TrialResult], space: SearchSpace) -> RateFit | None:
    """Return the common optimum by the search's complete trials; None if a single rate is searched."""
    if is_one_rate(space.lr):
        return None
    return fit_rates([trial for trial in trials if trial.state == "complete"], space.lr)


def find_pending_rechecks(
    trials: Sequence[TrialResult], rechecks: Sequence[TrialResult], fit: RateFit | None, space: SearchSpace
) -> list[TrialSpec]:
    """Return the trainings that are needed before the finalists can be chosen.

    `rechecks` are trainings of finalists at the common optimum `fit`, which is None where a single rate is searched.
    """
    if fit is None:
        return []
    have = index_completed(rechecks)
    return [
        spec
        for f in select_finalist_families(trials, space)
        if _is_far_from_optimum(f, fit) and (spec := _make_recheck_spec(f, fit)).key not in have
    ]


def choose_finalists(
    trials: Sequence[TrialResult],
    rechecks: Sequence[TrialResult],
    fit: RateFit | None,
    space: SearchSpace,
    conditions: Conditions,
    *,
    same: Sequence[SameLoss] = (),
) -> list[Finalist]:
    """Return the best configurations of the leading families and the present loss, with their confirmation rates.

    `trials` are already relabelled as the families that they count for; `same` has their other names.
    """
    finalists, tried = [], {t.spec.family for t in trials if t.state != "failed"}
    for entrant in select_finalist_families(trials, space):
        spec, finalist = entrant.trial.spec, entrant
        low = high = spec.lr
        if fit is not None:
            best = spec.lr if _keeps_own_rate(entrant, rechecks, fit) else fit.best
            finalist = _set_rates(entrant, best, space, conditions, is_shared=best == fit.best)
            low, high = (best, best) if finalist.drawn is None else (finalist.drawn.low, finalist.drawn.high)
        trained = (t for t in (*trials, *rechecks) if t.spec.loss == spec.loss and t.state == "complete")
        names = {s.family for s in same if s.is_family == spec.family}
        finalists.append(
            finalist._replace(
                trained=tuple(t for t in trained if low <= t.spec.lr <= high),
                other_names=tuple(sorted(names - {spec.family})) if tried <= {spec.family, *names} else (),
            )
        )
    return finalists


def _set_rates(
    finalist: Finalist, best: float, space: SearchSpace, conditions: Conditions, *, is_shared: bool
) -> Finalist:
    rates = choose_confirmation_range(best, space.lr).model_copy(update={"shared": is_shared})
    return finalist._replace(rates=rates, drawn=rates if conditions.rates == "drawn" else None)


def choose_first_pair(probes: Sequence[TrialResult], space: SearchSpace, conditions: Conditions) -> list[Finalist]:
    """Return the ladder's pair as it was trained at the search's steps, the present loss first; [] if one is lacking.

    Each seed of the first look draws its learning rate around the middle of those that are searched.
    """
    trained = [r for r in probes if r.has_score and r.spec.steps == conditions.recipe.steps]
    pair = [Finalist(r) for name in choose_ladder_pair(space) for r in trained if r.spec.family == name]
    if len(pair) < 2 or is_one_rate(space.lr):
        return pair if len(pair) > 1 else []
    return [_set_rates(f, f.trial.spec.lr, space, conditions, is_shared=True) for f in pair]


def _keeps_own_rate(finalist: Finalist, rechecks: Sequence[TrialResult], fit: RateFit) -> bool:
    if not _is_far_from_optimum(finalist, fit):
        return False
    recheck = index_completed(rechecks).get(_make_recheck_spec(finalist, fit).key)
    return recheck is not None and SIGNAL_SHARE * (finalist.value - recheck.score) > CLEAR_RATE_GAIN


def _is_far_from_optimum(finalist: Finalist, fit: RateFit) -> bool:
    return abs(math.log10(finalist.trial.spec.lr / fit.best)) > FAR_RATE_DECADES


def _make_recheck_spec(finalist: Finalist, fit: RateFit) -> TrialSpec:
    """Return the finalist's search training with the learning rate of the common optimum."""
    return finalist.trial.spec.model_copy(update={"purpose": "recheck", "number": 0, "lr": fit.best})


# --- Trainings of the confirmation and of the longer look: what is trained, and which results count ---

KEPT_PREDICTIONS = 48
"""Test images whose predictions are kept from each finalist's first seed, for the report's side-by-side figure."""


def derive_confirmation_seed(study_seed: int, number: int) -> int:
    """Return the seed of confirmation `number` (from 0) of each finalist: never one of the search's."""
    return 1000 * (study_seed + 1) + number


def list_fold_numbers(folds: int | None) -> Sequence[int | None]:
    """Return the folds of the trainings that make up one seed of a finalist; a single None without folds."""
    return [None] if folds is None else range(folds)


def make_confirmation_specs(
    finalists: Sequence[Finalist], conditions: Conditions, seeds: int, *, purpose: str = "confirm"
) -> list[TrialSpec]:
    """Make `seeds` seeds of each finalist, ordered by seed, then fold, so that whatever is finished is paired.

    `purpose` is `first` for the first look, which no choice of a finalist depends on, so that its seeds are as fresh.
    """
    folds = list_fold_numbers(conditions.folds)
    steps, kept = conditions.recipe.confirm_steps, -(-KEPT_PREDICTIONS // len(folds))
    return [
        _make_spec(finalist, conditions, purpose, number, steps, fold=fold, keep_predictions=kept if number == 0 else 0)
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
