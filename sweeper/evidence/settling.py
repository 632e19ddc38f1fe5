"""What would settle an open answer: more seeds, or more test images.

The variances of a measured difference (`sweeper.evidence.intervals`) are taken at face value and scaled: the seed part
by 1 / seeds, the image part by 1 / images, the interaction by 1 / (seeds × images). The critical value follows from
their degrees of freedom and the level of the interim analysis at which that many seeds are complete. It is a planning
figure: the estimate itself will move when it is measured again. Where test images come in groups, groups are counted.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from math import ceil, isfinite
from typing import NamedTuple

from sweeper.core.records import Contest, InterimAnalysis, Interval, Outcome, Sure
from sweeper.evidence.choice import Choice
from sweeper.evidence.interim_analyses import DECIDING_SEEDS, count_common_seeds, foresee_level, share_error
from sweeper.evidence.intervals import compute_half_width, scale_variances
from sweeper.evidence.verdict_predicates import (
    count_units,
    get_comparison,
    get_difference,
    has_beaten,
    has_enough_seeds,
    is_costly,
    is_equivalent,
    was_dropped,
)

MOST_SEEDS = 50
"""More trainings of each finalist than this are not proposed."""
MOST_IMAGES = 1_000_000
CONFIRM_SEEDS, RATES, RATE_SHARE = (DECIDING_SEEDS, 5), (1 / 3, 1.0, 3.0), 0.25
"""Defaults of a comparison in the user's script: fewest and most seeds; factors on the script's learning rate, and the
share of its length at which they are tried."""


class SettlingPlan(NamedTuple):
    """What would settle an open answer, if estimate and noise stay as they are."""

    rivals: tuple[int, ...]
    """Finalists whose comparison is open."""
    now: float
    """Common seeds so far; infinite where seeds do not vary."""
    seeds: int | None
    """Seeds of each that would settle it; None = no number up to `MOST_SEEDS`."""
    images: int | None
    """Test images (or groups) that would, rounded up to two digits; None = none up to `MOST_IMAGES`."""


def plan_settling(contest: Contest, choice: Choice) -> SettlingPlan | None:
    """Plan what would settle the answer; None where nothing is open."""
    if choice.use is None or choice.best is None:
        return None
    is_costly_change = choice.outcome is Outcome.CHANGE and is_costly(contest, choice.use)
    is_closed = choice.sure is Sure.ESTABLISHED and not is_costly_change
    if is_closed or choice.faded is not None:
        return None
    is_kept = choice.outcome is Outcome.KEEP
    pivot = choice.use if is_kept else choice.best  # the question: can another gain, or which is best
    rivals = list_open_rivals(contest, pivot) if is_kept else _list_open_pairs(contest, choice)
    if not rivals:
        return None
    now = min(count_common_seeds(contest, pivot, i) for i in rivals)
    if now < DECIDING_SEEDS or count_units(contest) < 2:
        least = DECIDING_SEEDS + 1  # one more than three, as the losses may not find the same classes
        return SettlingPlan(tuple(rivals), now, least if count_units(contest) >= 2 else None, None)
    targets = {i: _compute_target(contest, i, pivot, is_kept=is_kept) for i in rivals}
    share = share_error(is_kept * (len(contest.finalists) - 1))
    analyses = [analysis.model_copy(update={"error": analysis.error * share}) for analysis in contest.analyses]
    needed = [
        count_needed(
            get_difference(contest, i, pivot),
            (count_common_seeds(contest, i, pivot), count_units(contest)),
            target,
            analyses,
        )
        for i, target in targets.items()
    ]
    seeds, images = ([n for n in counts if n is not None] for counts in zip(*needed, strict=True))
    most_seeds = max(seeds) if len(seeds) == len(rivals) else None
    most_images = _round_up(max(images)) if len(images) == len(rivals) else None
    return SettlingPlan(tuple(rivals), now, most_seeds, most_images)


def _list_open_pairs(contest: Contest, choice: Choice) -> list[int]:
    """Return the finalists that may be better than the best, or as good, without being shown to be."""
    best, pairs = choice.best or 0, []
    for i in choice.unbeaten:
        is_shown = is_equivalent(contest, best, i) or has_beaten(contest, i, best)
        is_out = contest.baseline is not None and was_dropped(contest, best, i)
        if not (is_shown or is_out):
            pairs.append(i)
    return pairs


def may_gain(contest: Contest, i: int, base: int) -> bool:
    """Return whether a finalist may gain more than the margin over the present loss."""
    return not has_enough_seeds(contest, i, base) or get_comparison(contest, i, base).one_sided > contest.margin


def list_open_rivals(contest: Contest, base: int) -> list[int]:
    """Return the finalists whose comparison with the present loss settles the answer while it is kept.

    It is the one with the highest gain if that is at least the margin, as one established gain is enough; else all that
    may gain more. Those that the race gave too few seeds for an interval can hardly change the answer.
    """
    others = [i for i in range(len(contest.finalists)) if i != base]
    trained = [i for i in others if not was_dropped(contest, base, i)]
    rivals = [i for i in trained if may_gain(contest, i, base)]
    gains = {i: get_difference(contest, i, base).estimate for i in rivals}
    best = max(rivals, key=gains.__getitem__, default=base)
    is_enough = bool(rivals) and gains[best] >= contest.margin
    return [best] if is_enough else rivals


def find_rival(contest: Contest, use: int) -> int | None:
    """Return what the used loss is shown and trained with: the present loss, or the best other if that is used.

    Without a present loss it is the first other one; None without any.
    """
    base = contest.baseline
    if base is None:
        return next((i for i in range(len(contest.finalists)) if i != use), None)
    return find_best_other(contest) if use == base else base


def find_best_other(contest: Contest) -> int | None:
    """Return the most promising finalist other than the present loss: first those whose gain may exceed the margin.

    Finalists with too few seeds for a bound rank with those whose gain is within the margin; within a rank the highest
    estimate comes first. None without a present loss, or if all trainings of every other finalist collapsed.
    """
    base = contest.baseline
    others = [i for i, f in enumerate(contest.finalists) if i != base and f.collapses < f.trainings]
    if base is None or not others:
        return None

    def rank(i: int) -> tuple[bool, float, int]:
        is_open = has_enough_seeds(contest, i, base) and may_gain(contest, i, base)
        return is_open, get_difference(contest, i, base).estimate, -i

    return max(others, key=rank)


def _compute_target(contest: Contest, rival: int, pivot: int, *, is_kept: bool) -> float:
    """Return the half-width below which the rival's difference would be a win, or bounded by the margin.

    While the present loss is kept, only a gain over it counts; else a difference either way.
    """
    gain = get_difference(contest, rival, pivot).estimate
    size = gain if is_kept else abs(gain)
    return size if size >= contest.margin else contest.margin - size


def plan_half_width(
    gap: Interval, now: tuple[float, float], then: tuple[float, float], analyses: Sequence[InterimAnalysis] = ()
) -> float:
    """Compute the half-width that a difference measured with `now` (seeds, images) would have with `then`, both ≥ 2."""
    more_seeds, more_images = (b / a if isfinite(a) else 1.0 for a, b in zip(now, then, strict=True))
    v_seed, v_image = scale_variances(gap, seeds=more_seeds, images=more_images)
    return compute_half_width(
        v_seed, then[0], v_image, then[1], foresee_level(analyses, then[0]), borrowed=gap.borrowed
    )


def count_needed(
    gap: Interval, now: tuple[float, float], target: float, analyses: Sequence[InterimAnalysis] = ()
) -> tuple[int | None, int | None]:
    """Return the fewest seeds, and the fewest test images, that would each bring the half-width below `target`.

    They are more than `now` (seeds, images); None beyond `MOST_SEEDS` and `MOST_IMAGES`.
    """
    seeds, images = now

    def is_enough(more_seeds: float, more_images: float) -> bool:
        return plan_half_width(gap, now, (more_seeds, more_images), analyses) < target

    return (
        _find_fewest(lambda count: is_enough(count, images), seeds + 1, MOST_SEEDS),
        _find_fewest(lambda count: is_enough(seeds, count), images + 1, MOST_IMAGES),
    )


def _find_fewest(enough: Callable[[int], bool], least: float, high: int) -> int | None:
    """Find the smallest count in [least, high] that is enough, by bisection (more is never worse)."""
    if least > high or not enough(high):
        return None
    return int(least) + bisect_left(range(int(least), high), True, key=enough)


def _round_up(count: int) -> int:
    """Round a count up to two significant digits: a planning figure has no higher precision."""
    unit = int(10 ** max(0, len(str(count)) - 2))
    return -(-count // unit) * unit


def count_trainings(losses: int, each: int, rates: int = len(RATES), share: float = RATE_SHARE) -> float:
    """Count the whole trainings of a comparison of `losses` losses, each with `each` trainings after the tuning."""
    return losses * (each + (rates * share if rates > 1 else 0.0))


def count_confirm_trainings(losses: int, folds: int = 1) -> tuple[int, int]:
    """Return the fewest and most whole trainings of such a comparison by its defaults."""
    least, most = (ceil(count_trainings(losses, seeds * folds)) for seeds in CONFIRM_SEEDS)
    return least, most
