"""What a training step costs with each loss, from every training that measured it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from sweeper.report.facts import Facts
from sweeper.report.formatting import MISSING, code, escape_md, number, significant, table
from sweeper.report.tables import trainings

BASELINE = "cross_entropy"
DIFFERENT = 0.05
"""A smaller difference in cost is not worth a word."""
NOISY = 0.3
"""Where the middle half of one loss's trainings spans more than this share of its median, timings say nothing."""


@dataclass(frozen=True)
class Cost:
    """Seconds of a training step with one family, over its trainings on one device."""

    family: str
    seconds: tuple[float, ...]
    """Of each training, ascending."""
    relative: float | None
    """Median over the median of cross-entropy; None where that was not measured."""

    @property
    def median(self) -> float:
        """Seconds per step."""
        return float(np.median(self.seconds))

    @property
    def middle(self) -> tuple[float, float]:
        """Ends of the middle half of the trainings."""
        low, high = np.percentile(self.seconds, (25, 75))
        return float(low), float(high)


def costs(facts: Facts) -> tuple[Cost, ...]:
    """Each family's cost, cheapest first, on the device that trained most: two devices cannot be compared."""
    timed = [t for t in trainings(facts.sweep) if t.seconds_per_step is not None and t.seconds_per_step > 0]
    if not timed:
        return ()
    device = Counter(t.device for t in timed).most_common(1)[0][0]
    seconds: dict[str, list[float]] = {}
    for trial in timed:
        if trial.device == device and trial.seconds_per_step is not None:
            seconds.setdefault(trial.spec.family, []).append(trial.seconds_per_step)
    base = float(np.median(seconds[BASELINE])) if BASELINE in seconds else None
    found = [
        Cost(family, tuple(sorted(values)), float(np.median(values)) / base if base else None)
        for family, values in seconds.items()
    ]
    return tuple(sorted(found, key=lambda c: c.median))


def cost_device(facts: Facts) -> str:
    """The device on which `costs` were measured, escaped; empty without any."""
    devices = Counter(t.device for t in trainings(facts.sweep) if t.seconds_per_step)
    return escape_md(devices.most_common(1)[0][0]) if devices else ""


def cost_table(facts: Facts) -> str:
    """Milliseconds per step of each loss, and relative to cross-entropy; empty where nothing was timed."""
    rows = []
    for cost in costs(facts):
        low, high = (significant(1000 * s) for s in cost.middle)
        relative = MISSING if cost.relative is None else f"{number(cost.relative, 2)} ×"
        cells = [code(cost.family), significant(1000 * cost.median), f"{low} to {high}", relative]
        rows.append([*cells, str(len(cost.seconds))])
    header = ["loss", "ms per step", "middle half of the trainings", "relative to cross-entropy", "trainings"]
    return table(header, rows) if rows else ""


def cost_text(facts: Facts) -> str:
    """Whether the losses differ in cost by more than trainings of one loss do, in a sentence."""
    found = costs(facts)
    base = next((c for c in found if c.family == BASELINE), None)
    if base is None or len(found) < 2:
        return ""
    noise = max((c.middle[1] - c.middle[0]) / c.median for c in found)
    dear = [c for c in found if c.relative is not None and c.relative > 1 + max(noise, DIFFERENT)]
    where = f"Whole training steps on {cost_device(facts)}, with whatever else ran on the machine."
    if noise > NOISY:
        return (
            f"{where} The middle half of one loss's trainings spans up to {100 * noise:.0f} % of their median: too "
            "much to compare the losses' cost."
        )
    if not dear:
        return (
            f"{where} No loss is dearer than cross-entropy by more than the spread among trainings of one loss (up to "
            f"{100 * noise:.0f} %): cost is no reason to choose."
        )
    names = ", ".join(f"{code(c.family)} {number(c.relative, 2)} ×" for c in dear)
    return f"{where} Clearly dearer than cross-entropy: {names}."
