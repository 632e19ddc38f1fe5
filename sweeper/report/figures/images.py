"""Predictions of two losses on test images, side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from sweeper.core.contours import find_densest_window
from sweeper.core.records import IGNORE, TrialResult
from sweeper.report.facts import Pixels, ReportFacts, find_common_runs, score_images
from sweeper.report.figures.style import (
    FALSE_ALARM,
    FONT,
    HIT,
    INK,
    MISS,
    SMALL,
    WIDTH,
    DrawnFigure,
    draw_legend_of,
    escape_figure_text,
    format_class_label,
    make_class_patches,
    make_figure,
    make_palette,
    make_rgb,
)
from sweeper.report.formatting import format_code

Bytes = npt.NDArray[np.uint8]

WINS = 2
"""Number of images on which the recommended loss is most ahead, and of those on which it is most behind."""
DETAIL = (144, 192)
"""Height and width in pixels of the part shown of a larger image; print keeps each pixel, and so thin structures."""
PALE = 0.65
"""Share of white where two multi-class predictions agree, to emphasise where they differ."""
PALE_GROUND = (0.82, 0.82, 0.82)
"""Colour of class 0."""


@dataclass(frozen=True)
class _ImageRow:
    index: int
    kind: str
    """Why the image is shown: ahead, median, behind."""
    image: Bytes
    truth: Bytes
    first: Bytes
    second: Bytes
    miou: tuple[float, float]
    """mIoU of the whole image, even if only a part is shown; mean over the seeds."""
    detail: bool


def draw_predictions(facts: ReportFacts) -> DrawnFigure | str:
    """Draw image, truth, recommended loss and rival for the largest wins, a median image and the largest losses."""
    pixels = facts.pixels
    if pixels is None:
        return "the decoded images were not at hand when the report was written"
    pairs = find_common_runs(facts)
    if not pairs or facts.chosen is None or facts.rival is None:
        return "there are no two finalists with a common seed to set side by side"
    show = partial(facts.rules.make_display_map, classes=len(facts.classes))
    first, second = (_list_kept_maps((pair[side] for pair in pairs), show) for side in (0, 1))
    answers = {i: (first[i], second[i]) for i in first if i in second and first[i].shape == second[i].shape}
    if not answers:
        return "the confirmation trainings kept no predictions of the same test images"
    scored = score_images(facts, facts.chosen, facts.rival)
    rows = _choose_rows(answers, pixels, show, scored)
    names = [f.family for f in (facts.chosen, facts.rival)]
    figure = _draw_rows(facts, rows, ["image", "truth", *(escape_figure_text(name, 20) for name in names)])
    caption = _make_caption(facts, rows, pairs[0][0], names, [first - second for first, second in scored.values()])
    return DrawnFigure(figure, caption, "Predictions of two losses on test images")


def _draw_rows(facts: ReportFacts, rows: Sequence[_ImageRow], titles: Sequence[str]) -> Figure:
    """Draw a row of panels for each image: image, truth, both predictions."""
    columns = len(titles)
    shapes = [min(row.image.shape[0] / row.image.shape[1], 1.8) for row in rows]
    height = sum((WIDTH - 0.4) / columns * shape + 0.2 for shape in shapes)
    colours = make_palette(len(facts.rules.list_shown_classes(facts.classes)), PALE_GROUND)
    used = {int(v) for row in rows for m in (row.truth, row.first, row.second) for v in np.unique(m)}
    entries = _make_legend_entries(facts, colours, used)
    figure = make_figure(height + 0.35 + 0.2 * (-(-len(entries) // 3)))
    grid = figure.subplots(len(rows), columns, squeeze=False, height_ratios=shapes)
    for axes, row in zip(grid, rows, strict=True):
        binary = facts.rules.first_channel > 0
        panels = [make_rgb(row.image), _draw_truth(row, colours, binary)]
        panels += [_draw_answer(row, answer, colours, binary) for answer in (row.first, row.second)]
        for axis, panel in zip(axes, panels, strict=True):
            # Without interpolation the file is smaller, and classes are not blended.
            axis.imshow(panel, interpolation="none")
            axis.set(xticks=[], yticks=[], frame_on=False)
        stem = facts.sweep.conditions.dataset.images[row.index].stem
        axes[0].set_xlabel(escape_figure_text(stem, 18), fontsize=SMALL, labelpad=2, color=INK)
        axes[0].set_ylabel(row.kind, fontsize=SMALL, labelpad=3, color=INK)
        for axis, value in zip(axes[2:], row.miou, strict=True):
            axis.set_xlabel(f"mIoU {value:.3f}", fontsize=SMALL, labelpad=2, color=INK)
    for axis, title in zip(grid[0], titles, strict=True):
        axis.set_title(title, fontsize=FONT, pad=4, color=INK)
    draw_legend_of(figure, entries)
    return figure


def _list_kept_maps(runs: Iterable[TrialResult], show: Callable[[Bytes], Bytes]) -> dict[int, Bytes]:
    """Return image → label map for display, from the first training that kept one."""
    maps: dict[int, Bytes] = {}
    for run in runs:
        if run.predictions is not None:
            for index, mask in zip(run.predictions.images, run.predictions.masks, strict=True):
                maps.setdefault(index, show(np.asarray(mask)))
    return maps


def _choose_rows(
    answers: Mapping[int, tuple[Bytes, Bytes]],
    pixels: Pixels,
    show: Callable[[Bytes], Bytes],
    scored: Mapping[int, tuple[float, ...]],
) -> list[_ImageRow]:
    """Return the largest wins, a median image and the largest losses, from furthest ahead to furthest behind."""
    gaps = {i: scored[i][0] - scored[i][1] for i in answers if i in scored}
    ranked = sorted(gaps, key=lambda i: (-gaps[i], i))
    picked = ranked
    if len(ranked) > 2 * WINS + 1:
        picked = [*ranked[:WINS], ranked[len(ranked) // 2], *ranked[-WINS:]]
    rows = []
    for place, index in enumerate(picked):
        kind = "ahead" if gaps[index] > 1e-9 else "behind" if gaps[index] < -1e-9 else "level"
        kind = "median" if len(ranked) > 2 * WINS + 1 and place == WINS else kind
        (image, labels), (first, second), (miou, other) = pixels(index), answers[index], scored[index]
        truth = show(labels)
        part = find_densest_window((first != second) & (truth != IGNORE), DETAIL)
        panels = image[part], truth[part], first[part], second[part]
        rows.append(_ImageRow(index, kind, *panels, (miou, other), detail=panels[1].shape != truth.shape))
    return rows


def _draw_truth(row: _ImageRow, colours: Bytes, binary: bool) -> Bytes:
    if binary:
        shown = np.where(row.truth == IGNORE, 128, np.where(row.truth == 1, 255, 0)).astype(np.uint8)
        return make_rgb(shown[..., None])
    return _colour_mask(row.truth, colours)


def _draw_answer(row: _ImageRow, answer: Bytes, colours: Bytes, binary: bool) -> Bytes:
    if not binary:
        shown = _colour_mask(answer, colours)
        same = row.first == row.second
        shown[same] = np.rint(shown[same] * (1 - PALE) + 255 * PALE).astype(np.uint8)
        shown[row.truth == IGNORE] = 255
        return shown
    # The overlay's background: dark and grey.
    overlay: npt.NDArray[np.float64] = 0.45 * row.image.astype(np.float64).mean(axis=2, keepdims=True).repeat(3, axis=2)
    is_labelled = row.truth != IGNORE
    for where, colour in (
        ((answer == 1) & (row.truth == 1), HIT),
        ((answer == 1) & (row.truth == 0), FALSE_ALARM),
        ((answer == 0) & (row.truth == 1), MISS),
    ):
        overlay[where & is_labelled] = np.array(to_rgb(colour)) * 255
    return overlay.astype(np.uint8)


def _colour_mask(mask: Bytes, colours: Bytes) -> Bytes:
    shown: Bytes = colours[np.minimum(mask, len(colours) - 1)]
    shown[mask == IGNORE] = 255
    return shown


def _make_legend_entries(facts: ReportFacts, colours: Bytes, used: set[int]) -> list[Patch]:
    if facts.rules.first_channel:
        name = format_class_label(facts.classes, 1)
        return [
            Patch(color=HIT, label=f"{name} found"),
            Patch(color=FALSE_ALARM, label="false alarm"),
            Patch(color=MISS, label=f"{name} missed"),
        ]
    return make_class_patches(facts.rules.list_shown_classes(facts.classes), colours, used)


def _make_caption(
    facts: ReportFacts, rows: Sequence[_ImageRow], first: TrialResult, names: Sequence[str], gaps: Sequence[float]
) -> str:
    """Make the figure's caption; `gaps`: the recommended loss's lead on each test image."""
    chosen, rival = (format_code(name) for name in names)
    text = (
        f"Where {chosen} is most ahead of {rival}, at the median, and most behind, of the test images whose "
        f"predictions were kept; seed {first.spec.seed}, each at its own {facts.rules.point_name}."
    )
    if not facts.rules.first_channel:
        text += " Full colour: the two differ."
    if any(row.detail for row in rows):
        text += f" Details of {DETAIL[1]} × {DETAIL[0]} pixels, mIoU of the whole image."
    ahead, behind = sum(gap > 1e-9 for gap in gaps), sum(gap < -1e-9 for gap in gaps)
    return (
        f"{text} Of all {len(gaps)} test images it is ahead on {ahead}, behind on {behind}, level on "
        f"{len(gaps) - ahead - behind} (mIoU of an image: over the classes of its labels, mean over the seeds)."
    )
