"""What the verdict's differences are made of: the score of each seed, and the difference on each image."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes

from sweeper.core.metrics import Floats
from sweeper.core.records import FinalistEvidence
from sweeper.core.text import format_count, join_words
from sweeper.report.facts import ReportFacts, group_replicates, score_images, seed_scores
from sweeper.report.figures.style import (
    CHOSEN,
    INK,
    RIVAL,
    DrawnFigure,
    assign_finalist_colours,
    clean_axes,
    escape_figure_text,
    make_figure,
)
from sweeper.report.formatting import format_code, format_signed_number


def draw_differences(facts: ReportFacts) -> DrawnFigure | str:
    """Draw the test score of each seed of every finalist, and how far two losses are apart on each image."""
    scores = [_list_by_seed(facts, finalist) for finalist in facts.finalists]
    if len(scores) < 2 or max(map(len, scores)) < 2:
        return "fewer than two finalists were confirmed on two seeds"
    gaps = _sort_image_gaps(facts)
    figure = make_figure(0.75 + 0.28 * len(scores) + (1.6 if len(gaps) else 0.0))
    heights = [0.5 + 0.28 * len(scores), *([1.5] if len(gaps) else [])]
    panels = figure.subplots(len(heights), squeeze=False, height_ratios=heights)[:, 0]
    _draw_seeds(clean_axes(panels[0]), facts, scores)
    text = f"Dots: the test {facts.metric} of each seed, at its own {facts.point_name}; a line joins one seed, a bar "
    text += "is the mean."
    each = zip(facts.finalists, scores, strict=True)
    missing = [(f, seed) for f, by_seed in each for seed in sorted(set(f.seeds) - set(by_seed))]
    if lost := [f"{format_code(f.family)} seed {seed}" for f, seed in missing]:
        text += f" Not drawn, as they diverged, and counted in the verdict at the lowest score: {join_words(lost)}."
    if len(gaps):
        assert facts.chosen is not None and facts.rival is not None
        _draw_images(clean_axes(panels[1], "y"), gaps)
        mean = format_signed_number(float(gaps.mean()))
        text += (
            f" Below: how far {format_code(facts.chosen.family)} is ahead of {format_code(facts.rival.family)} on each "
            f"of {format_count(len(gaps), 'test image')}, sorted (mIoU of an image: over the classes of its labels, "
            f"mean over the seeds). Their mean, {mean}, is not the verdict's difference, which is one of "
            f"{'mIoU over the pixels of all images together' if facts.compared == 'miou' else facts.metric}."
        )
    return DrawnFigure(figure, text, "Seeds and test images")


def _list_by_seed(facts: ReportFacts, finalist: FinalistEvidence) -> dict[int, float]:
    """Return a finalist's test score by seed."""
    seeds = [replicate.runs[0].spec.seed for replicate in group_replicates(facts, finalist)]
    return dict(zip(seeds, seed_scores(facts, finalist), strict=True)) if seeds else {}


def _sort_image_gaps(facts: ReportFacts) -> Floats:
    """Return (n,) how far the recommended loss is ahead of its rival on each test image, the largest first."""
    if facts.chosen is None or facts.rival is None:
        return np.zeros(0)
    scored = score_images(facts, facts.chosen, facts.rival)
    return -np.sort([second - first for first, second in scored.values()])


def _draw_seeds(axes: Axes, facts: ReportFacts, scores: list[dict[int, float]]) -> None:
    rows = range(len(scores))
    for seed in sorted(set().union(*scores)):
        places = [(by_seed[seed], row) for row, by_seed in zip(rows, scores, strict=True) if seed in by_seed]
        axes.plot(*zip(*places, strict=True), color=INK, lw=0.8, alpha=0.6, zorder=1)
    for row, by_seed, colour in zip(rows, scores, assign_finalist_colours(facts, facts.finalists), strict=True):
        values = list(by_seed.values())
        axes.plot(values, [row] * len(values), "o", color=colour, ms=5.5, mew=0, alpha=0.85, zorder=3)
        if values:
            axes.plot([np.mean(values)] * 2, [row - 0.28, row + 0.28], color=colour, lw=2, zorder=2)
    axes.set_yticks(list(rows), labels=[escape_figure_text(finalist.family) for finalist in facts.finalists])
    axes.set_ylim(len(scores) - 0.5, -0.5)
    axes.margins(x=0.06)
    axes.set_xlabel(f"test {facts.metric} of each seed")


def _draw_images(axes: Axes, gaps: Floats) -> None:
    edges = np.arange(len(gaps) + 1)
    for colour, part in ((CHOSEN, gaps.clip(min=0)), (RIVAL, gaps.clip(max=0))):
        axes.stairs(part, edges, fill=True, color=colour, lw=0)
    axes.axhline(0, color=INK, lw=1)
    axes.set_xlim(0, len(gaps))
    axes.set_xticks([])
    axes.set_xlabel("test images, sorted")
    axes.set_ylabel("mIoU apart")
