"""Writes a comparison of studies: text, and the same as JSON."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from sweeper.core.base import Record
from sweeper.core.document import Document, json_text
from sweeper.core.paths import ComparisonPaths
from sweeper.core.records import Recommendation, SweepRecord, Task, Verdict
from sweeper.evidence.document import LevelDifferenceRow
from sweeper.report.compare_text import Side, comparison_text, sides
from sweeper.report.html import write_page


class ComparedLoss(Record):
    """The recommended configuration."""

    family: str
    params: dict[str, float]
    lr: float


class ComparedStudy(Record):
    """One study of a comparison."""

    label: str
    """What it is called in the comparison's tables."""
    study: str
    dataset: str
    digest: str
    """SHA-256 of pixels, labels, names and split."""
    task: Task
    imbalance: float | None
    verdict: Verdict
    provisional: bool
    recommended: ComparedLoss | None
    test_images: int | None
    level: float
    """Of the intervals, where none of their own is told."""
    gain_over_cross_entropy: dict[str, LevelDifferenceRow]
    """By family of the finalists, in their test score."""


class ComparisonDocument(Document):
    """Studies side by side: `comparison.json`, and what `sweeper report --compare` prints."""

    SCHEMA: ClassVar[str] = "sweeper.comparison/1"

    studies: tuple[ComparedStudy, ...]
    """From the mildest to the severest imbalance."""


def write_comparison(
    studies: Sequence[tuple[SweepRecord, Recommendation]], out: Path, *, ui_url: str
) -> ComparisonPaths:
    """Write `OUT/compare-…/{report.md, report.html, comparison.json}` over an earlier one.

    Args:
        studies: Two or more studies with their answers, in any order.
        out: Folder of all reports; created when missing.
        ui_url: Where the links to runs point.

    Raises:
        ValueError: with fewer than two studies.
        OSError: if a file cannot be written.
    """
    if len(studies) < 2:
        raise ValueError(f"a comparison needs at least 2 studies, got {len(studies)}")
    compared = sides(studies)
    paths = ComparisonPaths(out, [sweep.study for sweep, _ in studies])
    paths.folder.mkdir(parents=True, exist_ok=True)
    paths.document.write_text(json_text(comparison_json(compared)), "utf-8")
    write_page(comparison_text(compared, ui_url), paths.markdown)
    return paths


def comparison_json(compared: Sequence[Side]) -> dict[str, Any]:
    """The comparison as JSON types, schema `sweeper.comparison/1`; what is unknown is null."""
    return ComparisonDocument(studies=tuple(map(_side, compared))).document


def _side(side: Side) -> ComparedStudy:
    sweep, answer, evidence = side.sweep, side.recommendation.recommended, side.recommendation.evidence
    gains = {}
    for family in dict.fromkeys(f.family for f in side.facts.finalists):
        gain = side.gain(family)
        if gain is not None:
            gains[family] = LevelDifferenceRow(
                difference=gain.estimate, ci_low=gain.low, ci_high=gain.high, level=side.level(family)
            )
    return ComparedStudy(
        label=side.label,
        study=sweep.study,
        dataset=side.name,
        digest=sweep.conditions.dataset.digest,
        task=sweep.conditions.dataset.task,
        imbalance=side.imbalance if math.isfinite(side.imbalance) else None,
        verdict=side.recommendation.verdict,
        provisional=side.recommendation.provisional,
        recommended=None if answer is None else ComparedLoss(family=answer.family, params=answer.params, lr=answer.lr),
        test_images=evidence.test_images if evidence else None,
        level=side.facts.level,
        gain_over_cross_entropy=gains,
    )
