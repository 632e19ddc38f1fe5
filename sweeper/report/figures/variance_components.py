"""Where the spread between trainings comes from."""

from __future__ import annotations

from sweeper.report.facts import Facts
from sweeper.report.figures.style import BLUE, GREY, Drawn, clean, new_figure
from sweeper.report.formatting import number, percent
from sweeper.report.search_analysis import SOURCES


def spread(facts: Facts) -> Drawn | str:
    """Share of the variance between trainings by source, with its standard deviation."""
    analysis = facts.recommendation.analysis
    if analysis is None or not analysis.parts:
        return "too few trainings completed to tell where their differences come from"
    parts = sorted(analysis.parts, key=lambda part: (part.source == "rest", -part.share))
    figure = new_figure(0.6 + 0.24 * len(parts))
    axes = clean(figure.add_subplot())
    shares = [part.share for part in parts]
    colours = [GREY if part.source == "rest" else BLUE for part in parts]
    axes.barh(range(len(parts)), shares, height=0.62, color=colours)
    for row, part in enumerate(parts):
        axes.annotate(
            f"{100 * part.share:.0f} % (± {number(part.sd)})", (part.share, row), xytext=(5, 0),
            textcoords="offset points", va="center", fontsize=7.5,
        )  # fmt: skip
    axes.set_yticks(range(len(parts)), labels=[SOURCES[part.source] for part in parts])
    axes.set_ylim(len(parts) - 0.5, -0.5)
    axes.set_xlim(0, max(0.2, 1.3 * max(shares)))
    axes.xaxis.set_major_formatter(lambda value, _: f"{100 * value:g}\u2009%")
    axes.set_xlabel(f"share of the variance (± standard deviation of the validation {facts.objective})")
    known = [part for part in parts if part.source != "rest"]
    most = known[0] if known else parts[0]
    family = next((part for part in parts if part.source == "family"), None)
    text = f"The largest known source is {_IN_WORDS[most.source]}, with {percent(most.share)} of the variance"
    if family is not None and family is not most:
        text += f"; the choice of the loss makes up {percent(family.share)}"
    return Drawn(figure, f"{text}. What is large here must be tuned alike for every loss.",
                 "Share of the variance between trainings by source")  # fmt: skip


_IN_WORDS = {
    "family": "the loss",
    "parameters": "the loss's parameters",
    "learning_rate": "the learning rate",
    "seed": "the seed",
    "rest": "what none of these explains",
}
