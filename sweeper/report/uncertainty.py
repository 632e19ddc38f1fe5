"""Where the uncertainty of the confirmation's differences comes from, and what would shrink it."""

from __future__ import annotations

import math

from sweeper.core.records import Interval
from sweeper.evidence.intervals import scaled_variances
from sweeper.report.facts import Facts, difference, finalist_name
from sweeper.report.formatting import code, number, signed, table


def standard_error(difference: Interval, *, seeds: float = 1.0, images: float = 1.0) -> float:
    """Standard error of a paired difference, with so many times the seeds and the test images."""
    return math.sqrt(sum(scaled_variances(difference, seeds=seeds, images=images)))


def uncertainty_table(facts: Facts) -> str:
    """One row per difference of the named loss (else the first) to another finalist; empty where none was measured."""
    named = facts.chosen or next(iter(facts.finalists), None)
    rows = []
    for other in facts.finalists:
        found = None if other is named else difference(facts, named, other)
        if found is None or named is None or len({*named.seeds} & {*other.seeds}) < 2 or _units(facts) < 2:
            continue  # one seed or one image says nothing of a spread
        rows.append(
            [
                f"to {code(finalist_name(facts, other))}",
                signed(found.estimate),
                number(standard_error(found), 4),
                _part(found.se_seed),
                _part(found.se_image),
                number(standard_error(found, seeds=2), 4),
                number(standard_error(found, images=2), 4),
            ]
        )
    seeds = "seeds" if facts.sweep.conditions.rates != "drawn" else "seeds and learning rates"
    header = ["difference in test mIoU", "estimate", "standard error", f"from {seeds}", "from test images"]
    return table([*header, "with twice the seeds", "with twice the test images"], rows) if rows else ""


def _part(error: float) -> str:
    """A source's standard error; an estimated variance that came out as 0 is no 0."""
    return number(error, 4) if error >= 5e-5 else "≈ 0"


def _units(facts: Facts) -> int:
    """Test images, or groups of them."""
    evidence = facts.recommendation.evidence
    return 0 if evidence is None else evidence.test_groups or evidence.test_pictures


def uncertainty_text(facts: Facts) -> str:
    """What the table's columns hold and what none of them does."""
    rates = ", the learning rate" * (facts.sweep.conditions.rates == "drawn")
    if facts.sweep.conditions.folds is not None:
        return f"Each seed has its own weights, order, augmentation and division into folds{rates}."
    return (
        f"Each seed has its own weights, order, augmentation and division into training and validation (where none is "
        f"given){rates}. The test split is drawn once: what other test images would give is the images' part. "
        "≈ 0 is too little to be told from the other part."
    )
