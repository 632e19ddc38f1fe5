"""The profile page: `profile.md`, `profile.html`, `profile.json` and figures, for `sweeper profile DATA --out DIR`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sweeper.core.document import format_json
from sweeper.core.label_planes import list_layers
from sweeper.core.records import ClassProfile, Dataset, ImbalanceProfile
from sweeper.core.text import format_count, format_ratio, format_share, format_significant
from sweeper.data.split import select_stratified_subset
from sweeper.data.store import open_store
from sweeper.fingerprint.label_checks import Finding, Severity, format_totals
from sweeper.report.figures.style import (
    INK,
    SMALL,
    WIDTH,
    DrawnFigure,
    draw_legend_of,
    escape_figure_text,
    make_class_patches,
    make_figure,
    make_palette,
    make_rgb,
    save_all,
    steady_style,
)
from sweeper.report.formatting import MISSING, escape_md, escape_prose, format_code, tabulate
from sweeper.report.html import write_page
from sweeper.report.prediction_files import make_display_image, make_overlay, thin_mask


@steady_style
def write_profile_page(
    dataset: Dataset,
    profile: ImbalanceProfile,
    out: Path,
    *,
    findings: Sequence[Finding],
    split: Sequence[str],
    consequences: Sequence[str],
    document: Mapping[str, object],
) -> Path:
    """Write the page into the folder `out`, replacing an earlier one, and return the path of its HTML.

    `split` and `consequences` are sentences on the data's division and the effects of their imbalance; `document` is
    the content of profile.json.

    Raises:
        SweeperError: if the store is missing.
    """
    store = open_store(dataset.store)

    def read(index: int) -> tuple[npt.NDArray[np.generic], Sequence[Bytes]]:
        return store.get_view(index), list_layers(store.get_mask(index), dataset.planes)

    figures = {"suspects": draw_suspects(dataset, read, findings), "samples": draw_samples(dataset, read)}
    drawn = {name: figure for name, figure in figures.items() if figure is not None}
    save_all(drawn, out / "figures")
    shown = {name: [figure.format_markdown(name)] for name, figure in drawn.items()}
    parts = [
        f"# Profile of {escape_md(dataset.name)}",
        _make_head(dataset, profile),
        "## Problems",
        *_make_problems(dataset, findings),
        *shown.get("suspects", []),
        "## Classes",
        make_profile_table(profile),
        "*Thin*: within 2 pixels of other classes. *Weight*: what balances the classes, 1/f (1 for the mean pixel), or "
        "background / foreground if classes overlap.",
        *map(escape_prose, consequences),
        "## Images",
        *shown["samples"],
        "## Split",
        "\n".join(f"- {escape_prose(line[:1].upper() + line[1:])}." for line in split),
        f"Data {format_code(dataset.source)}, digest beginning with {format_code(dataset.digest[:19])}. The whole is "
        "in [profile.json](profile.json).",
    ]
    (out / "profile.json").write_text(format_json(document), encoding="utf-8")
    write_page("\n\n".join(parts) + "\n", out / "profile.md")
    return out / "profile.html"


def _make_head(dataset: Dataset, profile: ImbalanceProfile) -> str:
    ignored = f", {format_share(profile.ignored_share)} of the pixels without a label" if profile.ignored_share else ""
    kind = "binary" if dataset.task == "binary" else f"{len(dataset.classes)} classes"
    compared = "background to foreground" if profile.pos_weight is not None else "most common to rarest class"
    if profile.overlap is not None:
        kind += f" that overlap ({format_share(profile.overlap)} of their pixels have several)"
        compared = "background to rarest class"
    imbalance = f"Imbalance **{format_ratio(profile.imbalance)}** ({compared})."
    return f"{format_count(profile.images, 'image')}, {kind}{ignored}. {imbalance}"


def _make_problems(dataset: Dataset, findings: Sequence[Finding]) -> list[str]:
    """Return the label doctor's findings, and the problems while reading."""
    lines = "\n".join(f"- **{finding.severity}** {escape_prose(finding.text)}" for finding in findings)
    step = "Nothing was changed; move images that you agree to drop out of the folder."
    parts = [f"{format_totals(findings)}. {step}\n\n{lines}".rstrip()]
    if dataset.warnings:
        parts += [
            "What was seen while reading:",
            "\n".join(f"- {escape_prose(warning)}" for warning in dataset.warnings),
        ]
    return parts


# --- Figures: samples of every class, suspect images ---------------------------------------------------------


