"""Symmetric unified focal loss (Yeung et al. 2022, arXiv:2102.04525).

As `sweeper.losses.unified_focal`, but that no class is spared: every pixel's cross-entropy has the focal factor
(1 − p_t)^s, and every class's overlap the exponent 1 − s.
"""

from __future__ import annotations

from collections.abc import Sequence

from sweeper.core.records import Task
from sweeper.losses.unified_focal import UnifiedFocal, build_unified


def build(
    *,
    task: Task,
    ignore_index: int,
    class_frequencies: Sequence[float] | None,
    mix: float,
    delta: float,
    suppression: float,
) -> UnifiedFocal:
    """The module, from checked coordinates."""
    coordinates = {"mix": mix, "delta": delta, "suppression": suppression}
    return build_unified(task, ignore_index, class_frequencies, coordinates, symmetric=True)
