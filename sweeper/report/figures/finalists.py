"""Figures of the confirmation: finalists with intervals, classes, learning curves, operating points."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sweeper.core.metrics import Floats
from sweeper.core.records import TrialResult
from sweeper.core.text import count, listed
from sweeper.evidence.decision_rule import probable
from sweeper.report.facts import Facts, finalist_name
from sweeper.report.figures.style import (
    BLACK,
    CHOSEN,
    LIGHT,
    MARKERS,
    RIVAL,
    Drawn,
    class_label,
    clean,
    finalist_colours,
    legend,
    new_figure,
    plain,
)
from sweeper.report.formatting import code, escape_md, interval, number, signed
from sweeper.report.seed_runs import confirmations, seed_mious

MOST_CLASSES = 40
"""More classes than this do not fit a figure; those that differ most are drawn."""


def finalists(facts: Facts) -> Drawn | str:
    """Test mIoU of each finalist with its 95 % interval, each seed, and the constant answer."""
    evidence = facts.recommendation.evidence
    if evidence is None or not facts.finalists:
        return f"no configuration was confirmed on {facts.tested_on}"
    found = facts.finalists
    figure = new_figure(0.95 + 0.42 * len(found))
    axes = clean(figure.add_subplot())
    dots = False
    for row, (finalist, colour) in enumerate(zip(found, finalist_colours(facts, found), strict=True)):
        miou = finalist.miou
        axes.plot([miou.low, miou.high], [row, row], color=colour, lw=2.2, solid_capstyle="butt")
        axes.plot(miou.estimate, row, "o", color=colour, ms=7, zorder=3)
        seeds = seed_mious(facts, finalist)
        dots = dots or bool(seeds)
        axes.plot(seeds, [row + 0.24] * len(seeds), "|", color=colour, ms=6, mew=1.3)
    lows, highs = [f.miou.low for f in found], [f.miou.high for f in found]
    span = max(max(highs) - min(lows), 0.02)
    near = min(lows) - evidence.constant_miou < 1.5 * span
    if near:
        axes.axvline(evidence.constant_miou, color=BLACK, lw=1, ls=(0, (4, 3)))
        axes.annotate(
            "constant answer", (evidence.constant_miou, 1), xycoords=("data", "axes fraction"), xytext=(4, 2),
            textcoords="offset points", fontsize=7.5, va="bottom",
        )  # fmt: skip
    names = [plain(finalist_name(facts, f)) for f in found]
    axes.set_yticks(range(len(found)), labels=names)
    axes.set_ylim(len(found) - 0.5, -0.5)
    safe = [row for row in range(len(found)) if probable(evidence, row)]
    for row in safe:
        axes.axhspan(row - 0.42, row + 0.42, color="#E8F3EC", lw=0, zorder=0)
    axes.set_xlabel("test mIoU (dot: mean, line: 95 % interval" + (", ticks: single seeds)" if dots else ")"))
    best = found[0]
    text = f"{code(finalist_name(facts, best))} has the highest test mIoU, {interval(best.miou)}"
    if len(found) > 1:
        low, high = min(f.miou.estimate for f in found), best.miou.estimate
        text += f"; the {count(len(found), 'finalist')} lie between {number(low)} and {number(high)}"
    text += f". Answering the commonest class everywhere scores {number(evidence.constant_miou)}"
    text += ", the dashed line." if near else ", far to the left of this axis."
    if safe:
        which = "Each on green costs" if len(safe) > 1 else "The one on green costs"
        text += f" {which} at most {number(evidence.rope)} mIoU against the best, with a probability of 95 %."
    text += " Overlap is no proof of equality: all saw the same images, and the table's paired differences are sharper."
    return Drawn(figure, text, "Interval plot of the finalists' test mIoU")


def per_class_iou(facts: Facts) -> Drawn | str:
    """IoU of every class, recommended beside rival, commonest class first."""
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
    figure = new_figure(1.0 + 0.26 * len(shown))
    axes = clean(figure.add_subplot())
    for row, i in enumerate(shown):
        pair = [f.iou[i] or 0.0 for f in (chosen, rival) if f is not None]
        axes.plot([min(pair), max(pair)], [row, row], color=LIGHT, lw=3, zorder=1)
    for finalist, colour, marker in ((rival, RIVAL, "s"), (chosen, CHOSEN, "o")):
        if finalist is not None:
            values = [finalist.iou[i] or 0.0 for i in shown]
            label = plain(finalist_name(facts, finalist))
            axes.plot(values, range(len(shown)), marker, color=colour, ms=6, label=label, zorder=2)
    axes.set_yticks(range(len(shown)), labels=[class_label(facts.classes, i) for i in shown])
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.set_xlim(-0.02, 1.02)
    axes.set_xlabel("test IoU (classes from the commonest to the rarest)")
    legend(axes, across=True)
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
    """Validation mIoU of the confirmation trainings by step: mean over the seeds, range as a band."""
    lines = [(f, *_curve(confirmations(facts, f))) for f in facts.finalists]
    lines = [line for line in lines if len(line[1])]
    if not lines:
        return "no confirmation training was evaluated"
    figure = new_figure(3.1)
    axes = clean(figure.add_subplot(), "both")
    colours = finalist_colours(facts, [f for f, *_ in lines])
    for i, ((finalist, steps, values), colour) in enumerate(zip(lines, colours, strict=True)):
        if finalist in (facts.chosen, facts.rival):  # more bands than two cannot be told apart
            axes.fill_between(steps, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.15, lw=0)
        label = plain(finalist_name(facts, finalist))
        axes.plot(steps, values.mean(axis=0), color=colour, marker=MARKERS[i % len(MARKERS)], ms=4.5, label=label,
                  zorder=4 if finalist is facts.chosen else 3 if finalist is facts.rival else 2)  # fmt: skip
    axes.set_xlabel("training step")
    axes.set_ylabel("validation mIoU")
    legend(axes, 4)
    rising = [f"{code(finalist_name(facts, f))} {signed(f.still_rising)}" for f, *_ in lines]
    seeds = sorted({len(values) for *_, values in lines})
    of = count(seeds[0], "seed") if len(seeds) == 1 else f"{seeds[0]} to {count(seeds[-1], 'seed')}"
    banded = [code(finalist_name(facts, f)) for f, *_ in lines if f in (facts.chosen, facts.rival)]
    band = f", for {listed(banded)} with a band from the lowest to the highest seed" if banded and seeds[-1] > 1 else ""
    text = (
        f"Validation mIoU of the confirmation trainings: mean over {of}{band}. Gained over the last quarter of the "
        f"steps: {listed(rising)}.{_part_text([run for f, *_ in lines for run in confirmations(facts, f)])}"
    )
    return Drawn(figure, text, "Learning curves of the confirmation trainings")


def _part_text(runs: Sequence[TrialResult]) -> str:
    ends = [run.evaluations[-1] for run in runs if run.evaluations]
    parts = sorted({(e.part.pictures, e.val_images) for e in ends if e.part is not None})
    if not parts:
        return ""
    counts = listed([f"{part} of {whole}" for part, whole in parts])
    return f" Every point is from the same {counts} validation images of a training; other values are from all of them."


def _curve(trials: Sequence[TrialResult]) -> tuple[Floats, Floats]:
    """Steps (S,) and mIoU (seeds, S), at the steps where every evaluated training was evaluated."""
    known = [{e.step: e.part_miou for e in trial.evaluations} for trial in trials if trial.evaluations]
    shared = sorted(set.intersection(*(set(k) for k in known))) if known else []
    return np.array(shared), np.array([[k[step] for step in shared] for k in known])
