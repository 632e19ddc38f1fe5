"""Figures of the search: all trials, and how each family's coordinates went with the objective."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, LogNorm
from matplotlib.ticker import FuncFormatter, LogLocator

from sweeper.core.metrics import Floats
from sweeper.core.records import Coordinate
from sweeper.core.text import count, listed
from sweeper.report.facts import ENOUGH, Facts, best_trial, is_log, searched_range, trend
from sweeper.report.figures.style import (
    BLUE,
    FONT,
    INK,
    ORANGE,
    PURPLE,
    VERMILLION,
    Drawn,
    clean,
    legend,
    new_figure,
    plain,
)
from sweeper.report.formatting import code, number, signed

MOST_PANELS = 30
SYMBOLS = {
    "gamma": "γ (gamma)",
    "alpha": "α (alpha)",
    "mix": "λ (mix)",
    "pos_weight": "w (pos_weight)",
    "class_weight_power": "p (class_weight_power)",
    "fn_weight": "b (fn_weight)",
    "overlap_exponent": "κ (overlap_exponent)",
    "lr": "learning rate",
}
"""Coordinates under the names of the field."""
_RATES = LinearSegmentedColormap.from_list("rates", (BLUE, PURPLE, ORANGE))
_GOLDEN = 0.6180339887498949


def search(facts: Facts) -> Drawn | str:
    """Every search trial's last objective on the rungs' validation images, one strip per family, in registry order.

    A stopped trial was scored on these alone: complete ones are drawn by the same images.
    """
    frame = facts.search.dropna(subset=["value_part"])
    if frame.empty:
        return "no trial of the search has a value"
    families = facts.families
    figure = new_figure(1.0 + 0.36 * len(families))
    axes = clean(figure.add_subplot())
    # Golden-ratio steps spread neighbours evenly without drawing random numbers.
    rows = frame["family"].map({name: i for i, name in enumerate(families)}).to_numpy(dtype=float)
    order = frame.groupby("family").cumcount().to_numpy(dtype=float)
    height = rows + 0.5 * ((order * _GOLDEN) % 1 - 0.5)
    value = frame["value_part"].to_numpy(dtype=float)
    pruned = (frame["state"] == "pruned").to_numpy()
    collapsed = (frame["collapse"] != "none").to_numpy()
    early, done = pruned & ~collapsed, ~pruned & ~collapsed
    left, right = _limits(value, collapsed)
    beyond = collapsed & (value < left)
    if early.any():
        axes.plot(value[early], height[early], "o", color=INK, mfc="none", ms=4, mew=0.9, label="stopped early")
    axes.plot(value[done], height[done], "o", color=BLUE, ms=4.5, mew=0, label="complete")
    if collapsed.any():
        at = np.maximum(value, left)[collapsed]
        axes.plot(at, height[collapsed], "x", color=VERMILLION, ms=5, mew=1.4, label="collapsed", clip_on=False)
    best = [(i, best_trial(facts, family)) for i, family in enumerate(families)]
    ticks = [(t.value, i) for i, t in best if t is not None and t.value is not None]
    drawn = [(t.evaluations[-1].part_value, i) for i, t in best if t is not None and t.evaluations]
    marked = [(v, i) for v, i in drawn if v >= left]
    axes.vlines([v for v, _ in marked], [i - 0.36 for _, i in marked], [i + 0.36 for _, i in marked], color=INK, lw=1.4)
    axes.plot([], [], "|", color=INK, ms=10, mew=1.4, label="best of the family")
    axes.set_xlim(left, right)
    axes.set_yticks(range(len(families)), labels=[plain(name) for name in families])
    axes.set_ylim(len(families) - 0.5, -0.5)
    axes.set_xlabel(f"validation {facts.objective} at the last evaluation{_images(part_of(facts))}")
    legend(axes, 2)
    text = f"{count(int((~pruned).sum()), 'trial')} completed, {pruned.sum()} {_were(int(pruned.sum()))} stopped early"
    text += f"; {collapsed.sum()} of these collapsed." if collapsed.any() else "."
    if ticks:
        value_of, row = max(ticks)
        on_all = " on all validation images" if part_of(facts) else ""
        text += f" The best single trial is one of {code(families[row])} with {number(value_of)}{on_all}"
        last, last_row = min(ticks)
        text += f"; the best of {code(families[last_row])} reached {number(last)}." if len(ticks) > 1 else "."
    if beyond.any():
        n, low, high = int(beyond.sum()), number(float(value[beyond].min())), number(float(value[beyond].max()))
        values = f"its value: {low}" if n == 1 else f"their values: {low}" + (f" to {high}" if low != high else "")
        text += f" {count(n, 'collapsed trial is', 'collapsed trials are')} drawn at the left edge ({values})."
    text += _part_text(facts)
    text += " One trial is one seed: read the spread within a family, not single points."
    return Drawn(figure, text, f"Validation {facts.objective} of all search trials by family")


def part_of(facts: Facts) -> tuple[int, int] | None:
    """How many validation images the search's rungs are scored on, of how many; None where on all, or not known."""
    known = facts.search.dropna(subset=["part", "val_images"])
    if known.empty:
        return None
    part, whole = int(known["part"].iloc[0]), int(known["val_images"].iloc[0])
    return (part, whole) if part < whole else None


