"""The imbalance of the labels: pixels and images of each class."""

from __future__ import annotations

import numpy as np

from sweeper.report.facts import Facts
from sweeper.report.figures.style import BLUE, ORANGE, Drawn, class_label, clean, legend, new_figure
from sweeper.report.formatting import escape_md, number, percent


def imbalance(facts: Facts) -> Drawn | str:
    """Share of the labelled pixels of each class, on a logarithmic axis, with its prevalence beside it."""
    profile = facts.sweep.profile
    order = sorted(range(len(profile.classes)), key=lambda i: -profile.classes[i].pixel_share)
    shown = [i for i in order if profile.classes[i].pixel_share > 0][:60]
    if not shown:
        return "no pixel has a label"
    shares = [profile.classes[i].pixel_share for i in shown]
    figure = new_figure(1.0 + 0.27 * len(shown))
    axes = clean(figure.add_subplot())
    floor = 10.0 ** np.floor(np.log10(min(shares)) - 0.3)
    axes.barh(range(len(shown)), shares, left=0, height=0.62, color=BLUE, label="share of labelled pixels")
    prevalence = [profile.classes[i].picture_share for i in shown]
    axes.plot(prevalence, range(len(shown)), "D", color=ORANGE, mec="white", ms=6, label="share of images with it")
    for row, share in enumerate(shares):
        inside = share > 10 ** (np.log10(floor) * 0.45)
        axes.annotate(
            percent(share), (share, row), xytext=(-5 if inside else 5, 0), textcoords="offset points", va="center",
            ha="right" if inside else "left", color="white" if inside else "black", fontsize=7.5,
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_xlim(floor, 1.35)
    ticks = [10.0**e for e in range(int(np.log10(floor)), 1)]
    axes.set_xticks(ticks, labels=[f"{100 * t:g}\u2009%" for t in ticks])
    axes.minorticks_off()
    axes.set_yticks(range(len(shown)), labels=[class_label(facts.classes, i) for i in shown])
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.set_xlabel("share (logarithmic axis)")
    legend(axes, across=True)
    rarest, commonest = profile.classes[shown[-1]], profile.classes[shown[0]]
    text = (
        f"{escape_md(rarest.name)} has {percent(rarest.pixel_share)} of the labelled pixels and occurs in "
        f"{percent(rarest.picture_share)} of the images; {escape_md(commonest.name)} has "
        f"{number(commonest.pixel_share / rarest.pixel_share, 1)} times as many pixels."
    )
    missing = [c.name for c in profile.classes if c.pixel_share == 0]
    if missing:
        text += f" Without a single pixel: {', '.join(escape_md(name) for name in missing)}."
    return Drawn(figure, text, "Share of pixels and of images per class")
