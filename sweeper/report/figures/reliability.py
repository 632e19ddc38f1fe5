"""How far the probabilities can be believed."""

from __future__ import annotations

import numpy as np

from sweeper.core.metrics import calibration_error
from sweeper.report.facts import Facts, finalist_name
from sweeper.report.figures.style import BLACK, CHOSEN, RIVAL, Drawn, clean, legend, new_figure, plain
from sweeper.report.formatting import code, number
from sweeper.report.seed_runs import confirmations

FEWEST = 1e-4
"""Share of the pixels below which a bin is not drawn: its accuracy is luck."""


def reliability(facts: Facts) -> Drawn | str:
    """Share of right answers against the stated probability, of the recommended loss and its rival."""
    figure = new_figure(3.2)
    axes = clean(figure.add_subplot(), "both")
    axes.plot([0, 1], [0, 1], color=BLACK, lw=1, ls=(0, (4, 3)))
    told, lowest = [], 1.0
    for finalist, colour, marker in ((facts.rival, RIVAL, "s"), (facts.chosen, CHOSEN, "o")):
        if finalist is None:
            continue
        runs = [run.detail for run in confirmations(facts, finalist) if run.detail is not None]
        if not runs:
            continue
        summed = np.sum([run.confidence.sum(axis=0) for run in runs], axis=0)  # (B, 3)
        kept = summed[:, 0] > FEWEST * summed[:, 0].sum()
        if not kept.any():
            continue
        stated, right = (summed[kept, i] / summed[kept, 0] for i in (2, 1))
        name = finalist_name(facts, finalist)
        axes.plot(stated, right, "-", color=colour, marker=marker, ms=5, lw=1.4, label=plain(name))
        lowest = min(lowest, float(stated.min()), float(right.min()))
        each = [float(calibration_error(run.confidence.sum(axis=0))) for run in runs]  # as among the preferences
        told.append(f"{code(name)} {number(float(np.mean(each)))}")
    if not told:
        return "no confirmation training kept how sure its answers were"
    low = max(0.0, lowest - 0.03)
    axes.set_xlim(low, 1.01)
    axes.set_ylim(low, 1.02)
    axes.set_xlabel("stated probability of the answer")
    axes.set_ylabel("share of right answers")
    legend(axes)
    text = (
        "Below the dashed line a network is surer than it should be, above it less sure. Test pixels of all seeds, at "
        f"{facts.default_name.removeprefix('at ')}. Expected calibration error, mean over the seeds: "
        f"{', '.join(reversed(told))}."
    )
    return Drawn(figure, text, "Reliability of the stated probabilities")
