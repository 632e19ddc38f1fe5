"""How forgiving each finalist is of the learning rate."""

from __future__ import annotations

from collections import defaultdict
from statistics import mean

from sweeper.core.records import FinalistEvidence
from sweeper.core.text import listed
from sweeper.report.facts import Facts, finalist_name
from sweeper.report.figures.style import Drawn, clean, finalist_colours, legend, new_figure, plain
from sweeper.report.formatting import code, significant


def learning_rates(facts: Facts) -> Drawn | str:
    """Validation value of every finalist against the learning rate, and the range that the confirmation drew from."""
    if facts.sweep.conditions.rates == "searched":
        return "the finalists of this study had no common grid of learning rates (it was made by an earlier version)"
    found = [(finalist, curve(facts, finalist)) for finalist in facts.finalists]
    found = [(finalist, own) for finalist, own in found if len(own) >= 2]
    if not found:
        return "no finalist was trained at several learning rates on one seed"
    figure = new_figure(2.9)
    axes = clean(figure.add_subplot(), "both")
    ranges = {(f.rates.low, f.rates.high) for f, _ in found if f.rates is not None}
    for low, high in ranges:
        axes.axvspan(low, high, color="#EFEFEF", lw=0, zorder=0)
    colours = finalist_colours(facts, [finalist for finalist, _ in found])
    for (finalist, own), colour in zip(found, colours, strict=True):
        rates = sorted(own)
        axes.plot(rates, [own[r] for r in rates], "-o", color=colour, ms=5, mec="white", mew=0.8, lw=1.6,
                  label=plain(finalist_name(facts, finalist)))  # fmt: skip
    axes.set_xscale("log")
    ticks = sorted({rate for _, own in found for rate in own})
    axes.set_xticks(_apart(ticks), labels=[significant(rate) for rate in _apart(ticks)])
    axes.minorticks_off()
    axes.set_xlabel("learning rate")
    axes.set_ylabel(f"validation {plain(facts.objective)}")
    legend(axes, 4)
    text = "Each point is one training of the same seed; the flatter a line, the more a loss forgives a wrong rate."
    if ranges:
        shared = len(ranges) == 1
        text += (
            f" The grey {'range is where all are' if shared else 'ranges are where they are each'} near their best: "
        )
        text += "the seeds of the confirmation drew their rates from there."
    spans = [_span(facts, finalist, own) for finalist, own in found]
    text += f" Within 0.02 of its best are {listed(spans)}."
    return Drawn(figure, text, "Validation value of every finalist against the learning rate")


def curve(facts: Facts, finalist: FinalistEvidence) -> dict[float, float]:
    """Learning rate → value of the finalist's trainings on the second search seed."""
    values: dict[float, list[float]] = defaultdict(list)
    for run in facts.sweep.rechecks:
        same = (run.spec.family, run.spec.params) == (finalist.family, finalist.params)
        if same and run.state == "complete" and run.spec.seed != facts.sweep.conditions.seed:
            values[run.spec.lr].append(run.value or 0.0)
    return {lr: mean(own) for lr, own in values.items()}


def _span(facts: Facts, finalist: FinalistEvidence, own: dict[float, float]) -> str:
    near = [rate for rate, value in own.items() if value >= max(own.values()) - 0.02]
    return f"{len(near)} of {len(own)} rates with {code(finalist_name(facts, finalist))}"


def _apart(ticks: list[float]) -> list[float]:
    """Those ticks whose labels do not touch."""
    kept: list[float] = []
    for tick in ticks:
        if not kept or tick / kept[-1] > 1.6:
            kept.append(tick)
    return kept