def _images(part: tuple[int, int] | None) -> str:
    return "" if part is None else f", on {part[0]} of the {part[1]} images"


def _part_text(facts: Facts) -> str:
    found = part_of(facts)
    if found is None:
        return ""
    return (
        f" Drawn by the {found[0]} of {found[1]} validation images that every evaluation was scored on, as stopped "
        "trials saw no others; the tables give complete trials on all."
    )


def _limits(value: Floats, collapsed: npt.NDArray[np.bool_]) -> tuple[float, float]:
    """Ends of the axis, around the trials that learned: collapsed ones, often at 0, would squeeze these together."""
    shown = value[~collapsed] if (~collapsed).any() else value
    low, high = float(shown.min()), float(shown.max())
    margin = max(0.08 * (high - low), 0.005)
    return low - margin, max(high, float(value.max())) + margin


def _were(n: int) -> str:
    return "was" if n == 1 else "were"


def landscape(facts: Facts) -> Drawn | str:
    """A panel per searched coordinate against the objective, coloured by learning rate."""
    frame = facts.search.dropna(subset=["value_part"])
    panels = [
        (family, name, coordinate)
        for family, name, coordinate in searched(facts)
        if not frame[(frame["family"] == family)].empty
    ]
    if not panels:
        return "no trial of the search has a value"
    left_out = len(panels) - MOST_PANELS
    panels = panels[:MOST_PANELS]
    columns = min(3, len(panels))
    lines = -(-len(panels) // columns)
    figure = new_figure(0.75 + 1.55 * lines)
    grid = np.atleast_1d(np.asarray(figure.subplots(lines, columns, sharey=True, squeeze=False))).ravel()
    low, high = facts.sweep.space.lr.low, facts.sweep.space.lr.high
    colours = ScalarMappable(LogNorm(low, high if high > low else low * 1.01), _RATES)
    for i, (axes, (family, name, coordinate)) in enumerate(zip(grid, panels, strict=False)):
        mine, bounds = frame[frame["family"] == family], searched_range(facts, coordinate)
        _panel(axes, mine, name, coordinate, bounds=bounds, colours=colours)
        axes.set_title(plain(family), fontsize=FONT, loc="left", pad=3, color=INK)
        axes.set_xlabel(plain(SYMBOLS.get(name, name)))
        if i % columns == 0:
            axes.set_ylabel(plain(facts.objective))
    for axes in grid[len(panels) :]:
        axes.set_visible(False)
    value = frame["value_part"].to_numpy(dtype=float)
    floor, ceiling = _limits(value, (frame["collapse"] != "none").to_numpy())
    grid[0].set_ylim(floor, ceiling + 0.08 * (ceiling - floor))  # room for the ring of the best
    below = np.sort(value[value < floor])
    bar = figure.colorbar(colours, ax=list(grid), location="bottom", aspect=45, pad=0.02, shrink=0.6)
    bar.set_label("learning rate", fontsize=FONT, color=INK)
    bar.ax.tick_params(which="both", labelsize=FONT, color=INK, labelcolor=INK)
    bar.outline.set_visible(False)
    return Drawn(
        figure, _landscape_text(facts, panels, left_out, below), "Objective against every searched hyper-parameter"
    )


def searched(facts: Facts) -> list[tuple[str, str, Coordinate]]:
    """(family, coordinate, its range) for every free coordinate; the learning rate for families without any."""
    result = []
    for family in facts.sweep.space.families:
        free = [(n, c) for n, c in family.coordinates.items() if c.kind != "fixed"]
        for name, coordinate in free or [("lr", facts.sweep.space.lr)]:
            result.append((family.family, name, coordinate))
    return result


def _panel(
    axes: Axes,
    frame: pd.DataFrame,
    name: str,
    coordinate: Coordinate,
    *,
    bounds: tuple[float, float],
    colours: ScalarMappable,
) -> None:
    clean(axes, "both")
    column = "lr" if name == "lr" else f"params.{name}"
    seen = frame[column].dropna()
    known = [float(v) for v in (*bounds, seen.min(), seen.max()) if np.isfinite(v)]
    low, high = min(known, default=1.0), max(known, default=1.0)
    if is_log(coordinate) and low > 0:
        axes.set_xscale("log")
        step = max(1.1, (high / low) ** 0.05)
        axes.set_xlim(low / step, high * step)
        axes.xaxis.set_major_locator(LogLocator(10, (1.0, 3.0) if high / low < 30 else (1.0,)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.minorticks_off()
    else:
        axes.set_xlim(low - 0.05 * (high - low), high + 0.05 * (high - low) + 1e-9)
    early = frame[frame["state"] == "pruned"]
    axes.plot(early[column], early["value_part"], "o", color=INK, mfc="none", ms=3.5, mew=0.7)
    done = frame[frame["state"] == "complete"]
    axes.scatter(
        done[column], done["value_part"], c=colours.to_rgba(done["lr"].to_numpy(dtype=float)), s=22, lw=0
    )  # fmt: skip
    if not done.empty:
        best = int(done["value"].to_numpy(dtype=float).argmax())
        axes.plot(
            done[column].iloc[best],
            done["value_part"].iloc[best],
            "o",
            color=INK,
            mfc="none",
            ms=9,
            mew=1.2,
        )


def _landscape_text(facts: Facts, panels: list[tuple[str, str, Coordinate]], left_out: int, below: Floats) -> str:
    clear = [
        f"{code(name)} of {code(family)} (ρ = {signed(result.rho, 2)}, n = {result.n})"
        for family, name, _ in panels
        if (result := trend(facts, family, name)).clear
    ]
    if clear:
        found = f" A clear monotone trend shows in {listed(clear)}."
    elif any(trend(facts, family, name).n >= ENOUGH for family, name, _ in panels):
        found = " No hyper-parameter shows a clear monotone trend."
    else:  # the text above the figure says so
        found = ""
    text = (
        "Each point is a search trial, filled when complete (colour: learning rate), hollow when stopped early; "
        f"the best of the family is ringed.{found}"
    )
    if len(below):
        low, high = number(float(below[0])), number(float(below[-1]))
        text += f" {count(len(below), 'collapsed trial lies', 'collapsed trials lie')} below the axis, at {low}"
        text += "." if low == high else f" to {high}."
    return text + _part_text(facts) + (f" {left_out} more panels are left out." if left_out > 0 else "")
