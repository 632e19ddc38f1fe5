"""The registry of loss families, without torch: the parent process, the command line and the search read it.

Most families are points of one kernel (`sweeper.losses.kernel`): a family fixes some of the kernel's coordinates and
leaves others free; each free one has a search range and a default from the literature. The others, relatives, name the
module that has a function of their name, and keep the kernel's conventions. Search space, `sweeper losses`, the
certificate, documentation and tests come from this declaration: adding a family means adding an entry.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from sweeper.losses.common_coordinates import KERNEL_LIMITS, KERNEL_MEANINGS
from sweeper.losses.family_records import TASKS, Family, Limits, LossCoordinate
from sweeper.losses.map_families import MAP_FAMILIES
from sweeper.losses.mixture_families import MIXTURE_FAMILIES
from sweeper.losses.overlap_families import OVERLAP_FAMILIES
from sweeper.losses.pixel_families import PIXEL_FAMILIES

__all__ = ["FAMILIES", "LIMITS", "MEANINGS", "TASKS", "Family", "LossCoordinate"]

FAMILIES: dict[str, Family] = {
    family.name: family for family in (*PIXEL_FAMILIES, *OVERLAP_FAMILIES, *MIXTURE_FAMILIES, *MAP_FAMILIES)
}
"""All families by name, simplest first: the declared order that settles ties and orders the first trials."""


def _own_coordinates(declared: Iterable[Family]) -> Iterator[tuple[str, Limits, str]]:
    """Coordinates that are not the kernel's: name, limits, meaning.

    Raises:
        RuntimeError: for one that nobody bounds or explains, before a loss accepts anything for it.
    """
    for family in declared:
        for free in family.coordinates.values():
            for name, own in free.items():
                if name in KERNEL_LIMITS:
                    continue
                if own.limits is None or own.meaning is None:
                    raise RuntimeError(f"the coordinate {name} of {family.name} needs `limits` and a `meaning`")
                yield name, own.limits, own.meaning


LIMITS: dict[str, Limits] = KERNEL_LIMITS | {n: limits for n, limits, _ in _own_coordinates(FAMILIES.values())}
"""What each coordinate of any family may be."""
MEANINGS: dict[str, str] = KERNEL_MEANINGS | {n: meaning for n, _, meaning in _own_coordinates(FAMILIES.values())}
"""And what it means."""
