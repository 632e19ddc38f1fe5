"""Figures of the confirmation: gains and scores with intervals, classes, learning curves."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sweeper.core.metrics import Floats
from sweeper.core.records import FinalistEvidence, Scale, TrialResult
from sweeper.core.text import count, listed
from sweeper.evidence.decision_rule import beats, probable, shows
from sweeper.evidence.interim_analyses import SHOWING
from sweeper.report.facts import Facts, difference, finalist_name, level_between
from sweeper.report.figures.style import (
    BAND,
    CHOSEN,
    GREEN,
    INK,
    MARKERS,
    RIVAL,
    Drawn,
    class_label,
    clean,
    finalist_colours,
    legend,
    new_figure,
    note,
    plain,
)
from sweeper.report.formatting import code, escape_md, level, number, signed
from sweeper.report.seed_runs import confirmations, seed_scores

MOST_CLASSES = 40
"""More classes than this do not fit a figure; those that differ most are drawn."""


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
    figure = new_figure(0.6 + 0.36 * len(found))
    axes = clean(figure.add_subplot())
    axes.axvspan(-rope, rope, color=INK, alpha=BAND, lw=0, zorder=0)
    axes.axvline(0, color=INK, lw=1, zorder=1)
    alone = False
    for row, (finalist, gap) in enumerate(found):
        colour = colours[id(finalist)]
        if facts.seeds(finalist, baseline) > 1:
            axes.plot([gap.low, gap.high], [row, row], color=colour, lw=2.2, solid_capstyle="butt", zorder=2)
        else:
            alone = True
        axes.plot(gap.estimate, row, "o", color=colour, ms=7, zorder=3)
        note(axes, signed(gap.estimate), (gap.estimate, row), xytext=(0, 6), ha="center")
    axes.set_yticks(range(len(found)), labels=[plain(finalist_name(facts, f)) for f, _ in found])
    axes.set_ylim(len(found) - 0.5, -0.6)
    axes.margins(x=0.06)
    axes.set_xlabel(f"test {facts.metric} gained over tuned cross-entropy")
    levels = sorted({level_between(facts, f, baseline) for f, _ in found})
    at = level(levels[0]) if len(levels) == 1 else f"{level(levels[0])} to {level(levels[-1])}"
    better, compared = _shown_better(facts, baseline)
    text = f"Dots: differences on the same images and seeds. Lines: {at} intervals. "
    text += "A single seed has no interval. " if alone else ""
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


def finalists(facts: Facts) -> Drawn | str:
    """Test score of each finalist with its 95 % interval, each seed, and the constant answer."""
    evidence = facts.recommendation.evidence
    if evidence is None or not facts.finalists:
        return f"no configuration was confirmed on {facts.tested_on}"
    found = facts.finalists
    figure = new_figure(0.6 + 0.36 * len(found))
    axes = clean(figure.add_subplot())
    dots = False
    for row, (finalist, colour) in enumerate(zip(found, finalist_colours(facts, found), strict=True)):
        score = finalist.score
        axes.plot([score.low, score.high], [row, row], color=colour, lw=2.2, solid_capstyle="butt")
        axes.plot(score.estimate, row, "o", color=colour, ms=7, zorder=3)
        seeds = seed_scores(facts, finalist)
        dots = dots or bool(seeds)
        axes.plot(seeds, [row + 0.24] * len(seeds), "|", color=colour, ms=6, mew=1.3)
    lows, highs = [f.score.low for f in found], [f.score.high for f in found]
    span = max(max(highs) - min(lows), 0.02)
    of_miou = facts.metric == Scale().score
    near = of_miou and min(lows) - evidence.constant_miou < 1.5 * span
    if near:
        axes.axvline(evidence.constant_miou, color=INK, lw=1, ls=(0, (4, 3)))
        place = (evidence.constant_miou, 1)
        note(axes, "constant answer", place, xycoords=("data", "axes fraction"), xytext=(4, 2), va="bottom")
    names = [plain(finalist_name(facts, f)) for f in found]
    axes.set_yticks(range(len(found)), labels=names)
    axes.set_ylim(len(found) - 0.5, -0.5)
    safe = [row for row in range(len(found)) if probable(evidence, row)]
    for row in safe:
        axes.axhspan(row - 0.42, row + 0.42, color=GREEN, alpha=BAND / 2, lw=0, zorder=0)
    axes.set_xlabel(f"test {facts.metric}")
    text = f"Dots: means over the seeds. Lines: {level(0.95)} intervals."
    text += " Ticks: single seeds." if dots else ""
    if of_miou:
        text += f" Answering the commonest class everywhere scores {number(evidence.constant_miou)}"
        text += ", the dashed line." if near else ", far to the left of this axis."
    if safe:
        which = "Each on green costs" if len(safe) > 1 else "The one on green costs"
        text += f" {which} at most {number(evidence.rope)} {facts.metric} against the best, with a probability of 95 %."
    text += " Overlap is no proof of equality: all saw the same images, and paired differences are sharper."
    return Drawn(figure, text, f"Test {facts.metric} of the finalists")


def per_class_iou(facts: Facts) -> Drawn | str:
    """IoU of every class of the recommended loss and its rival, commonest class first."""
    chosen, rival = facts.chosen, facts.rival
    if chosen is None:
        return f"no recommended loss was confirmed on {facts.tested_on}"
    share = {c.name: c.pixel_share for c in facts.sweep.profile.classes}
    shown = [i for i, value in enumerate(chosen.iou) if value is not None or (rival and rival.iou[i] is not None)]
    if not shown:
        return f"no class occurs in {facts.tested_on}"
    if facts.binary:
        return "of two classes the table says all"

    def gap(index: int) -> float:
        return (chosen.iou[index] or 0.0) - ((rival.iou[index] or 0.0) if rival else 0.0)

    left_out = len(shown) - MOST_CLASSES
    shown = sorted(shown, key=lambda i: -abs(gap(i)))[:MOST_CLASSES]
    shown.sort(key=lambda i: -share.get(facts.classes[i], 0.0))
    figure = new_figure(0.9 + 0.24 * len(shown))
    axes = clean(figure.add_subplot())
    for row, i in enumerate(shown):
        pair = [f.iou[i] or 0.0 for f in (chosen, rival) if f is not None]
        axes.plot([min(pair), max(pair)], [row, row], color=INK, alpha=2 * BAND, lw=3, zorder=1)
    for finalist, colour, marker in ((rival, RIVAL, "s"), (chosen, CHOSEN, "o")):
        if finalist is not None:
            values = [finalist.iou[i] or 0.0 for i in shown]
            label = plain(finalist_name(facts, finalist))
            axes.plot(values, range(len(shown)), marker, color=colour, ms=6, label=label, zorder=2)
    axes.set_yticks(range(len(shown)), labels=[class_label(facts.classes, i) for i in shown])
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.set_xlim(-0.02, 1.02)
    axes.set_xlabel("test IoU (classes from the commonest to the rarest)")
    legend(axes)
    text = "Test IoU of each class, means over the seeds."
    if rival is not None:
        better, worse = max(shown, key=gap), min(shown, key=gap)
        text = (
            f"Test IoU of each class: {code(finalist_name(facts, chosen))} is ahead of "
            f"{code(finalist_name(facts, rival))} on {sum(float(f'{gap(i):.3f}') > 0 for i in shown)} of {len(shown)}"
            f"; the differences run from {signed(gap(worse))} on {escape_md(facts.classes[worse])} to "
            f"{signed(gap(better))} on {escape_md(facts.classes[better])}."
        )
    if left_out > 0:
        text += f" The {left_out} classes that differ least are left out."
    return Drawn(figure, text, "IoU per class of the recommended loss and the one it is compared with")


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
    legend(axes, 3)
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
