"""Figures with images and classes: predictions side by side, and the imbalance of the labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from matplotlib.colors import to_rgb
from matplotlib.patches import Patch

from sweeper.core.metrics import image_mious
from sweeper.core.records import IGNORE, TrialResult
from sweeper.core.text import count
from sweeper.report.facts import Facts, finalist_name
from sweeper.report.figures.style import (
    BLUE,
    FONT,
    GREY,
    ORANGE,
    SKY,
    VERMILLION,
    YELLOW,
    Drawn,
    class_label,
    clean,
    legend,
    new_figure,
    palette,
    plain,
)
from sweeper.report.formatting import code, escape_md, number, percent
from sweeper.report.seed_runs import common_runs, image_wins, wins

Pixels = Callable[[int], tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]]
"""Index of an image → its image (H, W, 1 or 3) uint8 and its mask (H, W) uint8, 255 = ignore."""
Bytes = npt.NDArray[np.uint8]

ROWS = 4
DETAIL = (144, 192)
"""Height and width in pixels of what is shown of a larger image: no pixel is lost in print, thin structures stay."""
PALE = 0.65
"""Share of white where two answers of many classes agree: the eye is to go where they differ."""
PALE_GROUND = (0.82, 0.82, 0.82)
"""Colour of class 0."""
_HIT, _FALSE, _MISSED = SKY, VERMILLION, YELLOW
"""Far apart for every kind of colour vision on the dark ground of `_dark`."""


@dataclass(frozen=True)
class _Row:
    index: int
    image: Bytes
    truth: Bytes
    first: Bytes
    second: Bytes
    miou: tuple[float, float]
    """Of the whole image, whatever part of it is shown."""
    detail: bool


def predictions(facts: Facts, pixels: Pixels | None) -> Drawn | str:
    """Image, truth, recommended and rival, for the kept test images on which the two differ most."""
    pairs = common_runs(facts)
    if pixels is None:
        return "the decoded images were not at hand when the report was written"
    if not pairs or facts.chosen is None or facts.rival is None:
        return "there are no two finalists with a common seed to set side by side"
    rows = _rows(pairs, pixels, len(facts.classes))
    if isinstance(rows, str):
        return rows
    names = [finalist_name(facts, f) for f in (facts.chosen, facts.rival)]
    shapes = [row.image.shape[0] / row.image.shape[1] for row in rows]
    height = sum(1.4 * min(shape, 1.8) + 0.21 for shape in shapes)
    colours = palette(len(facts.classes), PALE_GROUND)
    used = sorted({int(v) for row in rows for m in (row.truth, row.first, row.second) for v in np.unique(m)})
    entries = _legend_entries(facts, colours, used)
    figure = new_figure(height + 0.35 + 0.2 * (-(-len(entries) // 4)))
    grid = figure.subplots(len(rows), 4, squeeze=False, height_ratios=[min(s, 1.8) for s in shapes])
    for axes, row in zip(grid, rows, strict=True):
        shown = [row.image if row.image.shape[2] == 3 else row.image[..., 0], _truth(row, colours, facts.binary)]
        shown += [_answer(row, answer, colours, facts.binary) for answer in (row.first, row.second)]
        for axis, panel in zip(axes, shown, strict=True):
            kind = "nearest" if axis is not axes[0] else None  # classes are not blended
            axis.imshow(panel, cmap="gray" if panel.ndim == 2 else None, vmin=0, vmax=255, interpolation=kind)
            axis.set_xticks([])
            axis.set_yticks([])
            for spine in axis.spines.values():
                spine.set_visible(False)
        stem = facts.sweep.conditions.dataset.pictures[row.index].stem
        axes[0].set_xlabel(plain(stem, 20), fontsize=7.5, labelpad=2)
        for axis, value in zip(axes[2:], row.miou, strict=True):
            axis.set_xlabel(f"mIoU {value:.3f}", fontsize=7.5, labelpad=2)
    for axis, title in zip(grid[0], ["image", "truth", *(plain(n, 20) for n in names)], strict=True):
        axis.set_title(title, fontsize=FONT, pad=4)
    figure.legend(handles=entries, loc="outside lower center", ncols=4, frameon=False, fontsize=7.5)
    return Drawn(figure, _caption(facts, rows, pairs[0][0], names), "Predictions of two losses on test images")


def _rows(pairs: Sequence[tuple[TrialResult, TrialResult]], pixels: Pixels, classes: int) -> list[_Row] | str:
    kept: list[dict[int, Bytes]] = [{}, {}]
    for pair in pairs:
        for masks, trial in zip(kept, pair, strict=True):
            if trial.predictions:
                masks |= dict(zip(trial.predictions.pictures, trial.predictions.masks, strict=True))
    shared = [i for i in kept[0] if i in kept[1] and kept[0][i].shape == kept[1][i].shape]
    if not shared:
        return "the confirmation trainings kept no predictions of the same test images"
    shared.sort(key=lambda i: (-float((kept[0][i] != kept[1][i]).mean()), i))
    rows = []
    for index in sorted(shared[:ROWS]):
        try:
            image, truth = pixels(index)
        except OSError as error:
            return f"the decoded images could not be read ({type(error).__name__})"
        if truth.shape != kept[0][index].shape:
            return f"image {index} no longer has the size of its predictions: the data set was changed"
        answers = [np.asarray(masks[index]) for masks in kept]
        mious = _mious(truth, answers, classes)
        part = _detail((answers[0] != answers[1]) & (truth != IGNORE))
        detail = truth[part].shape != truth.shape
        rows.append(_Row(index, image[part], truth[part], answers[0][part], answers[1][part], mious, detail))
    return rows


def _detail(differs: npt.NDArray[np.bool_]) -> tuple[slice, slice]:
    """The window of at most DETAIL pixels with the most differing pixels; differs (H, W)."""
    height, width = (min(side, most) for side, most in zip(differs.shape, DETAIL, strict=True))
    total = np.pad(differs.astype(np.int64).cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    inside = total[height:, width:] - total[:-height, width:] - total[height:, :-width] + total[:-height, :-width]
    top, left = (int(i) for i in np.unravel_index(int(inside.argmax()), inside.shape))
    return slice(top, top + height), slice(left, left + width)


def _mious(truth: Bytes, answers: Sequence[Bytes], classes: int) -> tuple[float, float]:
    """mIoU of two answers on one image, as `sweeper.core.metrics.image_mious` defines it."""
    counts = np.zeros((len(answers), classes, 3), dtype=np.int64)
    known = truth != IGNORE
    for answer, own in zip(answers, counts, strict=True):
        table = np.zeros((classes, classes), dtype=np.int64)
        np.add.at(table, (truth[known], np.minimum(answer[known], classes - 1)), 1)
        hits = table.diagonal()
        own[:] = np.stack([hits, table.sum(axis=0) - hits, table.sum(axis=1) - hits], axis=-1)
    first, second = image_mious(counts)
    return float(first), float(second)


def _dark(image: Bytes) -> npt.NDArray[np.float64]:
    """The image dark and without colour, as the ground of an overlay; (H, W, 3) in 0–255."""
    grey: npt.NDArray[np.float64] = 0.45 * image.astype(np.float64).mean(axis=2, keepdims=True).repeat(3, axis=2)
    return grey


def _truth(row: _Row, colours: Bytes, binary: bool) -> Bytes:
    if binary:
        shown = np.where((row.truth == 1)[..., None], 255, 0).astype(np.uint8).repeat(3, axis=2)
        shown[row.truth == IGNORE] = 128
        return shown
    return _coloured(row.truth, colours)


def _answer(row: _Row, answer: Bytes, colours: Bytes, binary: bool) -> Bytes:
    if not binary:
        shown = _coloured(answer, colours)
        same = row.first == row.second
        shown[same] = np.rint(shown[same] * (1 - PALE) + 255 * PALE).astype(np.uint8)
        shown[row.truth == IGNORE] = 255
        return shown
    overlay = _dark(row.image)
    known = row.truth != IGNORE
    for where, colour in (
        ((answer == 1) & (row.truth == 1), _HIT),
        ((answer == 1) & (row.truth == 0), _FALSE),
        ((answer == 0) & (row.truth == 1), _MISSED),
    ):
        overlay[where & known] = np.array(to_rgb(colour)) * 255
    return overlay.astype(np.uint8)


def _coloured(mask: Bytes, colours: Bytes) -> Bytes:
    shown: Bytes = colours[np.minimum(mask, len(colours) - 1)]
    shown[mask == IGNORE] = 255
    return shown


def _legend_entries(facts: Facts, colours: Bytes, used: Sequence[int]) -> list[Patch]:
    if facts.binary:
        name = class_label(facts.classes, 1)
        return [
            Patch(color=_HIT, label=f"{name} found"),
            Patch(color=_FALSE, label="false alarm"),
            Patch(color=_MISSED, label=f"{name} missed"),
        ]
    shown = [i for i in used if i < len(colours)]
    patches = [Patch(color=tuple(colours[i] / 255), label=class_label(facts.classes, i)) for i in shown]
    return [*patches, Patch(fc="white", ec=GREY, label="no label")] if IGNORE in used else patches


def _caption(facts: Facts, rows: Sequence[_Row], first: TrialResult, names: Sequence[str]) -> str:
    shown = wins(*zip(*(row.miou for row in rows), strict=True))
    text = (
        f"The {count(len(rows), 'test image')} (of those whose predictions were kept) on which {code(names[0])} and "
        f"{code(names[1])} differ "
        f"in most pixels (seed {first.spec.seed}, each at its own {facts.point_name}): {code(names[0])} is ahead "
        f"on {shown.ahead}{f', level on {shown.level}' if shown.level else ''}. Chosen because they differ, so not "
        "typical"
    )
    if any(row.detail for row in rows):
        text = f"Details of {DETAIL[1]} × {DETAIL[0]} pixels, mIoU of the whole image. {text}"
    if not facts.binary:
        text = f"Answers are in full colour where the two differ and pale where they agree. {text}"
    meaning = "An image's mIoU is the mean over the classes that occur in its labels."
    every = image_wins(facts)
    if every is None:
        return f"{text}. {meaning}"
    return (
        f"{text}: of all {sum(every)} test images it is ahead on {every.ahead}, behind on {every.behind}, level on "
        f"{every.level}. {meaning}"
    )


def imbalance(facts: Facts) -> Drawn | str:
    """Share of the labelled pixels of each class, on a logarithmic axis, with its prevalence beside it."""
    profile = facts.sweep.profile
    order = sorted(range(len(profile.classes)), key=lambda i: -profile.classes[i].pixel_share)
    shown = [i for i in order if profile.classes[i].pixel_share > 0][:60]
    if not shown:
        return "no pixel has a label"
    shares = [profile.classes[i].pixel_share for i in shown]
    figure = new_figure(1.0 + 0.27 * len(shown))
    axes = clean(figure.add_subplot())
    floor = 10.0 ** np.floor(np.log10(min(shares)) - 0.3)
    axes.barh(range(len(shown)), shares, left=0, height=0.62, color=BLUE, label="share of labelled pixels")
    prevalence = [profile.classes[i].picture_share for i in shown]
    axes.plot(prevalence, range(len(shown)), "D", color=ORANGE, mec="white", ms=6, label="share of images with it")
    for row, share in enumerate(shares):
        inside = share > 10 ** (np.log10(floor) * 0.45)
        axes.annotate(
            percent(share), (share, row), xytext=(-5 if inside else 5, 0), textcoords="offset points", va="center",
            ha="right" if inside else "left", color="white" if inside else "black", fontsize=7.5,
        )  # fmt: skip
    axes.set_xscale("log")
    axes.set_xlim(floor, 1.35)
    ticks = [10.0**e for e in range(int(np.log10(floor)), 1)]
    axes.set_xticks(ticks, labels=[f"{100 * t:g}\u2009%" for t in ticks])
    axes.minorticks_off()
    axes.set_yticks(range(len(shown)), labels=[class_label(facts.classes, i) for i in shown])
    axes.set_ylim(len(shown) - 0.5, -0.5)
    axes.set_xlabel("share (logarithmic axis)")
    legend(axes, across=True)
    rarest, commonest = profile.classes[shown[-1]], profile.classes[shown[0]]
    text = (
        f"{escape_md(rarest.name)} has {percent(rarest.pixel_share)} of the labelled pixels and occurs in "
        f"{percent(rarest.picture_share)} of the images; {escape_md(commonest.name)} has "
        f"{number(commonest.pixel_share / rarest.pixel_share, 1)} times as many pixels."
    )
    missing = [c.name for c in profile.classes if c.pixel_share == 0]
    if missing:
        text += f" Without a single pixel: {', '.join(escape_md(name) for name in missing)}."
    return Drawn(figure, text, "Share of pixels and of images per class")
