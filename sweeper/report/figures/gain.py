"""What each finalist gains over cross-entropy: the figure under the answer card."""

from __future__ import annotations

from sweeper.core.text import count
from sweeper.report.facts import Facts, difference, finalist_name, level_between
from sweeper.report.figures.style import BLACK, LIGHT, Drawn, clean, finalist_colours, new_figure, plain
from sweeper.report.formatting import code, level, number, signed


def gain(facts: Facts) -> Drawn | str:
    """Paired difference of each finalist to cross-entropy with its interval, and the margin."""
    baseline = facts.baseline
    if not facts.finalists:
        return f"no configuration was confirmed on {facts.tested_on}"
    if baseline is None:
        return "cross-entropy was not confirmed"
    colours = dict(zip(map(id, facts.finalists), finalist_colours(facts, facts.finalists), strict=True))
    found = [(f, gap) for f in facts.finalists if (gap := difference(facts, f, baseline)) is not None]
    if not found:
        return "nothing but cross-entropy was confirmed"
    rope = facts.sweep.rope
    figure = new_figure(0.95 + 0.42 * len(found))
    axes = clean(figure.add_subplot())
    axes.axvspan(-rope, rope, color=LIGHT, alpha=0.6, lw=0, zorder=0)
    axes.axvline(0, color=BLACK, lw=1, zorder=1)
    alone = False
    for row, (finalist, gap) in enumerate(found):
        colour = colours[id(finalist)]
        if facts.seeds(finalist, baseline) > 1:
            axes.plot([gap.low, gap.high], [row, row], color=colour, lw=2.2, solid_capstyle="butt", zorder=2)
        else:
            alone = True
        axes.plot(gap.estimate, row, "o", color=colour, ms=7, zorder=3)
        axes.annotate(signed(gap.estimate), (gap.estimate, row), xytext=(0, 6), ha="center",
                      textcoords="offset points", fontsize=7.5)  # fmt: skip
    axes.set_yticks(range(len(found)), labels=[plain(finalist_name(facts, f)) for f, _ in found])
    axes.set_ylim(len(found) - 0.5, -0.6)
    axes.margins(x=0.06)
    axes.set_xlabel("← worse     test mIoU against tuned cross-entropy     better →")
    levels = sorted({level_between(facts, f, baseline) for f, _ in found})
    at = level(levels[0]) if len(levels) == 1 else f"{level(levels[0])} to {level(levels[-1])}"
    shown = [code(finalist_name(facts, f)) for f, gap in found if gap.low > 0 and facts.seeds(f, baseline) > 1]
    text = f"Dots: differences on the same images and seeds; lines: {at} intervals. "
    text += "Of a single seed no interval can be told. " if alone else ""
    text += f"Within the grey band (± {number(rope)}) a difference does not matter. "
    text += (
        f"Shown to be better: {', '.join(shown)}."
        if shown
        else f"None of the {count(len(found), 'rival')} is shown to be better."
    )
    return Drawn(figure, text, "What each finalist gains over tuned cross-entropy in test mIoU")
