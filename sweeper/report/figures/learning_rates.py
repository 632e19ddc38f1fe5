"""Which learning rate the losses share, and how forgiving they are of it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sweeper.core.records import Collapse, RateFit
from sweeper.report.facts import Facts, finalist_name
from sweeper.report.figures.style import Drawn, clean, finalist_colours, legend, new_figure, plain
from sweeper.report.formatting import number, significant

TICKS = (1, 2, 5)
Floats = npt.NDArray[np.float64]


def learning_rates(facts: Facts) -> Drawn | str:
    """Every finalist's complete trials by their learning rate, the fitted course, and the range of the confirmation."""
    fit = facts.sweep.rate_fit
    if fit is None:
        return "the finalists were not confirmed at learning rates that the search had found"
    figure = new_figure(2.9)
    axes = clean(figure.add_subplot(), "both")
    ranges = {(f.rates.low, f.rates.high) for f in facts.finalists if f.rates is not None}
    for low, high in ranges:
        axes.axvspan(low, high, color="#EFEFEF", lw=0, zorder=0)
    every, highest = list[float](), list[float]()
    for finalist, colour in zip(facts.finalists, finalist_colours(facts, facts.finalists), strict=True):
        own = trials_of(facts, finalist.family)
        if own:
            rates, values = zip(*own, strict=True)
            axes.plot(rates, values, "o", color=colour, ms=5.5, mec="white", mew=0.8, alpha=0.9,
                      label=plain(finalist_name(facts, finalist)))  # fmt: skip
            every += rates
            highest.append(max(values))
    if not every:
        return "no trial of a finalist completed"
    course = np.geomspace(min(every), max(every), 60)
    axes.plot(course, max(highest) - _fall(fit, course), ":", color="#777777", lw=1.4, zorder=1)
    axes.set_xscale("log")
    ticks = [m * 10.0**e for e in range(-7, 1) for m in TICKS if min(every) <= m * 10.0**e <= max(every)]
    axes.set_xticks(ticks, labels=[significant(tick) for tick in ticks])
    axes.minorticks_off()
    axes.set_xlabel("learning rate")
    axes.set_ylabel(f"validation {plain(facts.objective)}")
    legend(axes, 4)
    factor = 10**fit.spread
    text = (
        f"Each point is a complete search trial. The dotted line is the course that all losses share, fitted to "
        f"{fit.trainings} trials: its peak is at {significant(fit.best)} (× or ÷ {factor:.1f}), and a factor of 3 from "
        f"there costs {number(float(_fall(fit, np.array([fit.best * 3]))[0]))}."
    )
    if ranges:
        grey = "range" if len(ranges) == 1 else "ranges"
        text += f" The seeds of the confirmation drew their rates from the grey {grey}."
    return Drawn(figure, text, "Validation value of every finalist's trials against the learning rate")


def trials_of(facts: Facts, family: str) -> list[tuple[float, float]]:
    """(learning rate, value) of a family's complete trials that did not diverge, under the name that each counts as."""
    counts_as = {same.trial: same.is_family for same in facts.sweep.same_losses}
    return [
        (t.spec.lr, t.value)
        for t in facts.sweep.trials
        if counts_as.get(t.spec.number, t.spec.family) == family
        and t.state == "complete"
        and t.value is not None
        and t.collapse is not Collapse.DIVERGED
    ]


def _fall(fit: RateFit, rates: Floats) -> Floats:
    fall: Floats = fit.curvature * np.log10(rates / fit.best) ** 2
    return fall
