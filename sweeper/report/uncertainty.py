"""Where the uncertainty of the confirmation's differences comes from, and what would shrink it."""

from __future__ import annotations

import math

from sweeper.core.records import Interval
from sweeper.report.facts import Facts, difference, finalist_name
from sweeper.report.formatting import code, number, signed, table


def standard_error(difference: Interval, *, seeds: float = 1.0, images: float = 1.0) -> float:
    """Standard error of a paired difference, with so many times the seeds and the test images.

    The seeds' part falls with seeds; what single trainings do to single images (`se_both`, a part of it) falls with
    images too; the images' part falls with images alone.
    """
    both = difference.se_both**2
    from_seeds = (difference.se_seed**2 - both) / seeds + both / (seeds * images)
    return math.sqrt(max(0.0, from_seeds) + difference.se_image**2 / images)


def uncertainty_table(facts: Facts) -> str:
    """One row per difference of the named loss (else the first) to another finalist; empty where none was measured."""
    named = facts.chosen or next(iter(facts.finalists), None)
    rows = []
    for other in facts.finalists:
        found = None if other is named else difference(facts, named, other)
        if found is None:
            continue
        rows.append(
            [
                f"to {code(finalist_name(facts, other))}",
                signed(found.estimate),
                number(standard_error(found), 4),
                number(found.se_seed, 4),
                number(found.se_image, 4),
                number(standard_error(found, seeds=2), 4),
                number(standard_error(found, images=2), 4),
            ]
        )
    seeds = "seeds" if facts.sweep.conditions.rates != "drawn" else "seeds and learning rates"
    header = ["difference in test mIoU", "estimate", "standard error", f"from {seeds}", "from test images"]
    return table([*header, "with twice the seeds", "with twice the test images"], rows) if rows else ""


def uncertainty_text(facts: Facts) -> str:
    """What the table's columns hold and what none of them does."""
    rates = ", and their learning rates, as each seed has its own" * (facts.sweep.conditions.rates == "drawn")
    division = (
        "The images are divided once: what another division would give is in none of these (`--folds` rotates it)."
        if facts.sweep.conditions.folds is None
        else "Each seed divides the images anew, so that the division is part of the seeds."
    )
    return f"The seeds' part: weights, order and augmentation of the trainings{rates}. {division}"
