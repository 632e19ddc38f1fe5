"""Figures of the search as it went: the best so far, every trial at every rung, parallel coordinates."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize

from sweeper.core.metrics import Floats
from sweeper.core.records import TrialResult
from sweeper.core.text import count
from sweeper.report.facts import Facts, is_log, searched_range
from sweeper.report.figures.search import SYMBOLS, part_of
from sweeper.report.figures.style import BLACK, BLUE, FONT, GREY, LIGHT, Drawn, clean, legend, new_figure, plain
from sweeper.report.formatting import code, number, significant

MOST_LINES = 300
"""More trials than this make a figure of lines black; the best are drawn."""
ENOUGH = 3
"""Complete trials below which lines between axes say nothing."""


def best_so_far(facts: Facts) -> Drawn | str:
    """The search's complete trials in their order, and the best value up to each."""
    done = [t for t in facts.sweep.trials if t.state == "complete" and t.value is not None]
    if len(done) < 2:
        return "fewer than two trials of the search completed"
    numbers, values = [t.spec.number for t in done], np.array([t.value or 0.0 for t in done])
    best = np.maximum.accumulate(values)
    figure = new_figure(2.6)
    axes = clean(figure.add_subplot(), "both")
    axes.plot(numbers, values, "o", color=GREY, mfc="none", ms=4, mew=0.9, label="complete trial")
    axes.step(numbers, best, where="post", color=BLUE, lw=1.8, label="best so far")
    learned = values[values > values.max() - 3 * max(1e-3, float(np.ptp(np.sort(values)[len(values) // 4 :])))]
    axes.set_ylim(float(learned.min()) - 0.02, float(values.max()) + 0.02)
    axes.set_xlabel("trial, in the order in which they were asked for")
    axes.set_ylabel(f"validation {plain(facts.objective)}")
    legend(axes)
    at = int(best.argmax())
    text = f"The best, {number(float(best[-1]))}, came with trial {numbers[at]}, a {code(done[at].spec.family)}. "
    text += f"Complete trials alone: {len(done)} of {len(facts.sweep.trials)}; values are on all validation images."
    return Drawn(figure, text, "Best value of the search so far, by trial")


def rungs(facts: Facts) -> Drawn | str:
    """Every trial of the search at every rung, on the images that all rungs were scored on."""
    trials = [t for t in facts.sweep.trials if t.evaluations]
    if not any(len(t.evaluations) > 1 for t in trials):
        return "no trial of the search was evaluated more than once"
    trials = sorted(trials, key=lambda t: t.evaluations[-1].part_value)[-MOST_LINES:]
    figure = new_figure(3.0)
    axes = clean(figure.add_subplot(), "both")
    stopped = [_line(t) for t in trials if t.state != "complete"]
    complete = [_line(t) for t in trials if t.state == "complete"]
    axes.add_collection(LineCollection(stopped, colors=GREY, linewidths=0.8, alpha=0.6, label="stopped early"))
    axes.add_collection(LineCollection(complete, colors=BLACK, linewidths=0.9, alpha=0.75, label="complete"))
    for line in stopped:
        axes.plot(*line[-1], "o", color=GREY, ms=3)
    best = max((t for t in trials if t.state == "complete"), key=lambda t: t.evaluations[-1].part_value, default=None)
    if best is not None:
        axes.plot(*_line(best).T, "-o", color=BLUE, lw=2, ms=4, label=f"{plain(best.spec.family)} (best)")
    axes.autoscale_view()
    steps = sorted({e.step for t in trials for e in t.evaluations})
    axes.set_xticks(steps if len(steps) <= 10 else steps[:: len(steps) // 8])
    axes.set_xlabel("training step (a rung: the better part goes on)")
    part = part_of(facts)
    axes.set_ylabel(f"validation {plain(facts.objective)}")
    legend(axes, 4)
    ended = [f"{sum(t.evaluations[-1].step == s for t in trials if t.state == 'pruned')} at step {s:,}" for s in steps]
    ended = [text for text in ended if not text.startswith("0 ")]
    text = f"Stopped: {', '.join(ended)}. " if ended else "No trial was stopped at a rung. "
    where = f"the same {part[0]} of {part[1]} validation images" if part else "the same validation images"
    return Drawn(figure, f"{text}Every point is from {where}.", "Every trial of the search at every rung")


def _line(trial: TrialResult) -> Floats:
    """(evaluations, 2): step and value."""
    return np.array([[e.step, e.part_value] for e in trial.evaluations], dtype=np.float64)


def parallel(facts: Facts) -> Drawn | str:
    """A line per complete trial over the loss, its coordinates and the learning rate, coloured by value."""
    done = [t for t in facts.sweep.trials if t.state == "complete" and t.value is not None and t.evaluations]
    done = sorted(done, key=lambda t: t.value or 0.0)[-MOST_LINES:]
    if len(done) < ENOUGH:
        return f"fewer than {ENOUGH} trials of the search completed"
    ranges = {n: c for family in facts.sweep.space.families for n, c in family.coordinates.items() if c.kind != "fixed"}
    names = [n for n in ranges if any(n in t.spec.params for t in done)]
    columns = ["loss", *names, "lr"]
    places: dict[str, tuple[float, float, bool]] = {}
    for name in columns[1:]:
        coordinate = facts.sweep.space.lr if name == "lr" else ranges[name]
        seen = [
            t.spec.lr if name == "lr" else t.spec.params[name] for t in done if name == "lr" or name in t.spec.params
        ]
        low, high = min(*seen, *(ends := searched_range(facts, coordinate))), max(*seen, *ends)
        places[name] = (low, high, is_log(coordinate) and low > 0)
    families = [f for f in facts.families if any(t.spec.family == f for t in done)]
    figure = new_figure(3.4)
    axes = clean(figure.add_subplot(), "")
    values = np.array([t.value or 0.0 for t in done])
    shade = ScalarMappable(Normalize(float(np.percentile(values, 10)), float(values.max())), "cividis")
    for trial, value in zip(done, values, strict=True):
        points = [(0.0, families.index(trial.spec.family) / max(1, len(families) - 1))]
        for x, name in enumerate(columns[1:], 1):
            own = trial.spec.lr if name == "lr" else trial.spec.params.get(name)
            if own is not None:
                points.append((float(x), _place(own, *places[name])))
        axes.plot(*zip(*points, strict=True), color=shade.to_rgba(value), lw=1.1, alpha=0.85)
    _axes(axes, columns, places, families)
    bar = figure.colorbar(shade, ax=axes, pad=0.02, aspect=30)
    bar.set_label(f"validation {plain(facts.objective)}", fontsize=FONT)
    bar.ax.tick_params(labelsize=FONT)
    text = f"A line is one of {count(len(done), 'complete trial')}; it passes by what its loss does not have."
    return Drawn(figure, text, "Parallel coordinates of the search's complete trials")


def _place(value: float, low: float, high: float, log: bool) -> float:
    if high <= low:
        return 0.5
    return float(np.log(value / low) / np.log(high / low)) if log else (value - low) / (high - low)


def _axes(axes: Axes, columns: list[str], places: dict[str, tuple[float, float, bool]], families: list[str]) -> None:
    """A vertical line per column with its ends named; names of the losses at the left."""
    for x, name in enumerate(columns):
        axes.axvline(x, color=LIGHT, lw=1, zorder=0)
        if name in places:
            for end, y, below in ((places[name][0], 0.0, True), (places[name][1], 1.0, False)):
                axes.annotate(significant(end), (x, y), xytext=(0, -4 if below else 4), textcoords="offset points",
                              ha="center", va="top" if below else "bottom", fontsize=7)  # fmt: skip
    axes.set_xticks(range(len(columns)), labels=["loss", *(plain(SYMBOLS.get(n, n), 14) for n in columns[1:])],
                    rotation=20, ha="right")  # fmt: skip
    axes.set_yticks([i / max(1, len(families) - 1) for i in range(len(families))], labels=[plain(f) for f in families])
    axes.set_ylim(-0.12, 1.12)
    axes.set_xlim(-0.05, len(columns) - 0.75)
    for spine in axes.spines.values():
        spine.set_visible(False)
