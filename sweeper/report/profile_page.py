"""The profile page: `profile.md`, `profile.html`, `profile.json` and figures, for `sweeper profile DATA --out DIR`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from sweeper.core.document import json_text
from sweeper.core.records import Dataset, ImbalanceProfile
from sweeper.core.text import count, to_one
from sweeper.data.split import stratified_subset
from sweeper.data.store import open_store
from sweeper.fingerprint.label_checks import Finding, Severity, counts
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
    save_all,
    steady_style,
)
from sweeper.report.formatting import code, escape_md, percent, prose
from sweeper.report.html import write_page
from sweeper.report.prediction_files import for_people, overlay, thinned
from sweeper.report.sections import profile_table


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
    """Write the page into the folder `out`, over an earlier one.

    Args:
        dataset: with its store, whose images are shown.
        profile: its imbalance.
        out: made where it is missing.
        findings: what the label doctor found.
        split: how it would be divided, in sentences.
        consequences: what the imbalance means, in sentences.
        document: the same for programs: written as profile.json.

    Returns:
        The HTML page.

    Raises:
        SweeperError: if the store is gone.
        OSError: if a file cannot be written.
    """
    store = open_store(dataset.store)

    def read(index: int) -> tuple[npt.NDArray[np.generic], npt.NDArray[np.uint8]]:
        return store.view(index), store.mask(index)

    figures = {
        "suspects": suspects(dataset, read, findings),
        "samples": samples(dataset, read),
    }
    drawn = {name: figure for name, figure in figures.items() if figure is not None}
    save_all(drawn, out / "figures")
    text = _page(dataset, profile, findings, split, drawn, consequences=consequences)
    (out / "profile.json").write_text(json_text(document), encoding="utf-8")
    write_page(text, out / "profile.md")
    return out / "profile.html"


def _page(
    dataset: Dataset,
    profile: ImbalanceProfile,
    findings: Sequence[Finding],
    split: Sequence[str],
    figures: Mapping[str, Drawn],
    *,
    consequences: Sequence[str],
) -> str:
    """Markdown of the whole page; `figures` by the names of their files in `figures/` (without `.svg`)."""

    def figure(name: str) -> list[str]:
        return [figures[name].shown(name)] if name in figures else []

    parts = [
        f"# Profile of {escape_md(dataset.name)}",
        _head(dataset, profile),
        "## Problems",
        *_problems(dataset, findings),
        *figure("suspects"),
        "## Classes",
        profile_table(profile),
        "*Thin*: within 2 pixels of another class. *1/f weight*: what balances the classes, 1 for the mean pixel.",
        *map(prose, consequences),
        "## Images",
        *figure("samples"),
        "## Split",
        "\n".join(f"- {prose(line[:1].upper() + line[1:])}." for line in split),
        f"Data {code(dataset.source)}, digest beginning with {code(dataset.digest[:19])}. The whole is in "
        "[profile.json](profile.json).",
    ]
    return "\n\n".join(parts) + "\n"


def _head(dataset: Dataset, profile: ImbalanceProfile) -> str:
    ignored = f", {percent(profile.ignored_share)} of the pixels without a label" if profile.ignored_share else ""
    kind = "binary" if dataset.task == "binary" else f"{len(dataset.classes)} classes"
    of = "background to foreground" if profile.pos_weight is not None else "commonest to rarest class"
    imbalance = f"Imbalance **{to_one(profile.imbalance)}** ({of})."
    return f"{count(profile.images, 'image')}, {kind}{ignored}. {imbalance}"


def _problems(dataset: Dataset, findings: Sequence[Finding]) -> list[str]:
    """What the label doctor found, and what was seen while reading."""
    totals = ", ".join(f"{n} {severity}{'s' * (n != 1)}" for severity, n in counts(findings).items())
    found = (
        f"The label doctor found {totals}. Nothing was changed; stems that you agree to drop go into a file for "
        "`--exclude`."
    )
    lines = "\n".join(f"- **{finding.severity}** {prose(finding.text)}" for finding in findings)
    parts = [found, lines] if findings else ["The label doctor found nothing wrong."]
    if dataset.warnings:
        parts += ["What was seen while reading:", "\n".join(f"- {prose(warning)}" for warning in dataset.warnings)]
    return parts


# --- Figures: samples of every class, what the doctor suspects -----------------------------------------------


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
