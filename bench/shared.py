"""What several benchmarks share: files of JSON lines, one training with its scores, the interval of a mean."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from scipy import stats

if TYPE_CHECKING:
    from sweeper.core.records import Conditions, TrialSpec

Item = TypeVar("Item")
BASELINE = "cross_entropy"


def read_rows(path: Path | str) -> list[dict[str, Any]]:
    """Return the rows of a file of JSON lines."""
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


def resume_rows(path: Path | str) -> list[dict[str, Any]]:
    """Return the rows of a file of JSON lines, which is created if it is missing."""
    Path(path).touch()
    return read_rows(path)


def append_row(path: Path | str, row: dict[str, Any]) -> None:
    """Append a row to a file of JSON lines."""
    with Path(path).open("a", encoding="utf-8") as file:
        file.write(json.dumps(row) + "\n")


def select_part(items: Sequence[Item], part: str) -> Sequence[Item]:
    """Return every N-th item from the K-th on, for the part "K/N" of the work."""
    first, parts = (int(word) for word in part.split("/"))
    return items[first - 1 :: parts]


def train_to_end(spec: TrialSpec, conditions: Conditions) -> dict[str, Any]:
    """Train on the CPU to the last step; return the fields of a row that say what came of it.

    Returns:
        `val` and `test`, the mIoU at the operating point that is chosen on validation images; `learned`; `seconds`.
    """
    from sweeper.core import metrics
    from sweeper.training.engine import StudyTraining
    from sweeper.training.training_context import open_context

    training = StudyTraining(spec, open_context(conditions, "cpu"))
    while not training.is_finished:
        training.advance()
    result = training.make_result("complete")
    test = 0.0
    if result.test is not None:
        test = metrics.compute_scores(metrics.count_at_point(result.test, result.evaluations[-1].point)).miou
    return {"val": result.value, "test": test, "learned": result.collapse.learned, "seconds": result.seconds}


def compute_half_width(values: Sequence[float]) -> float:
    """Return half the width of the 95 % interval of a mean, by Student's t, from two values or more."""
    return float(stats.t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / len(values) ** 0.5
