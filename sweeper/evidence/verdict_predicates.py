"""Predicates of the verdict: one finalist beats another, equals it, is safe to take, or has learned anything."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from sweeper.core.metrics import compute_iou
from sweeper.core.records import Comparison, Contest, Evidence, Interval
from sweeper.core.tasks import RULES, compute_median_point, guess_task
from sweeper.evidence.interim_analyses import DECIDING_SEEDS, count_common_seeds
from sweeper.evidence.intervals import PRIOR_DEGREES, Sums

LEARNED_MARGIN = 0.002
"""Margin in test mIoU by which a finalist must beat a constant answer to have learned anything; collapses are judged by
the same margin (`sweeper.training.scores`)."""
LEARNED_IOU = 0.05
"""Highest IoU of a class that counts as not learned."""
REGRET_TIE = 0.1
"""Expected regrets within this many hundredths (`Scale.hundredth`) of each other are a tie, which other grounds
break."""


def get_comparison(evidence: Contest, first: int, second: int) -> Comparison:
    """Return the comparison of `first` with `second`; `evidence.comparisons` has all ordered pairs, sorted."""
    return evidence.comparisons[first * (len(evidence.finalists) - 1) + second - (second > first)]


def get_difference(evidence: Contest, first: int, second: int) -> Interval:
    """Return the paired difference `first` − `second`."""
    return get_comparison(evidence, first, second).difference


def get_gain(evidence: Contest, first: int, second: int) -> Interval:
    """Return the difference with the innermost ends that all interim analyses so far show, and a value between them."""
    comparison = get_comparison(evidence, first, second)
    gap, low = comparison.difference, max(comparison.floor, comparison.difference.low)
    estimate = max(low, min(gap.estimate, comparison.ceiling))
    high = max(estimate, min(gap.high, comparison.ceiling))
    return gap.model_copy(update={"estimate": estimate, "low": low, "high": high})


def is_measured(evidence: Contest, i: int, j: int) -> bool:
    """Return whether both parts of the difference's variance could be estimated."""
    return count_common_seeds(evidence, i, j) >= 2 and count_units(evidence) >= 2


def has_enough_seeds(evidence: Contest, i: int, j: int) -> bool:
    """Return whether intervals of this pair may decide anything, which takes `DECIDING_SEEDS` common seeds."""
    return is_measured(evidence, i, j) and count_common_seeds(evidence, i, j) >= DECIDING_SEEDS


def was_dropped(evidence: Contest, first: int, rival: int) -> bool:
    """Return whether the race gave a rival too few seeds for an interval, as it could hardly change the action."""
    return count_common_seeds(evidence, first, rival) < DECIDING_SEEDS <= len(evidence.finalists[first].seeds)


def is_win(gap: Interval, margin: float) -> bool:
    """Return whether the interval of a measured difference is above 0 and its estimate at least the margin."""
    return gap.low > 0 and gap.estimate >= margin


def has_beaten(evidence: Contest, best: int, rival: int) -> bool:
    """Return whether `best` beat `rival` at any interim analysis: a beaten rival stays beaten."""
    comparison = get_comparison(evidence, best, rival)
    won = is_win(comparison.difference, evidence.margin) if comparison.won is None else comparison.won
    return has_enough_seeds(evidence, best, rival) and won


def is_beaten(evidence: Contest, i: int, rivals: Sequence[int]) -> bool:
    """Return whether one of these finalists, apart from itself, beat finalist `i`."""
    return any(has_beaten(evidence, rival, i) for rival in rivals if rival != i)


def is_equivalent(evidence: Contest, i: int, j: int) -> bool:
    """Return whether all interim analyses so far together put the difference within ± margin."""
    comparison = get_comparison(evidence, i, j)
    is_within = -evidence.margin <= comparison.floor and comparison.ceiling <= evidence.margin
    return is_within and has_enough_seeds(evidence, i, j)


def is_sound(evidence: Contest, i: int) -> bool:
    """Return whether the finalist learned, and no training of its configuration collapsed, in the search or later."""
    finalist = evidence.finalists[i]
    return has_learned(evidence, i) and finalist.collapses + finalist.collapses_in_search == 0


def is_safe(evidence: Contest, i: int, best: int, unbeaten: Sequence[int]) -> bool:
    """Return whether intervals establish that `i` costs at most the margin against any finalist that may be the best.

    Its score is within half the margin of the highest, and no unbeaten finalist can be better by more than the margin:
    a one-sided test of non-inferiority against each, all of which must succeed.
    """
    rivals = [g for g in {best, *unbeaten} if g != i]
    near = i == best or get_difference(evidence, best, i).estimate <= evidence.margin / 2
    if not near or not is_sound(evidence, i):
        return False
    return all(
        has_enough_seeds(evidence, g, i) and get_comparison(evidence, g, i).one_sided <= evidence.margin for g in rivals
    )


def is_probably_safe(evidence: Contest, i: int) -> bool:
    """Return whether the finalist costs at most the margin, with the probability of the printed bound.

    Always False where the test images come from too few groups to represent others: their variance is hardly known.
    """
    regret = evidence.finalists[i].regret
    if regret is None or evidence.few_groups is not None:
        return False
    return regret.bound <= evidence.margin + 1e-9


