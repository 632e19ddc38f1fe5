"""Figures of a data set's labels: samples of every class, what the doctor suspects."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sweeper.core.records import Dataset
from sweeper.data.split import stratified_subset
from sweeper.fingerprint.label_checks import Finding, Severity
from sweeper.report.figures.style import (
    INK,
    SMALL,
    WIDTH,
    Drawn,
    class_patches,
    legend_of,
    new_figure,
    palette,
    plain,
    rgb,
)
from sweeper.report.formatting import escape_md
from sweeper.report.prediction_files import for_people, overlay, thinned

Bytes = npt.NDArray[np.uint8]
Read = Callable[[int], tuple[npt.NDArray[np.generic], Bytes]]
"""Index of an image → its image (H, W, channels), 8 or 16 bits, and its mask (H, W), 255 = ignore."""

SAMPLES = 6
SUSPECTS = 4
SIDE = 360
"""Pixels of a shown image's longer side; larger ones are thinned out."""
LISTED = 24
"""Classes that the legend names."""


def samples(dataset: Dataset, read: Read) -> Drawn:
    """Images that together show every class where `SAMPLES` allows it, each next to itself with its mask."""
    chosen = stratified_subset(dataset, range(len(dataset.images)), SAMPLES)
    caption = (
        f"{len(chosen)} images, chosen so that the rarest classes are shown first and the others range from little "
        f"to much besides {escape_md(_common(dataset))}; the mask is laid over each, with its outlines. "
        f"{escape_md(dataset.classes[0])} has no colour."
    )
    return Drawn(_sheet(dataset, read, chosen, {}), caption, "Sample images with their masks")


def suspects(dataset: Dataset, read: Read, findings: Sequence[Finding]) -> Drawn | None:
    """The images of errors and warnings, the weightiest first; None where no image is accused."""
    index_of = {image.stem: index for index, image in enumerate(dataset.images)}
    reasons: dict[int, str] = {}
    for finding in findings:
        if finding.severity != Severity.NOTE:
            for stem in finding.images:
                if stem in index_of:
                    reasons.setdefault(index_of[stem], finding.kind.replace("_", " "))
    if not reasons:
        return None
    chosen = list(reasons)[:SUSPECTS]
    more = f" (the first {SUSPECTS} of {len(reasons)})" if len(reasons) > SUSPECTS else ""
    caption = f"Images that the label doctor suspects{more}. Does the mask belong to what is seen?"
    return Drawn(_sheet(dataset, read, chosen, reasons), caption, "Suspected images with their masks")


def _sheet(dataset: Dataset, read: Read, chosen: Sequence[int], reasons: dict[int, str]) -> Figure:
    """Two images a row (a single one alone), each with its overlay at its right."""
    colours = palette(len(dataset.classes))
    drawn = []
    used: set[int] = set()
    for index in chosen:
        image, mask = read(index)
        step = max(1, -(-max(mask.shape) // SIDE))
        used |= {int(v) for v in np.unique(mask)}
        drawn.append((index, for_people(image)[::step, ::step], thinned(mask, step)))
    abreast = min(2, len(drawn))
    pairs = [drawn[i : i + abreast] for i in range(0, len(drawn), abreast)]
    tall = [max(min(mask.shape[0] / mask.shape[1], 1.8) for _, _, mask in pair) for pair in pairs]
    entries = class_patches(dataset.classes, colours, used - {0}, hatch="////")
    left_out = max(0, len(entries) - LISTED)
    entries = entries[:LISTED]
    height = (WIDTH - 0.2) / (2 * abreast)  # of a square image
    figure = new_figure(sum(height * t + 0.24 for t in tall) + 0.12 + 0.2 * -(-len(entries) // 3))
    grid = figure.subplots(len(pairs), 2 * abreast, squeeze=False, height_ratios=tall)
    for row, pair in zip(grid, pairs, strict=True):
        for axis in row:
            axis.set_axis_off()
        for place, (index, image, mask) in enumerate(pair):
            title = plain(dataset.images[index].stem, 20 if index not in reasons else 12)
            if index in reasons:
                title += f": {reasons[index]}"
            _image(row[2 * place], image, title)
            _image(row[2 * place + 1], overlay(image, mask, colours), "")
    figure.set_layout_engine("constrained", w_pad=0.02, h_pad=0.03)
    if entries:
        legend_of(figure, entries, title=f"and {left_out} more classes" if left_out else "")
    return figure


def _image(axis: Axes, image: Bytes, title: str) -> None:
    axis.imshow(rgb(image), interpolation="none")
    axis.set_title(title, fontsize=SMALL, pad=3, loc="left", color=INK)


def _common(dataset: Dataset) -> str:
    return dataset.classes[int(dataset.class_pixels().argmax())]
