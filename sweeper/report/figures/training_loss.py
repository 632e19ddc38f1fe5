"""The training loss of the finalists."""

from __future__ import annotations

import numpy as np

from sweeper.report.facts import Facts, finalist_name
from sweeper.report.figures.style import MARKERS, Drawn, clean, finalist_colours, legend, new_figure, plain
from sweeper.report.seed_runs import confirmations


def training_loss(facts: Facts) -> Drawn | str:
    """Mean training loss of each finalist by step, as a share of its first, as losses have no common unit."""
    colours = finalist_colours(facts, facts.finalists)
    figure = new_figure(2.8)
    axes = clean(figure.add_subplot(), "both")
    drawn = False
    for i, (finalist, colour) in enumerate(zip(facts.finalists, colours, strict=True)):
        curves = []
        for run in confirmations(facts, finalist):
            losses = {e.step: e.train_loss for e in run.evaluations if e.train_loss is not None}
            if len(losses) == len(run.evaluations) > 1 and losses[run.evaluations[0].step] > 0:
                curves.append(losses)
        steps = sorted(set.intersection(*(set(c) for c in curves))) if curves else []
        if len(steps) < 2:
            continue
        drawn = True
        shares = np.array([[c[s] / c[steps[0]] for s in steps] for c in curves])
        axes.plot(steps, shares.mean(axis=0), color=colour, marker=MARKERS[i % len(MARKERS)], ms=4.5,
                  label=plain(finalist_name(facts, finalist)))  # fmt: skip
    if not drawn:
        return "no training loss of a finalist above 0 was stored at two steps"
    axes.set_xlabel("training step")
    axes.set_ylabel("training loss, first = 1")
    axes.set_ylim(bottom=0)
    legend(axes, 4)
    text = (
        "Mean loss on the training batches since the evaluation before, over the seeds, divided by its own first "
        "value: losses have no common unit, so compare shapes and not heights."
    )
    return Drawn(figure, text, "Training loss of the finalists")
