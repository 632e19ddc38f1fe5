"""The label doctor: what is wrong with pictures and labels, before it costs a night. It deletes nothing."""

from __future__ import annotations

from collections.abc import Callable

from sweeper.label_doctor.finding import Finding, Severity
from sweeper.label_doctor.measure import measure_all
from sweeper.label_doctor.rules import counts, judge
from sweeper.records import Dataset

__all__ = ["Finding", "Severity", "counts", "examine"]


def examine(dataset: Dataset, workers: int = 2, tick: Callable[[int, int], None] | None = None) -> tuple[Finding, ...]:
    """Measure every picture of a data set and judge the whole, the weightiest findings first.

    Args:
        dataset: its store is read, picture by picture; a few kilobytes are kept of each.
        workers: threads.
        tick: called with (done, total) after each picture.

    Raises:
        SweeperError: if the store is gone.
    """
    return judge(dataset, measure_all(dataset, workers, tick))
