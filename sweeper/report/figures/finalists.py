"""Figures of the confirmation: gains and scores with intervals, classes, learning curves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

from sweeper.core.metrics import Floats, measured, swept_scores
from sweeper.core.records import FinalistEvidence, Scale, TrialResult
from sweeper.core.text import count, listed
from sweeper.evidence.decision_rule import beats, shows
from sweeper.evidence.interim_analyses import SHOWING
from sweeper.evidence.replicates import own_point
from sweeper.report.facts import Facts, confirmations, difference, level_between, replicates, seed_scores
from sweeper.report.figures.style import (
    BAND,
    INK,
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
    gaps = [Gap(f.family, colours[id(f)], gap, facts.seeds(f, baseline) > 1) for f, gap in found]
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
    return [code(facts.finalists[i].family) for i in rivals if beats(evidence, i, at)], bool(rivals)


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
        label = plain(finalist.family)
        axes.plot(steps, values.mean(axis=0), color=colour, marker=MARKERS[i % len(MARKERS)], ms=4.5, label=label,
                  zorder=4 if finalist is facts.chosen else 3 if finalist is facts.rival else 2)  # fmt: skip
    axes.set_xlabel("training step")
    axes.set_ylabel(f"validation {facts.objective}")
    legend(axes)
    rising = [f"{code(f.family)} {signed(f.still_rising)}" for f, *_ in lines]
    seeds = sorted({len(values) for *_, values in lines})
    of = count(seeds[0], "seed") if len(seeds) == 1 else f"{seeds[0]} to {count(seeds[-1], 'seed')}"
    banded = [code(f.family) for f, *_ in lines if f in (facts.chosen, facts.rival)]
    band = f", for {listed(banded)} with a band from the lowest to the highest seed" if banded and seeds[-1] > 1 else ""
    text = (
        f"Validation {facts.objective} of the confirmation trainings: mean over {of}{band}. Gained over the last "
        f"quarter of the steps: {listed(rising)}."
    )
    return Drawn(figure, text, "Learning curves of the confirmation trainings")


def _curve(trials: Sequence[TrialResult]) -> tuple[Floats, Floats]:
    """Steps (S,) and the objective (seeds, S), at the steps where every evaluated training was evaluated."""
    known = [{e.step: e.part_value for e in trial.evaluations} for trial in trials if trial.evaluations]
    shared = sorted(set.intersection(*(set(k) for k in known))) if known else []
    return np.array(shared), np.array([[k[step] for step in shared] for k in known])


# --- The score against the operating point -------------------------------------------------------------------


@dataclass(frozen=True)
class _Swept:
    """A finalist's test score at every operating point."""

    finalist: FinalistEvidence
    colour: str
    points: Floats
    """(T,)"""
    values: Floats
    """(seeds, T)"""
    chosen: tuple[float, ...]
    """Each seed's own point; of several folds their median."""
    own: tuple[float, ...]
    """Score of each seed at its trainings' own points."""

    def at(self, point: float) -> int:
        """Index of the stored point nearest to this one."""
        return int(np.abs(self.points - point).argmin())

    @property
    def at_chosen(self) -> list[int]:
        """Index of each seed's own point."""
        return [self.at(point) for point in self.chosen]


def _swept(facts: Facts) -> list[_Swept]:
    """All finalists that kept counts, best estimate first."""
    colours = finalist_colours(facts, facts.finalists)
    found = []
    for finalist, colour in zip(facts.finalists, colours, strict=True):
        kept = [r for r in replicates(facts, finalist) if all(run.evaluations for run in r.runs)]
        if not kept:
            continue
        tests = [[run.test for run in r.runs if run.test is not None] for r in kept]
        groups_of = facts.sweep.conditions.dataset.groups_of
        values = np.array(
            [swept_scores(own, facts.compared, groups_of(i for part in own for i in part.images)) for own in tests]
        )
        points = np.asarray(measured(tests[0][0], facts.compared).points)
        chosen = tuple(r.point(own_point) for r in kept)
        found.append(_Swept(finalist, colour, points, values, chosen, tuple(seed_scores(facts, finalist))))
    return found


def _height(facts: Facts, finalist: FinalistEvidence) -> int:
    """Drawing order: the recommended loss on top, then its rival."""
    return 7 if finalist is facts.chosen else 5 if finalist is facts.rival else 3


def threshold(facts: Facts) -> Drawn | str:
    """Test score at every operating point, with the chosen points and the default marked."""
    found = _swept(facts)
    if not found:
        return f"no confirmation training kept its counts on {facts.tested_on}"
    figure = new_figure(2.9)
    axes = clean(figure.add_subplot(), "both")
    axes.axvline(_place(facts, facts.default_point), color=INK, lw=1, ls=(0, (4, 3)))
    sentences = []
    for swept in found:
        x = np.array([_place(facts, p) for p in swept.points])
        main = swept.finalist in (facts.chosen, facts.rival)
        if main:
            low, high = swept.values.min(axis=0), swept.values.max(axis=0)
            axes.fill_between(x, low, high, color=swept.colour, alpha=BAND, lw=0)
        name = swept.finalist.family
        marker = None if facts.binary else "o"
        axes.plot(x, swept.values.mean(axis=0), color=swept.colour, label=plain(name), marker=marker, ms=4,
                  lw=1.6 if main else 1.0, zorder=_height(facts, swept.finalist))  # fmt: skip
        axes.plot([x[i] for i in swept.at_chosen], swept.own, "D", color=swept.colour, mew=0,
                  ms=6.5 if main else 4.5, zorder=_height(facts, swept.finalist) + 1)  # fmt: skip
        if main:
            default = float(swept.values[:, swept.at(facts.default_point)].mean())
            sentences.append(
                f"{code(name)} scores {number(default)} {facts.default_name} and {number(float(np.mean(swept.own)))} "
                f"at the {facts.point_name} chosen on validation ({_span(swept.chosen, facts.binary)})"
            )
    _ticks(axes, facts)
    evidence = facts.recommendation.evidence
    if (
        facts.metric == Scale().score and facts.binary and evidence is not None
    ):  # below the constant answer nothing is worth seeing
        top = max(float(swept.values.max()) for swept in found)
        axes.set_ylim(max(0.0, evidence.constant_miou - 0.05), max(top, evidence.constant_miou) + 0.03)
    axes.set_ylabel(f"test {facts.metric}")
    axes.set_xlabel(facts.point_name)
    legend(axes)
    text = f"Diamonds: each seed at the {facts.point_name} chosen on validation. Dashed: {facts.default_point:g}. "
    text += f"{'; '.join(sentences)}. " if sentences else ""
    text += f"The flatter the curve, the less the {facts.point_name} matters."
    return Drawn(figure, text, f"Test {facts.metric} against the {facts.point_name}")


def _place(facts: Facts, point: float) -> float:
    """Where a point lies on the axis: thresholds on the logit scale, on which the stored ones are uniform."""
    return float(np.log(point / (1 - point))) if facts.binary else point


def _ticks(axes: Axes, facts: Facts) -> None:
    if facts.binary:
        marks = (0.001, 0.01, 0.1, 0.5, 0.9, 0.99, 0.999)
        axes.set_xticks([_place(facts, m) for m in marks], labels=[f"{m:g}" for m in marks])
        axes.set_xlim(_place(facts, 0.0003), _place(facts, 0.9997))


def _span(points: Sequence[float], binary: bool) -> str:
    low, high = (number(p, 2) for p in (min(points), max(points)))
    return low if low == high else f"{low} to {high}" if binary else f"τ from {low} to {high}"