Bytes = npt.NDArray[np.uint8]
Read = Callable[[int], tuple[npt.NDArray[np.generic], Sequence[Bytes]]]
"""Index of an image → its image (H, W, channels), 8 or 16 bits, and the layers (H, W) of its mask, 255 = ignore."""

SAMPLES = 6
SUSPECTS = 4
SIDE = 360
"""Most pixels of a shown image's longer side; larger images are subsampled."""
LISTED = 24
"""Most classes in the legend."""


def draw_samples(dataset: Dataset, read: Read) -> DrawnFigure:
    """Draw images, each next to its overlay, that together show every class if `SAMPLES` is enough."""
    chosen = select_stratified_subset(dataset, range(len(dataset.images)), SAMPLES)
    common = dataset.classes[int(dataset.count_class_pixels().argmax())]
    caption = (
        f"{len(chosen)} images, chosen so that the rarest classes are shown first and the others range from little "
        f"to much besides {escape_md(common)}; the mask is laid over each, with its outlines. "
        f"{escape_md(dataset.label_names[0])} has no colour."
    )
    return DrawnFigure(_draw_sheet(dataset, read, chosen, {}), caption, "Sample images with their masks")


def draw_suspects(dataset: Dataset, read: Read, findings: Sequence[Finding]) -> DrawnFigure | None:
    """Draw the images of errors and warnings, the most severe first; None if there are none."""
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
    return DrawnFigure(_draw_sheet(dataset, read, chosen, reasons), caption, "Suspected images with their masks")


def _draw_sheet(dataset: Dataset, read: Read, chosen: Sequence[int], reasons: dict[int, str]) -> Figure:
    """Draw two images per row (or a single one), each with its overlay at its right."""
    colours = make_palette(len(dataset.label_names))
    drawn = []
    used: set[int] = set()
    for index in chosen:
        image, layers = read(index)
        step = max(1, -(-max(image.shape[:2]) // SIDE))
        used |= {int(v) for v in np.unique(layers)}
        drawn.append((index, make_display_image(image)[::step, ::step], [thin_mask(layer, step) for layer in layers]))
    abreast = min(2, len(drawn))
    pairs = [drawn[i : i + abreast] for i in range(0, len(drawn), abreast)]
    tall = [max(min(image.shape[0] / image.shape[1], 1.8) for _, image, _ in pair) for pair in pairs]
    entries = make_class_patches(dataset.label_names, colours, used - {0}, hatch="////")
    left_out = max(0, len(entries) - LISTED)
    entries = entries[:LISTED]
    height = (WIDTH - 0.2) / (2 * abreast)  # height of a square image
    figure = make_figure(sum(height * t + 0.24 for t in tall) + 0.12 + 0.2 * -(-len(entries) // 3))
    grid = figure.subplots(len(pairs), 2 * abreast, squeeze=False, height_ratios=tall)
    for row, pair in zip(grid, pairs, strict=True):
        for axis in row:
            axis.set_axis_off()
        for place, (index, image, layers) in enumerate(pair):
            title = escape_figure_text(dataset.images[index].stem, 20 if index not in reasons else 12)
            if index in reasons:
                title += f": {reasons[index]}"
            _draw_image(row[2 * place], image, title)
            _draw_image(row[2 * place + 1], make_overlay(image, layers, colours), "")
    figure.set_layout_engine("constrained", w_pad=0.02, h_pad=0.03)
    if entries:
        draw_legend_of(figure, entries, title=f"and {left_out} more classes" if left_out else "")
    return figure


def _draw_image(axis: Axes, image: Bytes, title: str) -> None:
    axis.imshow(make_rgb(image), interpolation="none")
    axis.set_title(title, fontsize=SMALL, pad=3, loc="left", color=INK)


def make_profile_table(profile: ImbalanceProfile) -> str:
    """Return the imbalance fingerprint, one row per class."""
    weights = dict(zip(profile.classes, profile.class_weights, strict=False))
    columns: dict[str, Callable[[ClassProfile], str]] = {
        "class": lambda c: escape_md(c.name),
        "of labelled pixels": lambda c: format_share(c.pixel_share),
        "of images": lambda c: format_share(c.image_share),
        "components": lambda c: f"{c.components:,}",
        "their pixels (10 / 50 / 90 %)": lambda c: " / ".join(f"{v:,.0f}" for v in c.component_pixels or ()) or MISSING,
        "thin": lambda c: format_share(c.thinness),
        "weight": lambda c: format_significant(weights.get(c)),
    }
    return tabulate(profile.classes, columns)
