"""The figure of the classes: the test IoU of each with two losses, the rarest at the top."""

from __future__ import annotations

from sweeper.core.text import format_count, format_share, join_words
from sweeper.report.facts import ReportFacts
from sweeper.report.figures.style import (
    BAND,
    INK,
    MARKERS,
    DrawnFigure,
    assign_finalist_colours,
    clean_axes,
    draw_legend,
    escape_figure_text,
    format_class_label,
    make_figure,
)
from sweeper.report.formatting import MOST_CLASSES, format_code


def draw_classes(facts: ReportFacts) -> DrawnFigure | str:
    """Draw each class's test IoU with the present loss and the used one, each with its interval."""
    table = facts.document.classes
    if table is None:
        return f"no class was scored on {facts.tested_on}"
    rows = [row for row in table.rows if row.scores][:MOST_CLASSES]
    colours, names = assign_finalist_colours(facts), [escape_figure_text(loss) for loss in table.losses]
    figure = make_figure(0.9 + 0.34 * len(rows))
    axes = clean_axes(figure.add_subplot())
    for place, row in enumerate(rows):
        values = [score.estimate for score in row.scores]
        axes.plot([min(values), max(values)], [place, place], color=INK, alpha=BAND, lw=5, zorder=1)
    for number, loss in enumerate(table.losses):
        shift = 0.12 * (number - (len(table.losses) - 1) / 2)  # else one interval would hide the other
        for place, score in enumerate(row.scores[number] for row in rows):
            ends = [end for end in (score.low, score.high) if end is not None]
            axes.plot(ends, [place + shift] * len(ends), color=colours[loss], lw=1.6, zorder=2)
        axes.plot([row.scores[number].estimate for row in rows], [place + shift for place in range(len(rows))],
                  MARKERS[number], ls="", color=colours[loss], ms=6.5, label=names[number], zorder=3)  # fmt: skip
    numbers = [facts.classes.index(row.name) for row in rows]
    labels = [
        f"{format_class_label(facts.classes, number)}  {format_share(row.share)}"
        for number, row in zip(numbers, rows, strict=True)
    ]
    axes.set_yticks(range(len(rows)), labels=labels)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlim(-0.02, 1.02)
    axes.set_xlabel("test IoU")
    draw_legend(axes)
    text = f"Test IoU with {join_words([format_code(loss) for loss in table.losses])}, mean over the seeds"
    caption = f"{text}; lines: 95 % intervals. Beside a class: its share of the pixels."
    title = f"{len(rows)} of {format_count(len(table.rows), 'class')}, the rarest at the top"
    return DrawnFigure(figure, caption, title)
