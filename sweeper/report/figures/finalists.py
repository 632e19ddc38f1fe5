"""Figures of the confirmation: gains and scores with intervals, classes, learning curves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sweeper.core.metrics import Floats
from sweeper.core.records import FinalistEvidence, TrialResult
from sweeper.core.text import count, listed
from sweeper.evidence.decision_rule import beats, shows
from sweeper.evidence.interim_analyses import SHOWING
from sweeper.report.facts import Facts, difference, finalist_name, level_between
from sweeper.report.figures.style import (
    BAND,
    MARKERS,
    Drawn,
    Gap,
    clean,
    finalist_colours,
    forest,
    legend,
    new_figure,
    plain,
)
from sweeper.report.formatting import code, levels, number, signed
from sweeper.report.seed_runs import confirmations


def gain(facts: Facts) -> Drawn | str:
    """Paired difference of each finalist to cross-entropy with its interval, and the margin."""
    baseline = facts.baseline
    if not facts.finalists:
        return f"no configuration was confirmed on {facts.tested_on}"
    if baseline is None:
        return "cross-entropy was not confirmed"
    colours = dict(zip(map(id, facts.finalists), finalist_colours(facts, facts.finalists), strict=True))
    found = [(f, gap) for f in facts.finalists if (gap := difference(facts, f, baseline)) is not None]
    if not found:
        return "nothing but cross-entropy was confirmed"
    rope = facts.sweep.rope
    gaps = [Gap(finalist_name(facts, f), colours[id(f)], gap, facts.seeds(f, baseline) > 1) for f, gap in found]
    figure = forest(gaps, rope, f"test {facts.metric} gained over tuned cross-entropy")
    at = levels(level_between(facts, f, baseline) for f, _ in found)
    better, compared = _shown_better(facts, baseline)
    text = f"Dots: differences on the same images and seeds. Lines: {at} intervals. "
    text += "" if all(gap.known for gap in gaps) else "A single seed has no interval. "
    text += f"Within the grey band (± {number(rope)}) a difference does not matter. "
    if better:
        text += f"Shown to be better: {', '.join(better)}."
    elif compared:
        text += "None is shown to be better." if len(found) > 1 else "It is not shown to be better."
    else:
        text += f"Fewer than {SHOWING} common seeds show nothing yet."
    return Drawn(figure, text, f"What each finalist gains over tuned cross-entropy in test {facts.metric}")


def _shown_better(facts: Facts, baseline: FinalistEvidence) -> tuple[list[str], bool]:
    """Names of the finalists that beat the baseline by the verdict's own rule; whether any pair can show a thing."""
    evidence = facts.recommendation.evidence
    assert evidence is not None
    at = facts.finalists.index(baseline)
    rivals = [i for i in range(len(facts.finalists)) if i != at and shows(evidence, i, at)]
    return [code(finalist_name(facts, facts.finalists[i])) for i in rivals if beats(evidence, i, at)], bool(rivals)


def curves(facts: Facts) -> Drawn | str:
    """Validation objective of the confirmation trainings by step: mean over the seeds, range as a band."""
    lines = [(f, *_curve(confirmations(facts, f))) for f in facts.finalists]
    lines = [line for line in lines if len(line[1])]
    if not lines:
        return "no confirmation training was evaluated"
    figure = new_figure(2.9)
    axes = clean(figure.add_subplot(), "both")
    colours = finalist_colours(facts, [f for f, *_ in lines])
    for i, ((finalist, steps, values), colour) in enumerate(zip(lines, colours, strict=True)):
        if finalist in (facts.chosen, facts.rival):  # more bands than two cannot be told apart
            axes.fill_between(steps, values.min(axis=0), values.max(axis=0), color=colour, alpha=BAND, lw=0)
        label = plain(finalist_name(facts, finalist))
        axes.plot(steps, values.mean(axis=0), color=colour, marker=MARKERS[i % len(MARKERS)], ms=4.5, label=label,
                  zorder=4 if finalist is facts.chosen else 3 if finalist is facts.rival else 2)  # fmt: skip
    axes.set_xlabel("training step")
    axes.set_ylabel(f"validation {facts.objective}")
    legend(axes)
    rising = [f"{code(finalist_name(facts, f))} {signed(f.still_rising)}" for f, *_ in lines]
    seeds = sorted({len(values) for *_, values in lines})
    of = count(seeds[0], "seed") if len(seeds) == 1 else f"{seeds[0]} to {count(seeds[-1], 'seed')}"
    banded = [code(finalist_name(facts, f)) for f, *_ in lines if f in (facts.chosen, facts.rival)]
    band = f", for {listed(banded)} with a band from the lowest to the highest seed" if banded and seeds[-1] > 1 else ""
    text = (
        f"Validation {facts.objective} of the confirmation trainings: mean over {of}{band}. Gained over the last "
        f"quarter of the steps: {listed(rising)}."
        f"{_part_text([run for f, *_ in lines for run in confirmations(facts, f)])}"
    )
    return Drawn(figure, text, "Learning curves of the confirmation trainings")


def _part_text(runs: Sequence[TrialResult]) -> str:
    ends = [run.evaluations[-1] for run in runs if run.evaluations]
    parts = sorted({(e.part.images, e.val_images) for e in ends if e.part is not None})
    if not parts:
        return ""
    counts = listed([f"{part} of {whole}" for part, whole in parts])
    return f" Every point is from the same {counts} validation images of a training; other values are from all of them."


def _curve(trials: Sequence[TrialResult]) -> tuple[Floats, Floats]:
    """Steps (S,) and the objective (seeds, S), at the steps where every evaluated training was evaluated."""
    known = [{e.step: e.part_value for e in trial.evaluations} for trial in trials if trial.evaluations]
    shared = sorted(set.intersection(*(set(k) for k in known))) if known else []
    return np.array(shared), np.array([[k[step] for step in shared] for k in known])
