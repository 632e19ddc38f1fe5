"""The label doctor: what is wrong with images and labels, before it costs a night. It deletes nothing."""

from __future__ import annotations

from collections.abc import Callable

from sweeper.core.records import Dataset
from sweeper.fingerprint.label_checks.finding import Finding, Severity
from sweeper.fingerprint.label_checks.measure import measure_all
from sweeper.fingerprint.label_checks.rules import count_severities, judge_labels

__all__ = ["Finding", "Severity", "count_severities", "examine_labels"]


def examine_labels(
    dataset: Dataset, workers: int = 2, tick: Callable[[int, int], None] | None = None
) -> tuple[Finding, ...]:
    """Measure every image of a data set and judge the whole, the weightiest findings first.

    Args:
        dataset: its store is read, image by image; a few kilobytes are kept of each.
        workers: threads.
        tick: called with (done, total) after each image.

    Raises:
        SweeperError: if the store is gone.
    """
    return judge_labels(dataset, measure_all(dataset, workers, tick))
