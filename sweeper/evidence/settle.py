"""What would settle an open comparison: more seeds, more test pictures, or neither.

The two variances of a measured difference (see `sweeper.evidence.intervals`) are taken at face value and scaled:
V_seed with 1 / seeds, V_image with 1 / pictures, the critical value with their degrees of freedom. It is a planning
figure: the estimate itself will move when it is measured again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from math import hypot
from typing import Literal

from sweeper.evidence.intervals import half_width
from sweeper.records import Evidence, Interval

MOST_SEEDS = 50
"""More trainings of each finalist than this are not proposed."""
MOST_PICTURES = 1_000_000
ENOUGH_SEEDS = 8
"""Seeds proposed together with more pictures, where neither alone would do."""


@dataclass(frozen=True)
class _Plan:
    """What would settle one pair, without the names: plans of equal `kind` and `goal` make one sentence."""

    first: int
    rival: int
    kind: Literal["common_seeds", "label", "seeds", "pictures", "both", "near", "noisy"]
    goal: str = ""
    seeds: int = 0
    pictures: int | None = None
    gap: Interval | None = None


def what_would_settle(evidence: Evidence, pairs: Sequence[tuple[int, int]]) -> list[str]:
    """Sentences for the open comparisons, given as indices into `evidence.finalists`.

    Rivals of one loss for which the same would do share a sentence, which asks for the most that one of them needs.
    """
    differences = {(c.first, c.second): c.difference for c in evidence.comparisons}
    groups: dict[tuple[int, str, str], list[_Plan]] = {}
    for first, rival in pairs:
        plan = _plan(evidence, first, rival, differences[first, rival])
        groups.setdefault((first, plan.kind, plan.goal), []).append(plan)
    return [_sentence(evidence, plans) for plans in groups.values()]


def needed_half_width(gap: Interval, rope: float) -> float:
    """Half-width at which this estimate would settle: below it, a win or equivalence is shown.

    An estimate of at least `rope` settles as a win once the half-width is below the estimate; a smaller one as
    equivalence, once estimate + half-width is within `rope`.
    """
    size = abs(gap.estimate)
    return size if size >= rope else rope - size


def seeds_needed(gap: Interval, seeds: int, pictures: int, target: float) -> int | None:
    """Fewest seeds, more than now, with which the half-width is below `target`; None beyond MOST_SEEDS."""
    v_seed, v_image = gap.se_seed**2 * seeds, gap.se_image**2

    def narrow(count: int) -> bool:
        return half_width(v_seed / count, count, v_image, pictures) < target

    return _fewest(narrow, seeds + 1, MOST_SEEDS)


def pictures_needed(gap: Interval, seeds: int, pictures: int, target: float, seeds_then: int) -> int | None:
    """Fewest test pictures, more than now, that with `seeds_then` seeds make the half-width less than `target`.

    None beyond MOST_PICTURES.
    """
    v_seed, v_image = gap.se_seed**2 * seeds / seeds_then, gap.se_image**2 * pictures

    def narrow(count: int) -> bool:
        return half_width(v_seed, seeds_then, v_image / count, count) < target

    return _fewest(narrow, pictures + 1, MOST_PICTURES)


def _fewest(enough: Callable[[int], bool], low: int, high: int) -> int | None:
    """Smallest count in [low, high] that is enough, by bisection (more is never worse)."""
    if low > high or not enough(high):
        return None
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle + 1, high)
    return low


def _plan(evidence: Evidence, first: int, rival: int, gap: Interval) -> _Plan:
    common = set(evidence.finalists[first].seeds) & set(evidence.finalists[rival].seeds)
    seeds, pictures, rope = len(common), evidence.test_pictures, evidence.rope
    if seeds < 2:
        return _Plan(first, rival, "common_seeds", seeds=seeds)
    if pictures < 2:
        return _Plan(first, rival, "label")
    target = needed_half_width(gap, rope)
    plan = partial(_Plan, first, rival, gap=gap, goal=_goal(gap, rope))
    more_seeds = seeds_needed(gap, seeds, pictures, target)
    more_pictures = pictures_needed(gap, seeds, pictures, target, seeds)
    if more_seeds is not None:
        return plan("seeds", seeds=more_seeds, pictures=more_pictures)
    if more_pictures is not None:
        return plan("pictures", pictures=more_pictures)
    both = _both(gap, seeds, pictures, target)
    if both is not None:
        return plan("both", seeds=ENOUGH_SEEDS, pictures=both)
    # Would the same noise allow a verdict on a difference of 0? Then it is the estimate that stands in the way.
    without = pictures_needed(gap, seeds, pictures, rope, seeds) or _both(gap, seeds, pictures, rope)
    near = abs(gap.estimate) < rope and (without or seeds_needed(gap, seeds, pictures, rope)) is not None
    return plan("near" if near else "noisy")


def _goal(gap: Interval, rope: float) -> str:
    return "a difference of this size" if abs(gap.estimate) >= rope else f"equivalence within ± {rope:g}"


def _both(gap: Interval, seeds: int, pictures: int, target: float) -> int | None:
    return pictures_needed(gap, seeds, pictures, target, ENOUGH_SEEDS) if seeds < ENOUGH_SEEDS else None


def _sentence(evidence: Evidence, plans: Sequence[_Plan]) -> str:
    """What these plans of one kind ask for together."""
    first, kind, goal = plans[0].first, plans[0].kind, plans[0].goal
    names = [evidence.finalists[plan.rival].family for plan in plans]
    against = f"{evidence.finalists[first].family} against {listed(names)}: "
    if kind == "common_seeds":
        return f"{against}confirm on at least 3 common seeds (`--resume --confirm-seeds 3`), got {plans[0].seeds}."
    if kind == "label":
        return f"{against}label more test pictures; {evidence.test_pictures} cannot show a difference."
    now = min(len(set(evidence.finalists[first].seeds) & set(evidence.finalists[p.rival].seeds)) for p in plans)
    seeds, wanted = max(p.seeds for p in plans), [p.pictures for p in plans]
    pictures = None if None in wanted else max(n for n in wanted if n is not None)
    shots = f"some {_rounded(pictures):,} test pictures" if pictures is not None else ""
    in_place = f"{shots} in place of {evidence.test_pictures}"
    if kind == "seeds":
        also = f", or {in_place}" if shots else ""
        how = f"some {seeds} seeds in place of {now} (`--resume --confirm-seeds {seeds}`)"
        return f"{against}{how} would show {goal}{also}."
    if kind == "pictures":
        error = max(p.gap.se_image for p in plans if p.gap is not None)
        return (
            f"{against}the choice of test pictures alone forbids a verdict (standard error {error:.3f}), whatever the "
            f"number of seeds up to {MOST_SEEDS}; {in_place} would show {goal}."
        )
    if kind == "both":
        return (
            f"{against}neither more seeds nor more test pictures alone would show {goal}; {seeds} seeds and {shots} "
            "would."
        )
    gaps = [(name, p.gap) for name, p in zip(names, plans, strict=True) if p.gap is not None]
    if kind == "near":
        found = ", ".join(f"{name} {minus(f'{gap.estimate:+.3f}')}" for name, gap in gaps)
        why = f"the difference lies too near ± {evidence.rope:g} to be told from it ({found})"
    else:
        found = ", ".join(
            f"{name} {minus(f'{gap.estimate:+.3f}')} with a standard error of {hypot(gap.se_seed, gap.se_image):.3f}"
            for name, gap in gaps
        )
        why = f"the difference is too small beside its noise ({found})"
    return (
        f"{against}not settled by any affordable number of seeds or test pictures at this budget: {why}; choose by "
        "cost or taste, or train longer."
    )


def listed(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b and c`."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def minus(text: str) -> str:
    """Formatted numbers with a true minus sign, as the tables of the report have it."""
    return text.replace("-", "−")


def _rounded(count: int) -> int:
    """Two significant digits, upwards: more would pretend to a precision that a planning figure has not."""
    unit = int(10 ** max(0, len(str(count)) - 2))
    return -(-count // unit) * unit
