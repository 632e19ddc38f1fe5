"""The label doctor: find errors in images and labels before a long training. It deletes nothing."""

from __future__ import annotations

from collections.abc import Callable

from sweeper.core.records import Dataset
from sweeper.fingerprint.label_checks.finding import Finding, Severity
from sweeper.fingerprint.label_checks.measure import measure_all
from sweeper.fingerprint.label_checks.rules import format_totals, judge_labels

__all__ = ["Finding", "Severity", "examine_labels", "format_totals"]


def examine_labels(
    dataset: Dataset, workers: int = 2, tick: Callable[[int, int], None] | None = None
) -> tuple[Finding, ...]:
    """Measure every image of a data set, and return the findings, the most severe first.

    The store is read image by image, by `workers` threads; a few kilobytes per image stay in memory. `tick` is called
    with (done, total) after each image.

    Raises:
        SweeperError: if the store is missing.
    """
    return judge_labels(dataset, measure_all(dataset, workers, tick))
