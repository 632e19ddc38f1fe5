"""Figure of the longer look: what the gaps between losses do with more steps."""

from __future__ import annotations

from sweeper.report.card import format_gap
from sweeper.report.facts import ReportFacts
from sweeper.report.figures.style import (
    INK,
    MARKERS,
    SMALL,
    DrawnFigure,
    assign_finalist_colours,
    clean_axes,
    draw_legend,
    escape_figure_text,
    make_figure,
)
from sweeper.report.formatting import escape_prose, format_code, format_signed_number


def draw_longer(facts: ReportFacts) -> DrawnFigure | str:
    """Draw the gap of each loss that was trained longer, at the confirmation's steps and at several times as many."""
    look = facts.recommendation.longer
    if look is None:
        return "no longer training was looked at"
    over = look.gaps[0].second
    lines = [gap for gap in look.gaps if gap.second == over]
    colours = dict(
        zip((f.family for f in facts.finalists), assign_finalist_colours(facts, facts.finalists), strict=True)
    )
    figure = make_figure(2.3)
    axes = clean_axes(figure.add_subplot(), "y")
    axes.axhline(0, color=INK, lw=1, zorder=1)
    for k, gap in enumerate(lines):
        ends, places = (gap.before, gap.after), [0.04 * k, 1 + 0.04 * k]
        middle, colour = [end.estimate for end in ends], colours[gap.first]
        axes.plot(places, middle, color=colour, marker=MARKERS[k], ms=5, label=escape_figure_text(gap.first), zorder=3)
        for place, end in zip(places, ends, strict=True):
            if end.high - end.low < 2:  # else its error is not known
                axes.plot([place] * 2, [end.low, end.high], color=colour, lw=1.4, zorder=2)
            last = end is gap.after
            number = format_signed_number(end.estimate)
            axes.annotate(number, (place, end.estimate), xytext=(6 if last else -6, 3), color=INK,
                          ha="left" if last else "right", textcoords="offset points", fontsize=SMALL)  # fmt: skip
    steps = facts.sweep.conditions.recipe.confirm_steps
    axes.set_xticks([0, 1], labels=[f"{steps:,} steps", f"{look.steps:,} steps"])
    axes.set_xlim(-0.3, 1.4)
    axes.set_ylabel(f"test {facts.metric} over\n{escape_figure_text(over)}")
    draw_legend(axes)
    text = (
        f"Gaps to {format_code(over)} on the same test images, after the confirmation and after {look.times} times its "
        "steps, on other seeds. Bars: intervals; with one seed, its spread over seeds is the confirmation's. "
        f"{escape_prose('; '.join(f'`{gap.first}` {format_gap(gap)}' for gap in lines))}."
    )
    return DrawnFigure(figure, text, f"What {look.times} times the steps change")
