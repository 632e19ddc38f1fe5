"""The figure of the operating points: the test score, and recall and precision, against them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

from sweeper.core.metrics import (
    Floats,
    average_classes,
    compute_precision,
    compute_recall,
    count_at_all_points,
    find_present_classes,
    select_metric_counts,
)
from sweeper.core.point_choice import score_all_points
from sweeper.core.records import FinalistEvidence, OperatingPoint, Scale
from sweeper.core.tasks import TaskRules, compute_median_point
from sweeper.core.text import join_words
from sweeper.evidence.replicates import get_own_point
from sweeper.report.facts import ReportFacts, group_replicates, list_seed_scores
from sweeper.report.figures.style import (
    BAND,
    CHOSEN,
    INK,
    DrawnFigure,
    assign_finalist_colours,
    clean_axes,
    draw_legend,
    escape_figure_text,
    make_figure,
)
from sweeper.report.formatting import escape_md, format_code, format_number


@dataclass(frozen=True)
class _SweptScores:
    """A finalist's test score at every operating point."""

    finalist: FinalistEvidence
    points: Floats
    """(T,)"""
    values: Floats
    """(seeds, T)"""
    chosen: tuple[OperatingPoint, ...]
    """Each seed's chosen point; with folds their median."""
    own: tuple[float, ...]
    """Score of each seed at its trainings' chosen points."""

    def find_nearest(self, point: float) -> int:
        """Return the index of the stored point nearest to `point`."""
        return int(np.abs(self.points - point).argmin())


def _list_swept(facts: ReportFacts) -> list[_SweptScores]:
    """Return all finalists with stored counts, best estimate first."""
    swept = []
    for finalist in facts.finalists:
        kept = [r for r in group_replicates(facts, finalist) if all(run.evaluations for run in r.runs)]
        if not kept:
            continue
        tests = [[run.test for run in r.runs if run.test is not None] for r in kept]
        groups_of = facts.sweep.conditions.dataset.list_groups
        values = np.array(
            [
                score_all_points(parts, facts.compared, groups_of(i for part in parts for i in part.images))
                for parts in tests
            ]
        )
        points = np.asarray(select_metric_counts(tests[0][0], facts.compared).points)
        chosen = tuple(compute_median_point(map(get_own_point, r.runs)) for r in kept)
        swept.append(_SweptScores(finalist, points, values, chosen, tuple(list_seed_scores(facts, finalist))))
    return swept


def draw_threshold(facts: ReportFacts) -> DrawnFigure | str:
    """Draw the test score at every operating point, and below it recall and precision of the recommended loss."""
    swept_finalists = _list_swept(facts)
    if not swept_finalists:
        return f"no confirmation training kept its counts on {facts.tested_on}"
    rules, figure = facts.rules, make_figure(4.4)
    axes, shares = (clean_axes(panel, "both") for panel in figure.subplots(2, sharex=True, height_ratios=(3, 2)))
    for panel in (axes, shares):
        panel.axvline(_place_on_axis(facts, rules.plain_point), color=INK, lw=1, ls=(0, (4, 3)))
    sentences, colours = [], assign_finalist_colours(facts)
    for swept in swept_finalists:
        x = np.array([_place_on_axis(facts, p) for p in swept.points])
        name = swept.finalist.family
        colour, main = colours[name], swept.finalist in (facts.chosen, facts.rival)
        order = 7 if swept.finalist is facts.chosen else 5 if main else 3  # the recommended loss is on top
        if main:
            low, high = swept.values.min(axis=0), swept.values.max(axis=0)
            axes.fill_between(x, low, high, color=colour, alpha=BAND, lw=0)
        marker = "o" if rules.is_exclusive else None
        axes.plot(x, swept.values.mean(axis=0), color=colour, label=escape_figure_text(name), marker=marker, ms=4,
                  lw=1.4, zorder=order)  # fmt: skip
        places = [x[swept.find_nearest(float(np.mean(point)))] for point in swept.chosen]
        axes.plot(places, swept.own, "D", color=colour, mew=0, ms=6, zorder=order + 1)
        if main:
            default = float(swept.values[:, swept.find_nearest(rules.plain_point)].mean())
            sentences.append(
                f"{format_code(name)} scores {format_number(default)} {rules.at_plain} and "
                f"{format_number(float(np.mean(swept.own)))} "
                f"at the {rules.point_name} chosen on validation ({_format_span(swept.chosen, rules)})"
            )
    _make_ticks(axes, facts)
    evidence = facts.evidence
    if (
        facts.metric == Scale().score and not rules.is_exclusive and evidence is not None
    ):  # start the axis near the constant prediction
        top = max(float(swept.values.max()) for swept in swept_finalists)
        axes.set_ylim(max(0.0, evidence.constant_miou - 0.05), max(top, evidence.constant_miou) + 0.03)
    axes.set_ylabel(f"test {facts.metric}")
    shares.set_xlabel(rules.point_name)
    draw_legend(axes)
    text = f"Diamonds: each seed at the {rules.point_name} chosen on validation. Dashed: {rules.plain_point:g}. "
    text += f"{'; '.join(sentences)}. " if sentences else ""
    shown = max(swept_finalists, key=lambda swept: swept.finalist is facts.chosen)  # else the first
    text += _draw_recall_and_precision(shares, facts, shown.finalist)
    title = f"Test {facts.metric}, recall and precision against the {rules.point_name}"
    return DrawnFigure(figure, text, title)


