"""The finalists: the configuration of each leading family with the best level, and which may still be better.

Levels are estimated from all trainings before the confirmation (`sweeper.study.levels`), so that a single lucky trial
does not replace a configuration that was trained on four seeds. Configurations that may still be the best are
*replicated*: trained on the confirmation's first seeds, beside the one that leads. What they were trained on counts in
the confirmation, too.

Everything here is a function of stored results.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from math import inf
from typing import NamedTuple

from sweeper.core.records import Conditions, RateRange, SameLoss, SearchSpace, StudyRates, TrialResult, TrialSpec
from sweeper.space import get_middle_rate
from sweeper.study.budget_ladder import choose_ladder_pair
from sweeper.study.learning_rates import choose_drawn_range, draw_rate
from sweeper.study.levels import Levels, Loss, estimate_levels
from sweeper.study.loop import index_completed
from sweeper.study.same_loss import relabel_equivalent_trials

FINALISTS = 3
"""Most families that are confirmed, including the present loss. A fourth lowers the regret of simulated searches by
at most 0.0007 mIoU (docs/decisions.md) and takes a quarter of the confirmation."""


class Finalist(NamedTuple):
    """The best configuration of a family."""

    trial: TrialResult
    """Its search trial, or where it has none an earlier training of it."""
    rates: RateRange
    """Learning rates that its fresh seeds draw from."""
    level: float = 0.0
    """Its estimated level, relative to other finalists, in mIoU."""
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
        """The learning rate that represents the configuration: the middle of its rates."""
        return draw_rate(self.rates, 0)

    def get_learning_rate(self, number: int) -> float:
        """Return the learning rate of confirmation seed `number`, from 0."""
        return draw_rate(self.rates, number)

    @property
    def identity(self) -> str:
        """Key that matches it with its stored confirmations."""
        return str((*self.trial.spec.loss, self.rates.low, self.rates.high))

    @property
    def family(self) -> str:
        """Family of its loss."""
        return self.trial.spec.family


class TriedConfigurations(NamedTuple):
    """All configurations of a study that were trained to the end, under the names that they count for."""

    trials: tuple[TrialResult, ...]
    """Trials of the search, by number."""
    others: tuple[TrialResult, ...]
    """Trainings of ladder, rates, first look and replication."""
    levels: Levels
    by_loss: dict[Loss, Finalist]
    """The eligible ones, best level first: at least one of their trainings did not diverge."""


def collect_configurations(
    trials: Sequence[TrialResult],
    others: Sequence[TrialResult],
    rates: StudyRates,
    space: SearchSpace,
    conditions: Conditions,
    *,
    same: Sequence[SameLoss] = (),
) -> TriedConfigurations:
    """Collect the configurations with their levels.

    `others` are all trainings before the confirmation but the search's. Those at learning rates beyond the ones of the
    confirmation say nothing about a configuration's level there.
    """
    ranges = {name: choose_drawn_range(rate, space.lr) for name, rate in rates.by_family.items()}
    trials, others = (tuple(relabel_equivalent_trials(results, same)) for results in (trials, others))

    complete = [result for result in (*trials, *others) if result.state == "complete"]
    complete = [result for result in complete if result.spec.lr in ranges[result.spec.family]]
    levels = estimate_levels(complete, conditions.recipe.confirm_steps)
    tried = Counter(trial.spec.family for trial in trials)
    done = Counter(trial.spec.family for trial in trials if trial.state == "complete")
    known = {trial.spec.family for trial in trials if trial.state != "failed"}
    by_loss = dict[Loss, Finalist]()
    for result in filter(lambda result: result.has_score, complete):
        family, loss = result.spec.family, result.spec.loss
        if loss in by_loss:
            continue
        names = {each.family for each in same if each.is_family == family}
        by_loss[loss] = Finalist(
            trial=result,
            rates=ranges[family],
            level=levels.get_mean(loss),
            trained=tuple(other for other in complete if other.spec.loss == loss),
            tried=tried[family],
            completed=done[family],
            other_names=tuple(sorted(names - {family})) if known <= {family, *names} else (),
        )
    ranked = sorted(by_loss.items(), key=lambda one: -one[1].level)  # of equal ones the first that was trained
    return TriedConfigurations(trials, others, levels, dict(ranked))


def choose_finalists(tried: TriedConfigurations, space: SearchSpace) -> list[Finalist]:
    """Return the finalists, best first: the present loss wherever it ranks, and the best others, one of each family."""
    best = dict[str, Finalist]()
    for finalist in tried.by_loss.values():
        best.setdefault(finalist.family, finalist)
    field, present = list(best.values()), space.present.family
    others = [finalist for finalist in field if finalist.family != present]
    chosen = others[: count_finalists(space) - (len(others) < len(field))]
    return [finalist for finalist in field if finalist in chosen or finalist.family == present]


def count_finalists(space: SearchSpace) -> int:
    """Return the largest number of finalists: every loss where losses were named, and none is searched."""
    return max(FINALISTS, len(space.families)) if space.is_named else FINALISTS


def choose_first_pair(
    probes: Sequence[TrialResult], space: SearchSpace, conditions: Conditions, rates: StudyRates | None
) -> list[Finalist]:
    """Return the ladder's pair as trained at the search's steps, the present loss first; [] if one is lacking.

    Where no rates were found, the middle of those that the space allows stands for them.
    """
    trained = [r for r in probes if r.has_score and r.spec.steps == conditions.recipe.steps]
    by_family = {r.spec.family: r for r in reversed(trained)}
    pair = [name for name in choose_ladder_pair(space) if name in by_family]
    if len(pair) < 2:
        return []
    middle = get_middle_rate(space.lr)
    found = dict.fromkeys(pair, middle) if rates is None else rates.by_family
    return [Finalist(by_family[name], choose_drawn_range(found[name], space.lr)) for name in pair]


# --- Replication --------------------------------------------------------------------------------------------

REPLICATIONS = 2
"""Most seeds on which what may be the best is trained before the finalists are chosen."""
REPLICATED = 2
"""Most configurations that are trained beside the leader."""
NEAR_CHANCE = 0.2
"""Probability of a higher level than the leader's from which a configuration may be the best."""


