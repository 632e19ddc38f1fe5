"""Scores of the finalists by each rule that makes masks of probabilities."""

from __future__ import annotations

from sweeper.report.decision_rules import METRICS, RULES, decisions_of
from sweeper.report.facts import Facts, finalist_name
from sweeper.report.figures.style import GREEN, INK, PURPLE, Drawn, clean, legend_of, new_figure, plain
from sweeper.report.formatting import level

_LOOKS = {"plain": ("o", INK), "tuned": ("s", GREEN), "rank_dice": ("^", PURPLE)}


def loss_and_rule(facts: Facts) -> Drawn | str:
    """A row per finalist, a marker with its interval per rule; a panel per metric."""
    found = decisions_of(facts)
    if found is None:
        return "decision rules are compared of two classes, from counts of single images"
    names = [plain(finalist_name(facts, finalist)) for finalist in facts.finalists]
    figure = new_figure(1.05 + 0.42 * len(names))
    panels = figure.subplots(1, 2, sharey=True)
    for axes, metric in zip(panels, METRICS, strict=True):
        clean(axes)
        rules = [rule for rule in found.rules if rule.metric == metric]
        for place, rule in enumerate(rules):
            marker, colour = _LOOKS[rule.name]
            rows = [i + 0.24 * (place - (len(rules) - 1) / 2) for i in range(len(names))]
            axes.hlines(rows, [s.low for s in rule.scores], [s.high for s in rule.scores], color=colour, lw=1.6)
            axes.plot([s.estimate for s in rule.scores], rows, marker, color=colour, ms=5.5, mew=0, zorder=3,
                      label=RULES[rule.name])  # fmt: skip
        axes.locator_params(axis="x", nbins=4)
        axes.set_xlabel(METRICS[metric])
    panels[0].set_yticks(range(len(names)), labels=names)
    panels[0].set_ylim(len(names) - 0.5, -0.5)
    legend_of(figure, panels[0].get_legend_handles_labels()[0])
    text = (
        f"Markers: means over the seeds. Lines: {level(0.95)} intervals. All rules saw the same trainings and images, "
        "so that differences are sharper than the lines: overlap is no proof of equality."
    )
    return Drawn(figure, text, "Test scores of the finalists by decision rule")
