"""Jaccard of soft labels: see `sweeper.losses.metric_overlap`."""

from __future__ import annotations

from collections.abc import Sequence

from sweeper.losses.families import LossTask
from sweeper.losses.metric_overlap import MetricOverlap


def build(*, task: LossTask, ignore_index: int, class_frequencies: Sequence[float] | None, mix: float) -> MetricOverlap:
    """The module, from checked coordinates."""
    return MetricOverlap("jaccard_metric", task, ignore_index, mix, 1.0)
