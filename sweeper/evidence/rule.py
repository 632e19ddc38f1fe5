"""When one finalist beats another, equals it, has learned anything: the predicates of the verdict's rule."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sweeper.evidence.looks import common_seeds
from sweeper.records import Evidence, Interval

LEARNED = 0.002
"""Test mIoU by which a finalist must beat a constant answer to have learned anything: the margin by which collapses are
judged too (`sweeper.training.collapse`)."""


def difference(evidence: Evidence, first: int, second: int) -> Interval:
    """The paired difference `first` − `second`.

    Raises:
        ValueError: if the evidence does not hold that pair.
    """
    for comparison in evidence.comparisons:
        if (comparison.first, comparison.second) == (first, second):
            return comparison.difference
    raise ValueError(f"evidence must hold all ordered pairs of finalists, got none for ({first}, {second})")


def measured(evidence: Evidence, i: int, j: int) -> bool:
    """Whether both parts of a difference's variance could be estimated at all."""
    return common_seeds(evidence, i, j) >= 2 and units(evidence) >= 2


def beats(evidence: Evidence, best: int, rival: int) -> bool:
    """Whether the interval of `best` − `rival` lies above 0 and its estimate is at least the ROPE."""
    gap = difference(evidence, best, rival)
    return measured(evidence, best, rival) and gap.low > 0 and gap.estimate >= evidence.rope


def same(evidence: Evidence, i: int, j: int) -> bool:
    """Whether the interval of the difference lies within ± ROPE."""
    gap = difference(evidence, i, j)
    return measured(evidence, i, j) and -evidence.rope <= gap.low and gap.high <= evidence.rope


def has_learned(evidence: Evidence, i: int) -> bool:
    """Whether a finalist's test mIoU beats a constant answer by more than `LEARNED`."""
    return evidence.finalists[i].miou.estimate > evidence.constant_miou + LEARNED


def troubled(evidence: Evidence, i: int) -> bool:
    """Whether a training collapsed, or all of them together are no better than a constant answer."""
    return evidence.finalists[i].collapses > 0 or not has_learned(evidence, i)


def faults(evidence: Evidence, i: int) -> tuple[bool, bool]:
    """What counts against a finalist before its complexity: that it learned nothing, that it is troubled."""
    return not has_learned(evidence, i), troubled(evidence, i)


def behind(evidence: Evidence, i: int, among: Iterable[int]) -> bool:
    """Whether a finalist reads lower than one of these by more than the region of practical equivalence.

    It may be as good all the same; while nothing is shown, it is not what to take.
    """
    rounding = 1e-9
    return any(difference(evidence, k, i).estimate > evidence.rope + rounding for k in among if k != i)


def against(evidence: Evidence, i: int, among: Sequence[int]) -> tuple[bool, bool, bool]:
    """All that counts against recommending a finalist before its complexity; least first is best."""
    sound = [k for k in among if faults(evidence, k) <= faults(evidence, i)]
    return *faults(evidence, i), behind(evidence, i, sound)


def simplicity(evidence: Evidence, i: int, order: Sequence[str]) -> tuple[int, str]:
    """Place of a finalist's family in the declared order; families that are not in it come last, by name."""
    family = evidence.finalists[i].family
    return (order.index(family) if family in order else len(order), family)


def others(evidence: Evidence, i: int) -> list[int]:
    """All finalists but `i`."""
    return [k for k in range(len(evidence.finalists)) if k != i]


def units(evidence: Evidence) -> int:
    """How many independent test pictures, or groups of pictures, there are."""
    return evidence.test_pictures if evidence.test_groups is None else evidence.test_groups