def is_costly(evidence: Contest, i: int) -> bool:
    """Return whether the finalist is expected to cost more than the margin against the best one."""
    regret = evidence.finalists[i].regret
    return regret is not None and regret.expected > evidence.margin


def has_learned(evidence: Contest, i: int) -> bool:
    """Return whether the finalist beats a constant answer by more than `LEARNED_MARGIN`, and learned another class.

    Where only scores are known, and no counts, it counts as learned.
    """
    finalist = evidence.finalists[i]
    if finalist.skill is None:
        return True
    return finalist.learns_class and finalist.skill > LEARNED_MARGIN


class Skill(NamedTuple):
    """What trainings learned, by the fields of a `Contender`."""

    skill: float | None = None
    learns_class: bool = True


def measure_skill(counts: Sums, miou: float, constant: float, *, is_exclusive: bool) -> Skill:
    """Measure what trainings learned beyond a constant answer.

    Args:
        counts: (S, C, 3) of each training, summed over the test images.
        miou: mean over these trainings.
        constant: mIoU of the best constant answer.
        is_exclusive: whether that answer is one class, the most common one; else it has all of them, or none.
    """
    labels = (counts[..., 0] + counts[..., 2]).max(axis=0)
    is_learned = (labels > 0) & (np.nan_to_num(compute_iou(counts)).max(axis=0) > LEARNED_IOU)
    is_learned[labels.argmax()] &= not is_exclusive
    return Skill(miou - constant, bool(is_learned.any()))


def choose_preferred(evidence: Contest, among: Sequence[int], order: Sequence[str], *, change: bool = False) -> int:
    """Choose which of several suitable finalists to use.

    The steps keep those that learned; of these the ones with the least expected regret (within `REGRET_TIE`; if one is
    unknown, with a score within the margin of the highest); then those within the margin of the best at the plain
    operating point; those that never collapsed; those whose learning rate is not at the edge of its range; of the rest
    the simplest. For a `change`, where all gain, regrets within the margin are a tie, and `rank_plainness` comes before
    simplicity.
    """
    near = evidence.margin if change else REGRET_TIE * evidence.scale.hundredth
    candidates = list(among)
    for keep in _STEPS:
        kept = [i for i in candidates if keep(evidence, i, candidates, near)]
        candidates = kept or candidates
    plain = rank_plainness if change else lambda *_: ()
    return min(candidates, key=lambda i: (*plain(evidence, i), *rank_simplicity(evidence, i, order)))


def _keep_least_regret(evidence: Contest, i: int, candidates: Sequence[int], near: float) -> bool:
    every = {k: evidence.finalists[k].regret for k in candidates}
    regrets = {k: regret for k, regret in every.items() if regret is not None}
    if len(regrets) < len(candidates):
        return all(get_difference(evidence, k, i).estimate <= evidence.margin + 1e-9 for k in candidates if k != i)
    return regrets[i].expected <= min(regret.expected for regret in regrets.values()) + near


def _keep_plainest(evidence: Contest, i: int, candidates: Sequence[int], _: float) -> bool:
    at_default = [evidence.finalists[k].score_at_default for k in candidates]
    return evidence.finalists[i].score_at_default >= max(at_default) - evidence.margin


_STEPS: tuple[Callable[[Contest, int, Sequence[int], float], bool], ...] = (
    lambda evidence, i, *_: has_learned(evidence, i),
    _keep_least_regret,
    _keep_plainest,
    lambda evidence, i, *_: is_sound(evidence, i),
    lambda evidence, i, *_: not evidence.finalists[i].lr_at_edge,
)


def rank_simplicity(evidence: Contest, i: int, order: Sequence[str]) -> tuple[int, str]:
    """Rank a finalist's family by its place in the declared order; families that are not in it come last, by name."""
    family = evidence.finalists[i].family
    return (order.index(family) if family in order else len(order), family)


def rank_plainness(evidence: Contest, i: int) -> tuple[float, ...]:
    """Rank a finalist by how little it asks of a user who changes to it; lower is plainer.

    The literature's defaults come before tuned values; then counts how far the operating point is from the plain one
    (in tenths), then the number of parameters.
    """
    if not isinstance(evidence, Evidence):
        return ()
    finalist, usual = evidence.finalists[i], RULES[evidence.task or guess_task(len(evidence.classes))].plain_point
    moved = float(np.abs(np.subtract(compute_median_point(finalist.points), usual)).max())
    return (not finalist.at_defaults, round(moved, 1), len(finalist.params))


def count_units(evidence: Contest) -> float:
    """Return the number of independent test images, or of groups of images.

    It is infinite where the conclusion is only about these images (`scope` is `trainings`).
    """
    if evidence.scope == "trainings":
        return math.inf
    return evidence.test_images if evidence.test_groups is None else evidence.test_groups


def count_image_degrees(evidence: Contest) -> float:
    """Return the degrees of freedom of the variance over test images, with those of the prior for few groups."""
    return count_units(evidence) - 1 + (PRIOR_DEGREES if evidence.few_groups else 0)
