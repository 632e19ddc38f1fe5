"""Figures of images: samples that show every class, and the doctor's suspects, each with its mask laid over it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from sweeper.core.contours import near_boundary
from sweeper.core.records import IGNORE, Dataset
from sweeper.data.split import stratified_subset
from sweeper.fingerprint.label_checks import Finding, Severity
from sweeper.report.figures.style import FONT, GREY, Drawn, class_label, new_figure, palette, plain
from sweeper.report.formatting import escape_md

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
    """Images that together show every class where `SAMPLES` allows it, each beside itself with its mask."""
    chosen = stratified_subset(dataset, range(len(dataset.pictures)), SAMPLES)
    caption = (
        f"{len(chosen)} images, chosen so that the rarest classes are shown first and the others range from little "
        f"to much besides {escape_md(_common(dataset))}; the mask is laid over each, with its outlines. "
        f"{escape_md(dataset.classes[0])} has no colour."
    )
    return Drawn(_sheet(dataset, read, chosen, {}), caption, "Sample images with their masks")


def suspects(dataset: Dataset, read: Read, findings: Sequence[Finding]) -> Drawn | None:
    """The images of errors and warnings, the weightiest first; None where no image is accused."""
    index_of = {image.stem: index for index, image in enumerate(dataset.pictures)}
    reasons: dict[int, str] = {}
    for finding in findings:
        if finding.severity != Severity.NOTE:
            for stem in finding.pictures:
                if stem in index_of:
                    reasons.setdefault(index_of[stem], finding.kind.replace("_", " "))
    if not reasons:
        return None
    chosen = list(reasons)[:SUSPECTS]
    more = f" (the first {SUSPECTS} of {len(reasons)})" if len(reasons) > SUSPECTS else ""
    caption = f"Images that the label doctor suspects{more}. Does the mask belong to what is seen?"
    return Drawn(_sheet(dataset, read, chosen, reasons), caption, "Suspected images with their masks")


def for_people(image: npt.NDArray[np.generic]) -> Bytes:
    """(H, W, 1 or 3) uint8 of any image: 8 bits as they are, else the first channels between their 1st and 99th
    percentile."""
    shown = image[..., :3] if image.shape[2] >= 3 else image[..., :1]
    if shown.dtype == np.uint8 and image.shape[2] in (1, 3):
        return shown.astype(np.uint8)
    values = shown.astype(np.float32)
    low, high = np.percentile(values, (1, 99))
    scaled: Bytes = ((values - low) * (255 / max(1e-6, float(high - low)))).clip(0, 255).astype(np.uint8)
    return scaled


def overlay(image: Bytes, mask: Bytes, colours: Bytes) -> Bytes:
    """The image without colour, its mask's classes (not class 0) tinted and outlined, ignored pixels hatched."""
    grey = image.astype(np.float32).mean(axis=2, keepdims=True).repeat(3, axis=2) * 0.8 + 20
    tint = colours[np.minimum(mask, len(colours) - 1)].astype(np.float32)
    inside = (mask > 0) & (mask != IGNORE)
    grey[inside] = 0.5 * grey[inside] + 0.5 * tint[inside]
    line = near_boundary(mask, 1) & inside
    grey[line] = tint[line]
    rows, columns = np.indices(mask.shape)
    grey[(mask == IGNORE) & ((rows + columns) % 6 < 2)] = 245
    laid: Bytes = grey.clip(0, 255).astype(np.uint8)
    return laid


def thinned(mask: Bytes, step: int) -> Bytes:
    """The mask with a pixel for each block of `step`²: the label rarest in the image, so that cracks stay."""
    counts = np.bincount(mask.ravel(), minlength=256)
    rank = np.empty(256, dtype=np.uint8)
    order = np.argsort(-counts, kind="stable")
    rank[order] = np.arange(256, dtype=np.uint8)
    ranks = rank[mask]
    padded = np.pad(ranks, [(0, -n % step) for n in mask.shape], mode="edge")
    rows, columns = (n // step for n in padded.shape)
    rarest: Bytes = order.astype(np.uint8)[padded.reshape(rows, step, columns, step).max(axis=(1, 3))]
    return rarest


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
    entries = [
        Patch(color=tuple(colours[i] / 255), label=class_label(dataset.classes, i))
        for i in sorted(used)
        if 0 < i < len(colours)
    ]
    if IGNORE in used:
        entries.append(Patch(fc="white", ec=GREY, hatch="////", label="no label"))
    left_out = max(0, len(entries) - LISTED)
    entries = entries[:LISTED]
    height = 1.46 * 2 / abreast  # of a square image
    figure = new_figure(sum(height * t + 0.24 for t in tall) + 0.12 + 0.2 * -(-len(entries) // 4))
    grid = figure.subplots(len(pairs), 2 * abreast, squeeze=False, height_ratios=tall)
    for row, pair in zip(grid, pairs, strict=True):
        for axis in row:
            axis.set_axis_off()
        for place, (index, image, mask) in enumerate(pair):
            title = plain(dataset.pictures[index].stem, 24 if index not in reasons else 14)
            if index in reasons:
                title += f": {reasons[index]}"
            _image(row[2 * place], image, title)
            _image(row[2 * place + 1], overlay(image, mask, colours), "")
    figure.set_layout_engine("constrained", w_pad=0.02, h_pad=0.03)
    if entries:
        title = f"and {left_out} more classes" if left_out else ""
        figure.legend(handles=entries, loc="outside lower center", ncols=4, frameon=False, fontsize=7.5, title=title)
    return figure


def _image(axis: Axes, image: Bytes, title: str) -> None:
    axis.imshow(image if image.shape[2] == 3 else image[..., 0], cmap="gray", vmin=0, vmax=255, interpolation="nearest")
    axis.set_title(title, fontsize=FONT - 1, pad=3, loc="left")


def _common(dataset: Dataset) -> str:
    return dataset.classes[int(dataset.class_pixels().argmax())]
