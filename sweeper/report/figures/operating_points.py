"""Figures of the operating point: mIoU against it and, of binary tasks, precision against recall."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes

from sweeper.core.metrics import Floats, objective, present, scores, sweep_points
from sweeper.core.records import FinalistEvidence, ImageCounts
from sweeper.evidence.replicates import class_counts, own_point, scored_images
from sweeper.report.facts import Facts, finalist_name
from sweeper.report.figures.style import BLACK, GREY, LIGHT, Drawn, clean, finalist_colours, legend, new_figure, plain
from sweeper.report.formatting import code, number
from sweeper.report.seed_runs import replicates

IOU_LINES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


@dataclass(frozen=True)
class _Swept:
    """A finalist's test counts, summed over the images, at every operating point."""

    finalist: FinalistEvidence
    colour: str
    points: Floats
    """(T,)"""
    counts: Floats
    """(seeds, T, C, 3): true positives, false positives, false negatives."""
    values: Floats
    """mIoU, (seeds, T)."""
    chosen: tuple[float, ...]
    """Each seed's own point; of several folds their median."""
    own: tuple[float, ...]
    """mIoU of each seed at its trainings' own points."""
    recall: Floats
    """Recall and precision of the classes at the same, (seeds, C) each."""
    precision: Floats

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
        counts = np.array([sum(sweep_points(_summed(test))[0] for test in own) for own in tests])  # (seeds, T, C, 3)
        values = np.array([objective(c, present(c[:1])) for c in counts])
        points = np.asarray(tests[0][0].points)
        own = [scores(c) for c in class_counts(kept, scored_images(kept), own_point)]
        recall, precision = (
            np.array([[v or 0.0 for v in side] for side in sides])
            for sides in ([s.recall for s in own], [s.precision for s in own])
        )
        chosen = tuple(r.point(own_point) for r in kept)
        mious = tuple(s.miou for s in own)
        found.append(_Swept(finalist, colour, points, counts.astype(float), values, chosen, mious, recall, precision))
    return found


def _height(facts: Facts, finalist: FinalistEvidence) -> int:
    """Drawing order: the recommended loss on top, then its rival."""
    return 7 if finalist is facts.chosen else 5 if finalist is facts.rival else 3


def _summed(counts: ImageCounts) -> ImageCounts:
    """The same as of a single image: what a curve needs, at a thousandth of the work."""
    total = counts.data.astype(np.int64).sum(axis=0, keepdims=True)
    return counts.model_copy(update={"data": total, "pictures": (0,)})


def threshold(facts: Facts) -> Drawn | str:
    """Test mIoU at every operating point, with the chosen points and the default marked."""
    found = _swept(facts)
    if not found:
        return f"no confirmation training kept its counts on {facts.tested_on}"
    figure = new_figure(3.1)
    axes = clean(figure.add_subplot(), "both")
    axes.axvline(_place(facts, facts.default_point), color=BLACK, lw=1, ls=(0, (4, 3)))
    sentences = []
    for swept in found:
        x = np.array([_place(facts, p) for p in swept.points])
        main = swept.finalist in (facts.chosen, facts.rival)
        if main:
            low, high = swept.values.min(axis=0), swept.values.max(axis=0)
            axes.fill_between(x, low, high, color=swept.colour, alpha=0.15, lw=0)
        name = finalist_name(facts, swept.finalist)
        marker = None if facts.binary else "o"
        axes.plot(x, swept.values.mean(axis=0), color=swept.colour, label=plain(name), marker=marker, ms=4,
                  lw=1.6 if main else 1.0, zorder=_height(facts, swept.finalist))  # fmt: skip
        axes.plot([x[i] for i in swept.at_chosen], swept.own, "D", color=swept.colour, mec="white", mew=0.8,
                  ms=6.5 if main else 4.5, zorder=_height(facts, swept.finalist) + 1)  # fmt: skip
        if main:
            default = float(swept.values[:, swept.at(facts.default_point)].mean())
            sentences.append(
                f"{code(name)} scores {number(default)} {facts.default_name} and {number(float(np.mean(swept.own)))} "
                f"at the {facts.point_name} chosen on validation ({_span(swept.chosen, facts.binary)})"
            )
    _ticks(axes, facts)
    evidence = facts.recommendation.evidence
    if facts.binary and evidence is not None:  # below the constant answer nothing is worth seeing
        top = max(float(swept.values.max()) for swept in found)
        axes.set_ylim(max(0.0, evidence.constant_miou - 0.05), max(top, evidence.constant_miou) + 0.03)
    axes.set_ylabel("test mIoU")
    axes.set_xlabel(f"{facts.point_name} (dashed: {facts.default_point:g}; diamonds: chosen on validation, per seed)")
    legend(axes, 4)
    text = f"{'; '.join(sentences)}. " if sentences else ""
    text += f"The flatter the curve, the less the {facts.point_name} matters."
    return Drawn(figure, text, f"Test mIoU against the {facts.point_name}")


