"""What each judged method gains over one of them, with its interval."""

from __future__ import annotations

import math

from sweeper.evidence.decision_rule import beats, difference
from sweeper.judging.judgement import Judgement
from sweeper.report.figures.style import BAND, BLUE, INK, SMALL, VERMILLION, Drawn, clean, new_figure, plain
from sweeper.report.formatting import code, level, signed


def differences(judgement: Judgement) -> Drawn:
    """Differences to the baseline, or where there is none to the named method; above 0 is better."""
    contest, table = judgement.shown, judgement.table
    names = [each.family for each in contest.finalists]
    to = contest.baseline if contest.baseline is not None else names.index(judgement.named)
    rows = [i for i in range(len(names)) if i != to]
    figure = new_figure(0.95 + 0.42 * len(rows))
    axes = clean(figure.add_subplot())
    axes.axvspan(-table.margin, table.margin, color=INK, alpha=BAND, lw=0, zorder=0)
    axes.axvline(0, color=INK, lw=1, zorder=1)
    for row, i in enumerate(rows):
        gap = difference(contest, i, to)
        colour = BLUE if beats(contest, i, to) else VERMILLION if beats(contest, to, i) else INK
        if math.isfinite(gap.low):
            axes.plot([gap.low, gap.high], [row, row], color=colour, lw=2.2, solid_capstyle="butt", zorder=2)
        axes.plot(gap.estimate, row, "o", color=colour, ms=7, zorder=3)
        axes.annotate(signed(gap.estimate, table.scale.digits), (gap.estimate, row), xytext=(0, 6), ha="center",
                      textcoords="offset points", fontsize=SMALL, color=INK)  # fmt: skip
    axes.set_yticks(range(len(rows)), labels=[plain(names[i]) for i in rows])
    axes.set_ylim(len(rows) - 0.5, -0.6)
    axes.margins(x=0.06)
    axes.set_xlabel(f"← worse     {plain(table.scale.score)} against {plain(names[to])}     better →")
    text = (
        f"Dots: differences to {code(names[to])}, above 0 better; lines: {level(judgement.level)} intervals. Within "
        f"the grey band (± {table.margin:g}) a difference does not matter. Blue is shown to be better, red to be worse."
    )
    if not all(math.isfinite(difference(contest, i, to).low) for i in rows):
        text += " A dot without a line: nothing is known of its error."
    other = "baseline" if contest.baseline is not None else "named method"
    return Drawn(figure, text, f"What each method gains over the {other}")
