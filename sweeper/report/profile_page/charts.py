"""Figures of numbers: how common the classes are, how large their pieces, how thin."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.ticker import FuncFormatter, NullLocator

from sweeper.core.records import ClassProfile, ImbalanceProfile
from sweeper.core.text import count
from sweeper.fingerprint.shape_histograms import DEPTHS, ClassShapes
from sweeper.report.figures.style import (
    BLUE,
    FONT,
    GREY,
    ORANGE,
    VERMILLION,
    Drawn,
    class_label,
    clean,
    legend,
    new_figure,
)
from sweeper.report.formatting import escape_md, number, percent

MOST = 40
"""Classes a figure shows: the rarest are left out first."""
_SHADES = ("#8C2D04", "#D95F0E", "#FE9929", "#FED98E", "#E8E8E8")
"""From thin to deep: Color Brewer's sequential orange, and grey for what is far from any boundary."""


def _shown(profile: ImbalanceProfile) -> list[int]:
    """Classes that occur, the commonest first."""
    order = sorted(range(len(profile.classes)), key=lambda i: -profile.classes[i].pixel_share)
    return [i for i in order if profile.classes[i].pixel_share > 0][:MOST]


def _names(profile: ImbalanceProfile, shown: Sequence[int]) -> list[str]:
    return [class_label([c.name for c in profile.classes], i) for i in shown]


def shares(profile: ImbalanceProfile) -> Drawn:
    """Share of the labelled pixels of each class on a logarithmic axis, and the share of images that show it."""
    shown = _shown(profile)
    values = [profile.classes[i].pixel_share for i in shown]
    figure = new_figure(1.0 + 0.27 * len(shown))
    axes = clean(figure.add_subplot())
    floor = 10.0 ** np.floor(np.log10(min(values)) - 0.3)
    axes.barh(range(len(shown)), values, height=0.62, color=BLUE, label="share of the labelled pixels")
    prevalence = [profile.classes[i].picture_share for i in shown]
    axes.plot(prevalence, range(len(shown)), "D", color=ORANGE, mec="white", ms=6, label="share of the images with it")
    for row, share in enumerate(values):
        inside = share > 10 ** (np.log10(floor) * 0.55)
        axes.annotate(
            percent(share), (share if not inside else floor, row), xytext=(5, 0), textcoords="offset points",
            va="center", ha="left", color="white" if inside else "black", fontsize=7.5,
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_xlim(floor, 1.35)
    exponents = range(int(np.log10(floor)), 1)
    axes.set_xticks([10.0**e for e in exponents], labels=[f"{100 * 10.0**e:g}\u2009%" for e in exponents])
    axes.minorticks_off()
    axes.set_yticks(range(len(shown)), labels=_names(profile, shown))
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.set_xlabel("share (logarithmic axis)")
    legend(axes, 2, across=True)
    rarest, commonest = profile.classes[shown[-1]], profile.classes[shown[0]]
    text = (
        f"{escape_md(rarest.name)} has {percent(rarest.pixel_share)} of the labelled pixels, "
        f"{escape_md(commonest.name)} {number(commonest.pixel_share / rarest.pixel_share, 1)} times as many."
    )
    return Drawn(figure, text, "Share of pixels and of images per class, on a logarithmic axis")


def sizes(profile: ImbalanceProfile, shapes: Sequence[ClassShapes]) -> Drawn:
    """Histogram of the components' pixels per class, on a logarithmic axis; a tick marks the median."""
    shown = _shown(profile)
    figure = new_figure(0.95 + 0.34 * len(shown))
    axes = clean(figure.add_subplot())
    top = 1
    for row, index in enumerate(shown):
        heights = np.array(shapes[index].sizes, dtype=np.float64)
        top = max(top, int(np.flatnonzero(heights).max()) + 1)
        heights *= 0.82 / heights.max()
        # A histogram whose bins are factors of two: drawn as steps that stand on the class's line.
        edges = 2.0 ** np.arange(len(heights) + 1)
        axes.stairs(row + 0.42 - heights, edges, baseline=row + 0.42, fill=True, color=BLUE, alpha=0.75, lw=0)
        components = profile.classes[index].component_pixels
        if components is not None:
            axes.plot([components[1]] * 2, [row + 0.42, row - 0.42], color=VERMILLION, lw=1.4, solid_capstyle="butt")
        axes.annotate(
            f"{shapes[index].components:,}", (1, row), xycoords=("axes fraction", "data"), xytext=(4, 0),
            textcoords="offset points", va="center", fontsize=7, color="#595959", annotation_clip=False,
        )  # fmt: skip
    axes.set_xscale("log", base=10)
    axes.set_xlim(1, 2.0**top)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_yticks(range(len(shown)), labels=_names(profile, shown))
    axes.set_ylim(len(shown) - 0.5, -0.55)
    axes.tick_params(axis="y", length=0)
    # Of the figure: long names at the left leave the axes narrower than this.
    figure.supxlabel("pixels of a connected piece (logarithmic axis); at the right: how many pieces", fontsize=FONT)
    things = [i for i in shown if i > 0] or shown  # of the background, splinters between things say little
    smallest = min((profile.classes[i] for i in things), key=_median)
    text = (
        "Each class's pieces by size, its fullest bin at full height; the red line is the median. Half of the pieces "
        f"of {escape_md(smallest.name)} have at most {count(round(_median(smallest)), 'pixel')}."
    )
    return Drawn(figure, text, "Distribution of the sizes of connected pieces per class")


def thinness(profile: ImbalanceProfile, shapes: Sequence[ClassShapes]) -> Drawn:
    """Share of each class's pixels by their distance to another class."""
    shown = _shown(profile)
    figure = new_figure(1.0 + 0.27 * len(shown))
    axes = clean(figure.add_subplot())
    depths = np.array([shapes[i].depths for i in shown], dtype=np.float64)
    depths /= depths.sum(axis=1, keepdims=True)
    starts = np.zeros(len(shown))
    ends = [f"{low}–{high}" for low, high in zip((1, *(d + 1 for d in DEPTHS)), DEPTHS, strict=False)]
    for column, text in enumerate([*ends, f"over {DEPTHS[-1]}"]):
        axes.barh(
            range(len(shown)), depths[:, column], left=starts, height=0.62, color=_SHADES[column],
            label=f"{text} px", edgecolor="white", lw=0.5,
        )  # fmt: skip
        starts += depths[:, column]
    for row, share in enumerate(depths[:, 0]):
        if share > 0.09:
            axes.annotate(
                f"{100 * share:.0f}\u2009%", (0, row), xytext=(4, 0), textcoords="offset points", va="center",
                color="white", fontsize=7.5,
            )  # fmt: skip
    axes.set_xlim(0, 1)
    axes.set_xticks([0, 0.25, 0.5, 0.75, 1], labels=[f"{p}\u2009%" for p in (0, 25, 50, 75, 100)])
    axes.set_yticks(range(len(shown)), labels=_names(profile, shown))
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.spines["bottom"].set_color(GREY)
    axes.set_xlabel("share of the class's pixels", fontsize=FONT)
    legend(axes, 5, across=True)
    thinnest = shown[int(depths[:, 0].argmax())]
    caption = (
        "Pixels by their distance to another class. "
        f"{100 * depths[:, 0].max():.0f} % of {escape_md(profile.classes[thinnest].name)} lies within {DEPTHS[0]} "
        "pixels of its boundary, where a label one pixel off already counts as an error."
    )
    return Drawn(figure, caption, "Share of each class's pixels by distance to its boundary")


def _median(row: ClassProfile) -> float:
    return row.component_pixels[1] if row.component_pixels else float("inf")
