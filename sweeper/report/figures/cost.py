"""What a training step costs with each loss."""

from __future__ import annotations

from sweeper.core.text import count
from sweeper.report.cost import BASELINE, cost_device, costs
from sweeper.report.facts import Facts
from sweeper.report.figures.style import BLACK, CHOSEN, GREY, Drawn, clean, new_figure, plain


def cost(facts: Facts) -> Drawn | str:
    """Milliseconds per training step of every loss: each training, and the median."""
    found = costs(facts)
    if not found:
        return "no training measured its steps"
    figure = new_figure(0.75 + 0.3 * len(found))
    axes = clean(figure.add_subplot())
    base = next((c for c in found if c.family == BASELINE), None)
    if base is not None:
        axes.axvline(1000 * base.median, color=GREY, lw=1, ls=(0, (4, 3)))
    chosen = facts.chosen.family if facts.chosen else None
    for row, entry in enumerate(found):
        colour = CHOSEN if entry.family == chosen else BLACK
        axes.plot([1000 * s for s in entry.seconds], [row] * len(entry.seconds), "|", color=colour, alpha=0.35, ms=9)
        axes.plot(1000 * entry.median, row, "o", color=colour, ms=6, mec="white", mew=0.8, zorder=3)
    axes.set_xlim(0, 1000 * max(c.seconds[-1] for c in found) * 1.06)
    axes.set_yticks(range(len(found)), labels=[plain(c.family) for c in found])
    axes.set_ylim(len(found) - 0.5, -0.5)
    axes.set_xlabel("ms per training step (dot: median, ticks: single trainings)")
    text = f"Cheapest first, {count(sum(len(c.seconds) for c in found), 'training')} on {cost_device(facts)}"
    if base is not None:
        text += "; the dashed line is cross-entropy"
    text += ". Where the ticks of two losses overlap, their cost is not told apart."
    return Drawn(figure, text, "Milliseconds per training step of every loss")