def list_replications(
    tried: TriedConfigurations, space: SearchSpace, conditions: Conditions, number: int
) -> list[TrialSpec]:
    """Return the trainings of the leader and of what may be better on seed `number` (from 0); [] where nothing is near.

    The present loss takes no part.
    """
    others = [each for each in tried.by_loss.values() if each.family != space.present.family]
    if len(others) < 2:
        return []
    leader = others[0]
    chances = {
        each.trial.spec.loss: tried.levels.compute_chance(each.trial.spec.loss, leader.trial.spec.loss)
        for each in others[1:]
    }
    near = [each for each in others[1:] if chances[each.trial.spec.loss] >= NEAR_CHANCE]
    near.sort(key=lambda each: -chances[each.trial.spec.loss])
    if not near:
        return []
    have = index_completed(tried.others)
    specs = make_confirmation_specs([leader, *near[:REPLICATED]], conditions, number + 1, purpose="replicate")
    wanted = derive_confirmation_seed(conditions.seed, number)
    return [spec for spec in specs if spec.seed == wanted and spec.key not in have]


# --- Confirmations and final trainings: what is trained, and which results count ---

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

    `purpose` is `first` for the first look, and `replicate` before the finalists are chosen.
    """
    folds = list_fold_numbers(conditions.folds)
    steps, kept = conditions.recipe.confirm_steps, -(-KEPT_PREDICTIONS // len(folds))
    return [
        _make_spec(finalist, conditions, purpose, number, steps, fold=fold, keep_predictions=kept if number == 0 else 0)
        for number in range(seeds)
        for fold in folds
        for finalist in finalists
    ]


FINAL_FROM = 900
"""Number of the first seed of the final trainings, beyond those of any confirmation."""


def make_final_spec(finalist: Finalist, conditions: Conditions, steps: int, number: int) -> TrialSpec:
    """Return the finalist's final training on seed `number`, from 0; its network is kept."""
    kept = KEPT_PREDICTIONS if number == 0 else 1
    return _make_spec(finalist, conditions, "final", FINAL_FROM + number, steps, keep_predictions=kept)


def _make_spec(
    finalist: Finalist, conditions: Conditions, purpose: str, number: int, steps: int, **more: int | None
) -> TrialSpec:
    """Return the finalist's training on seed `number` of the confirmation's, at the rate of that seed."""
    seed, lr = derive_confirmation_seed(conditions.seed, number), finalist.get_learning_rate(number)
    return finalist.trial.spec.model_copy(update={"purpose": purpose, "seed": seed, "lr": lr, "steps": steps, **more})


def select_final_results(
    results: Sequence[TrialResult], finalists: Sequence[Finalist], conditions: Conditions
) -> list[TrialResult]:
    """Return the completed final trainings of these finalists; only those with the most steps."""
    chosen = [r for r, _, _ in _match_finalists(results, finalists, conditions)]
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
    most: Mapping[str, float]
    if isinstance(seeds, Mapping):
        most = seeds
    else:
        most = dict.fromkeys((f.family for f in finalists), inf if seeds is None else seeds)
    chosen = [
        r
        for r, finalist, number in _match_finalists(results, finalists, conditions)
        if r.spec.steps == conditions.recipe.confirm_steps and number < most.get(finalist.family, 0)
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
        if finalist is None or r.state != "complete" or number < 0:
            continue
        if r.spec.lr == finalist.get_learning_rate(number):
            yield r, finalist, number
