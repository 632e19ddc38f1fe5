"""Plans that would settle an open comparison: more seeds, more test images, or neither.

The variances of a measured difference (`sweeper.evidence.intervals`) are taken at face value and scaled: the seed part
by 1 / seeds, the image part by 1 / images, the interaction by 1 / (seeds × images). The critical value follows from
their degrees of freedom and the level of the interim analysis at which that many seeds are complete. It is a planning
figure: the estimate itself will move when it is measured again. Where test images come in groups, groups are counted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import hypot, isfinite
from typing import Literal

from sweeper.core.records import Contest, InterimAnalysis, Interval
from sweeper.core.text import format_count, join_words
from sweeper.evidence.interim_analyses import DECIDING_SEEDS, compute_level, count_common_seeds
from sweeper.evidence.intervals import compute_half_width, scale_variances
from sweeper.evidence.reasons import format_score_difference
from sweeper.evidence.verdict_predicates import count_units, get_difference

MOST_SEEDS = 50
"""More trainings of each finalist than this are not proposed."""
MOST_IMAGES = 1_000_000


@dataclass(frozen=True)
class _SettlingPlan:
    """Plan that would settle one pair."""

    rival: int
    gap: Interval
    kind: Literal["common_seeds", "label", "seeds", "images", "neither"]
    seeds: int = 0
    images: int | None = None


def suggest_what_settles(
    evidence: Contest, pairs: Sequence[tuple[int, int]], resume: str | None = "--resume", *, keeps_first: bool = False
) -> list[str]:
    """Suggest in sentences what would settle the open comparisons, given as indices into `evidence.finalists`.

    `resume` is the command that continues the study; None if the trainings are not sweeper's. With `keeps_first` the
    first of each pair is cross-entropy, and settled means that the rival's gain over it is. Rivals of one loss that
    need the same kind of plan share a sentence, which asks for the most that one of them needs.
    """
    groups: dict[tuple[int, str], list[_SettlingPlan]] = {}
    for first, rival in pairs:
        lead, margin = get_difference(evidence, first, rival).estimate, evidence.margin
        target = compute_gain_half_width(-lead, margin) if keeps_first else compute_needed_half_width(lead, margin)
        plan = _plan_pair(evidence, first, rival, target)
        groups.setdefault((first, plan.kind), []).append(plan)
    return [_format_plans(evidence, first, plans, resume) for (first, _), plans in groups.items()]


def compute_needed_half_width(difference: float, margin: float) -> float:
    """Return the half-width below which this estimate would be established as a win or as equivalence.

    An estimate of at least `margin` is a win once the half-width is below the estimate; a smaller one is equivalence
    once estimate + half-width is within `margin`.
    """
    size = abs(difference)
    return size if size >= margin else margin - size


def compute_gain_half_width(gain: float, margin: float) -> float:
    """Return the half-width below which this gain would be established, or bounded by `margin` where it is smaller."""
    return gain if gain >= margin else margin - gain


def suggest_for_action(evidence: Contest, rivals: Sequence[int], base: int) -> str:
    """Suggest how many more seeds, or images, would settle whether these gain over `base`; "" if none would."""
    gaps = [(i, get_difference(evidence, i, base).estimate) for i in rivals]
    needed = [_count_needed(evidence, i, base, compute_gain_half_width(gap, evidence.margin)) for i, gap in gaps]
    seeds, images = ([n for n in counts if n is not None] for counts in zip(*needed, strict=True))
    if len(seeds) == len(needed):
        more = max(seeds) - int(min(count_common_seeds(evidence, i, base) for i in rivals))
        return f"{format_count(more, 'more seed')} would settle it"
    return (
        f"about {_round_up(max(images)):,} {_name_unit(evidence)} would settle it" if len(images) == len(needed) else ""
    )


def _count_needed(evidence: Contest, first: int, rival: int, target: float) -> tuple[int | None, int | None]:
    """Return how many seeds, and how many images, would each bring a pair's half-width below `target`."""
    gap, seeds = get_difference(evidence, first, rival), count_common_seeds(evidence, first, rival)
    now, analyses = (gap, seeds, count_units(evidence), target), evidence.analyses
    return count_seeds_needed(*now, analyses=analyses), count_images_needed(*now, analyses=analyses)


def plan_half_width(
    gap: Interval, now: tuple[float, float], then: tuple[float, float], analyses: Sequence[InterimAnalysis] = ()
) -> float:
    """Compute the half-width that a difference measured with `now` (seeds, images) would have with `then`, both ≥ 2."""
    more_seeds, more_images = (b / a if isfinite(a) else 1.0 for a, b in zip(now, then, strict=True))
    v_seed, v_image = scale_variances(gap, seeds=more_seeds, images=more_images)
    return compute_half_width(
        v_seed, then[0], v_image, then[1], compute_level(analyses, then[0]), borrowed=gap.borrowed
    )


