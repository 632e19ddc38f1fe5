"""What each loss gains over cross-entropy, data set by data set."""

from __future__ import annotations

from collections.abc import Sequence

from sweeper.report.compare_text import Side, families
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
)
from sweeper.report.formatting import code, number, significant

MOST = 24
"""More data sets than this do not fit; those with the severest imbalance are drawn."""


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
