"""The registry of loss families, without torch: the parent process, the command line and the search read it.

Most families are points of one kernel (`sweeper.losses.kernel`): a family fixes some of the kernel's coordinates and
leaves others free; each free one has a search range and a default from the literature. The others, relatives, name the
module that has a function of their name, and keep the kernel's conventions. Search space, `sweeper losses`,
documentation and tests come from this declaration: adding a family means adding an entry.
"""

from __future__ import annotations

from sweeper.losses.family_records import KERNEL_LIMITS, KERNEL_MEANINGS, TASKS, LossCoordinate, LossFamily, ValueLimits
from sweeper.losses.map_families import MAP_FAMILIES
from sweeper.losses.mixture_families import MIXTURE_FAMILIES
from sweeper.losses.overlap_families import OVERLAP_FAMILIES
from sweeper.losses.pixel_families import PIXEL_FAMILIES

__all__ = ["FAMILIES", "LIMITS", "MEANINGS", "TASKS", "LossCoordinate", "LossFamily"]

FAMILIES: dict[str, LossFamily] = {
    family.name: family for family in (*PIXEL_FAMILIES, *OVERLAP_FAMILIES, *MIXTURE_FAMILIES, *MAP_FAMILIES)
}
"""All families by name, simplest first: the declared order that settles ties and orders the first trials."""
_OWN = {
    n: coordinate
    for family in FAMILIES.values()
    for free in family.coordinates.values()
    for n, coordinate in free.items()
}
LIMITS: dict[str, ValueLimits] = KERNEL_LIMITS | {n: c.limits for n, c in _OWN.items() if c.limits is not None}
"""Limits of each coordinate of any family."""
MEANINGS: dict[str, str] = KERNEL_MEANINGS | {n: c.meaning for n, c in _OWN.items() if c.meaning is not None}
"""And what it means."""
