"""What would settle an open comparison: more seeds, more test pictures, or neither.

The two variances of a measured difference (see `sweeper.evidence.intervals`) are taken at face value and scaled:
V_seed with 1 / seeds, V_image with 1 / pictures, the critical value with their degrees of freedom. It is a planning
figure: the estimate itself will move when it is measured again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from sweeper.evidence.intervals import half_width
from sweeper.records import Evidence, Interval

MOST_SEEDS = 50
"""More trainings of each finalist than this are not proposed."""
MOST_PICTURES = 1_000_000
ENOUGH_SEEDS = 8
"""Seeds proposed together with more pictures, where neither alone would do."""


def what_would_settle(evidence: Evidence, pairs: Sequence[tuple[int, int]]) -> list[str]:
    """A sentence for each open comparison, given as indices into `evidence.finalists`."""
    differences = {(c.first, c.second): c.difference for c in evidence.comparisons}
    return [_for_pair(evidence, *pair, differences[pair]) for pair in pairs]


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


def _for_pair(evidence: Evidence, best: int, rival: int, gap: Interval) -> str:
    first, second = evidence.finalists[best], evidence.finalists[rival]
    seeds, pictures = len(set(first.seeds) & set(second.seeds)), evidence.test_pictures
    if seeds < 2:
        advice = f"confirm both on at least 3 common seeds (`--confirm-seeds 3`), got {seeds}"
    elif pictures < 2:
        advice = f"label more test pictures; {pictures} cannot show a difference"
    else:
        advice = _advice(gap, seeds, pictures, evidence.rope)
    return f"{first.family} against {second.family}: {advice}."


def _advice(gap: Interval, seeds: int, pictures: int, rope: float) -> str:
    target = needed_half_width(gap, rope)
    goal = "a difference of this size" if abs(gap.estimate) >= rope else f"equivalence within ± {rope:g}"
    more_seeds = seeds_needed(gap, seeds, pictures, target)
    more_pictures = pictures_needed(gap, seeds, pictures, target, seeds)
    if more_seeds is not None:
        also = f", or some {_rounded(more_pictures)} test pictures in place of {pictures}" if more_pictures else ""
        return f"some {more_seeds} seeds in place of {seeds} would show {goal}{also}"
    if more_pictures is not None:
        return (
            f"the choice of test pictures alone forbids a verdict (standard error {gap.se_image:.3f}), whatever the "
            f"number of seeds up to {MOST_SEEDS}; some {_rounded(more_pictures)} test pictures in place of {pictures} "
            f"would show {goal}"
        )
    both = pictures_needed(gap, seeds, pictures, target, ENOUGH_SEEDS) if seeds < ENOUGH_SEEDS else None
    if both is not None:
        return (
            f"neither more seeds nor more test pictures alone would show {goal}; {ENOUGH_SEEDS} seeds and some "
            f"{_rounded(both)} test pictures would"
        )
    return (
        f"no affordable number of seeds or test pictures would show {goal}: the estimate {gap.estimate:+.3f} is too "
        f"near the edge of ± {rope:g}, or too small beside its noise; choose by cost or taste"
    )


def _rounded(count: int) -> int:
    """Two significant digits, upwards: more would pretend to a precision that a planning figure has not."""
    unit = int(10 ** max(0, len(str(count)) - 2))
    return -(-count // unit) * unit
