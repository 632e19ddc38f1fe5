"""Writes a comparison of studies: text, figure, and the same as JSON."""

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
from sweeper.report.compare_text import Side, comparison_text, families, sides
from sweeper.report.figures.style import (
    BAND,
    CHOSEN,
    INK,
    MARKERS,
    OTHERS,
    RIVAL,
    Drawn,
    clean,
    legend,
    new_figure,
    plain,
    save_all,
)
from sweeper.report.formatting import code, number, significant
from sweeper.report.html import write_page

MOST = 24
"""More data sets than this do not fit; those with the severest imbalance are drawn."""


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
    """Write `OUT/compare-…/{report.md, report.html, comparison.json, figures/gain.svg}` over an earlier one.

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
    drawn = gains(compared)
    save_all({"gain": drawn}, paths.figures)
    shown = drawn.shown("gain") if isinstance(drawn, Drawn) else f"*The figure is left out: {drawn}.*"
    paths.document.write_text(json_text(comparison_json(compared)), "utf-8")
    write_page(comparison_text(compared, shown, ui_url), paths.markdown, paths.figures)
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


def gains(compared: Sequence[Side]) -> Drawn | str:
    """Paired difference in the test score to cross-entropy with its interval, studies ordered by imbalance."""
    shown = families(compared)
    drawn = [side for side in compared if any(side.gain(f) is not None for f in shown)]
    if not drawn:
        return "no study confirmed a loss beside cross-entropy"
    left_out = max(0, len(drawn) - MOST)
    drawn = drawn[-MOST:]
    figure = new_figure(3.4)
    axes = clean(figure.add_subplot(), "y")
    rope = max(side.sweep.rope for side in drawn)
    axes.axhspan(-rope, rope, color=INK, alpha=BAND, lw=0, zorder=0)
    axes.axhline(0, color=INK, lw=0.8, zorder=1)
    colours = (CHOSEN, RIVAL, *OTHERS)
    step = 0.7 / max(1, len(shown))
    for i, family in enumerate(shown):
        found = [(x, g) for x, side in enumerate(drawn) if (g := side.gain(family)) is not None]
        if not found:
            continue
        at = [x + (i - (len(shown) - 1) / 2) * step for x, _ in found]
        colour, marker = colours[i % len(colours)], MARKERS[(i + i // len(colours)) % len(MARKERS)]
        axes.vlines(at, [g.low for _, g in found], [g.high for _, g in found], color=colour, lw=1.6, zorder=2)
        axes.plot(at, [g.estimate for _, g in found], marker, color=colour, ms=5.5, mew=0,
                  label=plain(family), zorder=3)  # fmt: skip
    longest = max(8, 64 // len(drawn))
    names = [f"{side.label} {plain(side.name, longest)}\n{significant(side.imbalance)}" for side in drawn]
    axes.set_xticks(range(len(drawn)), labels=names if len(drawn) <= 8 else [side.label for side in drawn])
    axes.set_xlim(-0.5, len(drawn) - 0.5)
    axes.set_xlabel("data set and its imbalance, from the mildest to the severest")
    axes.set_ylabel("test score gained over cross-entropy")
    legend(axes, 3)
    known = [(g, f, side) for f in shown for side in drawn if (g := side.gain(f)) is not None]
    best, family, where = max(known, key=lambda entry: entry[0].estimate)
    text = (
        f"Above the line a loss is better than cross-entropy on that data set; the grey band is the margin of "
        f"±{number(rope)} within which a difference does not matter. The largest gain is {code(family)}'s on "
        f"{where.label}, {number(best.estimate)}. Points of one column saw the same test images."
    )
    if left_out:
        text += f" The {left_out} data sets with the mildest imbalance are left out."
    return Drawn(figure, text, "Gain of each loss over cross-entropy by data set, ordered by imbalance")