def precision_recall(facts: Facts) -> Drawn | str:
    """Foreground precision against recall over all thresholds, with the two operating points of each finalist."""
    if not facts.binary:
        return "precision and recall of several classes do not share a threshold"
    found = _swept(facts)
    if not found:
        return f"no confirmation training kept its counts on {facts.tested_on}"
    figure = new_figure(3.6)
    axes = clean(figure.add_subplot(), "")
    best, shown, sentences = 0.0, [], []
    for swept in found:
        recall, precision = _curve(swept)  # (seeds, T) each
        x, y = recall.mean(axis=0), precision.mean(axis=0)
        main = swept.finalist in (facts.chosen, facts.rival)
        name, height = finalist_name(facts, swept.finalist), _height(facts, swept.finalist)
        axes.plot(x, y, color=swept.colour, lw=1.6 if main else 1.0, label=plain(name), zorder=height)
        at_own = (swept.recall[:, 1], swept.precision[:, 1])
        own = [float(v.mean()) for v in at_own]
        middle = swept.at(facts.default_point)
        at_default = [v[:, middle] for v in (recall, precision)]
        usual = [float(v.mean()) for v in at_default]
        axes.plot(*usual, "o", color=swept.colour, mfc="white", ms=6.5 if main else 4.5, mew=1.3, zorder=height + 1)
        axes.plot(*own, "D", color=swept.colour, mec="white", mew=0.8, ms=7 if main else 5, zorder=height + 1)
        near = _iou(x, y)
        best = max(best, float(np.nan_to_num(near).max()))
        shown.append((x, y, near))
        if main:
            usual, own = ([float(np.mean(np.nan_to_num(v))) for v in pair] for pair in (at_default, at_own))
            sentences.append(  # nothing predicted counts as precision 0 here, as in the table of the classes
                f"{code(name)} goes from precision {number(usual[1])} and recall {number(usual[0])} at 0.5 to "
                f"{number(own[1])} and {number(own[0])} at the threshold chosen on validation"
            )
    if best == 0.0:
        return "no finalist found any foreground"
    _frame(axes, shown, best)
    axes.plot([], [], "D", color=GREY, ms=6, label="chosen threshold")
    axes.plot([], [], "o", color=GREY, mfc="white", ms=6, mew=1.3, label="threshold 0.5")
    axes.set_xlabel("recall (to the right: fewer misses)")
    axes.set_ylabel("precision (up: fewer false alarms)")
    legend(axes, 3)
    text = f"{'; '.join(sentences)}. " if sentences else ""
    text += (
        f"Each curve runs over all thresholds on {facts.tested_on}, mean over the seeds; grey lines join points of "
        "equal foreground IoU. A curve further up and to the right is better at every price of a miss."
    )
    return Drawn(figure, text, "Precision against recall of the finalists")


def _curve(swept: _Swept) -> tuple[Floats, Floats]:
    """Recall and precision of the foreground, (seeds, T); precision is NaN where nothing is predicted."""
    tp, fp, fn = (swept.counts[:, :, 1, i] for i in range(3))
    with np.errstate(invalid="ignore"):
        recall: Floats = tp / (tp + fn)
        precision: Floats = tp / (tp + fp)
    return recall, precision


def _iou(recall: Floats, precision: Floats) -> Floats:
    """IoU from recall and precision: 1 / (1/P + 1/R − 1)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        value: Floats = 1 / (1 / precision + 1 / recall - 1)
    return value


def _frame(axes: Axes, shown: Sequence[tuple[Floats, Floats, Floats]], best: float) -> None:
    """Show the part of the plane where an operating point would be chosen, with lines of equal IoU."""
    near = [(x[iou >= 0.6 * best], y[iou >= 0.6 * best]) for x, y, iou in shown]
    xs, ys = (np.concatenate([pair[i] for pair in near]) for i in (0, 1))
    pad = 0.04
    axes.set_xlim(max(0.0, float(xs.min()) - pad), min(1.0, float(xs.max()) + pad))
    axes.set_ylim(max(0.0, float(ys.min()) - pad), min(1.0, float(ys.max()) + pad))
    (left, right), (bottom, top) = axes.get_xlim(), axes.get_ylim()
    recall = np.linspace(left, right, 200)
    for level in IOU_LINES:
        with np.errstate(divide="ignore"):
            precision = 1 / (1 + 1 / level - 1 / recall)
        inside = (precision > bottom) & (precision < top) & (recall > level)
        if inside.sum() < 2:
            continue
        axes.plot(recall[inside], precision[inside], color=LIGHT, lw=0.9, zorder=1)
        if recall[inside][-1] < left + 0.2 * (right - left):  # the label would leave the axes
            continue
        axes.annotate(f"IoU {level:g}", (recall[inside][-1], precision[inside][-1]), xytext=(-3, 3), color="#6B6B6B",
                      textcoords="offset points", ha="right", va="bottom", fontsize=7, zorder=2)  # fmt: skip


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