def count_seeds_needed(
    gap: Interval, seeds: float, images: float, target: float, *, analyses: Sequence[InterimAnalysis] = ()
) -> int | None:
    """Return the fewest seeds, more than now, with a half-width below `target`; None beyond MOST_SEEDS."""
    return _find_fewest(
        lambda count: plan_half_width(gap, (seeds, images), (count, images), analyses) < target, seeds + 1, MOST_SEEDS
    )


def count_images_needed(
    gap: Interval, seeds: float, images: float, target: float, *, analyses: Sequence[InterimAnalysis] = ()
) -> int | None:
    """Return the fewest test images, more than now, with a half-width below `target`; None beyond MOST_IMAGES."""
    return _find_fewest(
        lambda count: plan_half_width(gap, (seeds, images), (seeds, count), analyses) < target, images + 1, MOST_IMAGES
    )


def _find_fewest(enough: Callable[[int], bool], least: float, high: int) -> int | None:
    """Find the smallest count in [least, high] that is enough, by bisection (more is never worse)."""
    if least > high or not enough(high):
        return None
    low = int(least)
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle + 1, high)
    return low


def _plan_pair(evidence: Contest, first: int, rival: int, target: float) -> _SettlingPlan:
    """Plan how a pair's half-width would fall below `target`."""
    gap, common = get_difference(evidence, first, rival), count_common_seeds(evidence, first, rival)
    plan = partial(_SettlingPlan, rival, gap)
    if count_units(evidence) < 2:
        return plan("label")
    if common < DECIDING_SEEDS:
        return plan("common_seeds", seeds=int(common))
    seeds, images = _count_needed(evidence, first, rival, target)
    if seeds is not None:
        return plan("seeds", seeds=seeds, images=images)
    return plan("neither" if images is None else "images", images=images)


def _format_plans(evidence: Contest, first: int, plans: Sequence[_SettlingPlan], resume: str | None) -> str:
    """Return what these plans of one kind ask for together."""
    names, digits = [evidence.finalists[plan.rival].family for plan in plans], evidence.scale.digits
    against, kind = f"{evidence.finalists[first].family} against {join_words(names)}: ", plans[0].kind
    if kind == "common_seeds":
        planned = [analysis.seeds for analysis in evidence.analyses] or [DECIDING_SEEDS]
        least, most = planned[0], planned[-1]
        range_ = f"{max(DECIDING_SEEDS, least)}..{most}" if most > DECIDING_SEEDS else str(DECIDING_SEEDS)
        how = "" if resume is None else f" (`{resume} --seeds {range_}`)"
        which = "common seeds" if evidence.paired else "seeds of each"
        train = "train" if resume is None else "confirm"
        return f"{against}{train} on at least {DECIDING_SEEDS} {which}{how}, got {plans[0].seeds}."
    if kind == "label":
        return f"{against}label more {_name_unit(evidence)}; {count_units(evidence):g} cannot show a difference."
    if kind == "neither":
        sentences = [
            f"{format_score_difference(evidence, plan.gap.estimate)} against {name}, standard error "
            f"{hypot(plan.gap.se_seed, plan.gap.se_image):.{digits}f}"
            for plan, name in zip(plans, names, strict=True)
        ]
        return (
            f"{against}neither more seeds nor more test images by themselves would settle it at this budget "
            f"({'; '.join(sentences)}); choose by cost or taste, or train longer."
        )
    wanted = [plan.images for plan in plans]
    images = None if None in wanted else max(n for n in wanted if n is not None)
    shots = ""
    if images is not None:
        shots = f"some {_round_up(images):,} {_name_unit(evidence)} in place of {count_units(evidence):g}"
    if kind == "images":
        error = max(plan.gap.se_image for plan in plans)
        alone = (
            f"the choice of test images alone forbids a verdict (standard error {error:.{digits}f}), whatever the "
            f"number of seeds up to {MOST_SEEDS}; "
        )
        is_alone = evidence.scope != "images" and round(error, digits) > 0  # else the error comes from the interaction
        return f"{against}{alone if is_alone else ''}{shots} would settle it."
    now = min(count_common_seeds(evidence, first, plan.rival) for plan in plans)
    seeds = max(plan.seeds for plan in plans)
    how = "" if resume is None else f" (`{resume} --seeds {_format_seeds(evidence, seeds)}`)"
    also = f", or {shots}" if shots else ""
    return (
        f"{against}some {seeds} seeds in place of {now:g}{how}{also} would settle it, if estimate and noise stay as "
        "they are."
    )


def _format_seeds(evidence: Contest, seeds: int) -> str:
    """Return the value of `--seeds` that goes up to these seeds, with interim analyses on the way.

    Where the plan already had as many but ended early as futile, it is a single analysis: the same plan would only end
    again.
    """
    analyses = evidence.analyses
    return f"{analyses[0].seeds}..{seeds}" if analyses and seeds > analyses[-1].seeds else str(seeds)


def _name_unit(evidence: Contest) -> str:
    return "test images" if evidence.test_groups is None else "groups of test images"


def _round_up(count: int) -> int:
    """Round a count up to two significant digits: a planning figure has no higher precision."""
    unit = int(10 ** max(0, len(str(count)) - 2))
    return -(-count // unit) * unit
