"""Which classes the recommended loss takes for which."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sweeper.core.metrics import at_point
from sweeper.core.records import IGNORE
from sweeper.core.text import count
from sweeper.report.facts import Facts, finalist_name
from sweeper.report.figures.images import Pixels
from sweeper.report.figures.style import FONT, Drawn, class_label, clean, new_figure
from sweeper.report.formatting import code, escape_md, percent
from sweeper.report.seed_runs import confirmations

MOST = 24
"""More classes than this cannot be read."""
NAMED = 12
"""Up to so many classes each cell has its number."""

Table = npt.NDArray[np.int64]


def confusion(facts: Facts, pixels: Pixels | None) -> Drawn | str:
    """Of the pixels of each class, the share that was answered as each class; test images."""
    if facts.chosen is None:
        return "no recommended loss was confirmed"
    if len(facts.classes) > MOST:
        return f"more than {MOST} classes cannot be read"
    found = _of_counts(facts) if facts.binary else _of_predictions(facts, pixels)
    if isinstance(found, str):
        return found
    table, where = found
    shares = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    classes = len(table)
    figure = new_figure(1.3 + min(0.5, 4.4 / classes) * classes)
    axes = clean(figure.add_subplot(), "")
    axes.imshow(np.where(table.sum(axis=1, keepdims=True) > 0, shares, np.nan), cmap="Blues", vmin=0, vmax=1)
    if classes <= NAMED:
        for row, column in np.ndindex(table.shape):
            if table[row].sum():
                value = shares[row, column]
                ink = "#F7FBFF" if value > 0.55 else "#08306B"  # on cells that no theme changes
                axes.annotate(f"{100 * value:.3g}", (column, row), ha="center", va="center", fontsize=7.5, color=ink)
    names = [class_label(facts.classes, i) for i in range(classes)]
    axes.set_xticks(
        range(classes), labels=names, rotation=30 if classes > 2 else 0, ha="right" if classes > 2 else "center"
    )
    axes.set_yticks(range(classes), labels=names)
    axes.set_xlabel("answer")
    axes.set_ylabel("label (each row: 100 %)")
    axes.tick_params(labelsize=FONT)
    wrong = np.where(np.eye(classes, dtype=bool), 0.0, shares)
    most = np.unravel_index(int(wrong.argmax()), wrong.shape)
    worst, taken = (escape_md(facts.classes[int(i)]) for i in most)
    text = (
        f"{code(finalist_name(facts, facts.chosen))}, {where}. The largest confusion: {percent(float(wrong[most]))} of "
        f"{worst} is answered as {taken}."
    )
    return Drawn(figure, text, "Confusion matrix of the recommended loss")


def _of_counts(facts: Facts) -> tuple[Table, str] | str:
    """Of two classes the stored counts tell all: every test image, every seed."""
    if facts.chosen is None:
        return "no recommended loss was confirmed"
    runs = [run for run in confirmations(facts, facts.chosen) if run.test is not None and run.evaluations]
    if not runs:
        return f"no confirmation training kept its counts on {facts.tested_on}"
    total = np.zeros((2, 2), dtype=np.int64)
    for run in runs:
        if run.test is not None:
            hits, alarms, misses = at_point(run.test, run.evaluations[-1].point).sum(axis=0)[1]
            right = at_point(run.test, run.evaluations[-1].point).sum(axis=0)[0, 0]
            total += np.array([[right, alarms], [misses, hits]])
    return (
        total,
        f"all test images, {count(len({r.spec.seed for r in runs}), 'seed')}, at each one's {facts.point_name}",
    )


def _of_predictions(facts: Facts, pixels: Pixels | None) -> tuple[Table, str] | str:
    """Of more classes the counts do not hold which was taken for which: from the answers that were kept."""
    if pixels is None or facts.chosen is None:
        return "the decoded images were not at hand when the report was written"
    classes = len(facts.classes)
    total = np.zeros((classes, classes), dtype=np.int64)
    images = 0
    for run in confirmations(facts, facts.chosen):
        if run.predictions is None:
            continue
        for index, mask in zip(run.predictions.pictures, run.predictions.masks, strict=True):
            try:
                truth = pixels(index)[1]
            except OSError as error:
                return f"the decoded images could not be read ({type(error).__name__})"
            if truth.shape != mask.shape:
                return f"image {index} no longer has the size of its predictions: the data set was changed"
            known = truth != IGNORE
            np.add.at(total, (truth[known], np.minimum(np.asarray(mask)[known], classes - 1)), 1)
            images += 1
    return (total, f"{count(images, 'answer')} that were kept") if images else "no predictions were kept"