def _draw_recall_and_precision(axes: Axes, facts: ReportFacts, finalist: FinalistEvidence) -> str:
    """Draw both at every operating point of a finalist, for all its trainings together; return the explanation."""
    rules = facts.rules
    tests = [run.test for r in group_replicates(facts, finalist) for run in r.runs_with_counts if run.test is not None]
    counts = np.sum([count_at_all_points(test.summed)[0] for test in tests], axis=0)  # (T, C, 3)
    marked = find_present_classes(counts[:1])
    marked[: rules.first_channel] = False
    places, point = [_place_on_axis(facts, p) for p in tests[0].points], float(np.median(finalist.points))
    at, parts = int(np.abs(np.asarray(tests[0].points) - point).argmin()), []
    for name, measure, style in (("recall", compute_recall, "-"), ("precision", compute_precision, (0, (1, 1)))):
        values = average_classes(measure(counts), marked)
        axes.plot(places, values, color=CHOSEN, ls=style)
        axes.plot(places[at], values[at], "D", color=CHOSEN, mew=0, ms=6.5)
        parts.append(f"{name} {format_number(float(values[at]))}")
    axes.set_ylabel("recall, precision")
    of_what = f"of {escape_md(facts.classes[1])}" if rules.first_channel else "mean over the classes"
    return (
        f"Below: recall (line) and precision (dotted) with {format_code(finalist.family)}, {of_what}; at "
        f"{rules.point_name} {format_number(point, 2)}: {join_words(parts)}. `sweeper predict --threshold X` takes "
        "another."
    )


def _place_on_axis(facts: ReportFacts, point: float) -> float:
    """Return a point's place on the axis: thresholds on the logit scale, where the stored ones are uniform."""
    return point if facts.rules.is_exclusive else float(np.log(point / (1 - point)))


def _make_ticks(axes: Axes, facts: ReportFacts) -> None:
    if not facts.rules.is_exclusive:
        marks = (0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999)
        axes.set_xticks([_place_on_axis(facts, m) for m in marks], labels=[f"{m:g}" for m in marks])
        axes.set_xlim(_place_on_axis(facts, 0.0003), _place_on_axis(facts, 0.9997))


def _format_span(points: Sequence[OperatingPoint], rules: TaskRules) -> str:
    values = np.array(points)
    low, high = (format_number(p, 2) for p in (values.min(), values.max()))
    return low if low == high else f"τ from {low} to {high}" if rules.is_exclusive else f"{low} to {high}"
