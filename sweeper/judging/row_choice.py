"""Which row of a training's log has its score: the last, that of a step, or the best by a validation metric."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sweeper.core.errors import UsageError
from sweeper.judging.direction import find_lower_word

Entries = Sequence[Mapping[str, Any]]
"""Rows of a log in their order: name → value."""
STEPS = ("step", "_step", "global_step", "Step", "iter", "epoch")
"""Names of a log's step column; the first one in a row counts."""
_STEP = re.compile(r"(?:(?P<name>\w+)=)?(?P<step>\d+)")
_BEST = re.compile(r"(?P<way>best|lowest):(?P<metric>.+)")
_TEST = re.compile(r"(^|[^a-z])test", re.IGNORECASE)


@dataclass(frozen=True)
class RowChoice:
    """Rule that picks a row."""

    kind: Literal["last", "step", "best", "lowest"] = "last"
    step: int = 0
    name: str | None = None
    """Name of the step (`step`; None = the first of `STEPS`), or metric that decides (`best` and `lowest`)."""

    def find_value(self, entries: Entries, metric: str) -> float | None:
        """Return the metric's value at the chosen row; NaN if that was logged there, None if there is no value."""
        if self.kind == "step":
            entries = [entry for entry in entries if self._is_at(entry, self.step, self.name)]
        elif self.kind != "last":
            entries = self._find_best(entries)
        values = (parse_number(entry.get(metric)) for entry in reversed(entries))
        return next((value for value in values if value is not None), None)

    def _find_best(self, entries: Entries) -> Entries:
        """Return the rows of the step at which the deciding metric is best, the row itself last."""
        sign = -1 if self.kind == "lowest" else 1
        values = [(parse_number(entry.get(self.name or "")), entry) for entry in entries]
        rated = [(sign * value, entry) for value, entry in values if value is not None and math.isfinite(value)]
        if not rated:
            return []
        best = max(rated, key=lambda pair: pair[0])[1]
        name = next((name for name in STEPS if name in best), None)
        step = None if name is None else parse_number(best[name])
        same = [entry for entry in entries if step is not None and self._is_at(entry, step, name)]
        return [*same, best]

    @staticmethod
    def _is_at(entry: Mapping[str, Any], step: float, name: str | None) -> bool:
        key = name or next((key for key in STEPS if parse_number(entry.get(key)) is not None), "")
        return parse_number(entry.get(key)) == step

    def format_note(self, metric: str) -> str:
        """Return the caveat on what the score of a run is."""
        if self.kind in ("best", "lowest"):
            return f"The score of a run is its {metric} at {self}. If both are of the same images, that chose on them."
        return (
            f"The score of a run is {self} of {metric} in its log. If that is of validation images that chose "
            "anything, judge test scores in its place."
        )

    def __str__(self) -> str:
        if self.kind == "last":
            return "the last value"
        if self.kind == "step":
            return f"the value at {self.name or 'step'} {self.step}"
        return f"the row where {self.name} is {'highest' if self.kind == 'best' else 'lowest'}"


def parse_choice(text: str | None, metric: str | None) -> RowChoice:
    """Parse the rule of `--at`: `last`, a step (`5000`, `epoch=50`), `best:METRIC` or `lowest:METRIC`.

    Raises:
        UsageError: if it is invalid, or would choose by the test metric.
    """
    if text is None or text == "last":
        return RowChoice()
    if match := _STEP.fullmatch(text):
        return RowChoice("step", int(match["step"]), match["name"])
    match = _BEST.fullmatch(text)
    if match is None:
        raise UsageError(
            "--at must be last, a step (5000, epoch=50), best:METRIC (its highest) or lowest:METRIC, as of a loss, "
            f"got {text!r}"
        )
    if match["metric"] == metric or _TEST.search(match["metric"]):
        raise UsageError(
            f"--at must choose by a metric of validation images, got {match['metric']!r}: the best by what judges is a "
            "choice on the test images, and higher for that alone; name a validation metric, or take --at last"
        )
    if match["way"] == "best" and find_lower_word(match["metric"]):
        raise UsageError(f"best:METRIC takes the highest value, got {match['metric']}; --at lowest:{match['metric']}")
    return RowChoice("best" if match["way"] == "best" else "lowest", name=match["metric"])


def parse_number(value: Any) -> float | None:
    """Return a value as a number; None if it is not one."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return None
