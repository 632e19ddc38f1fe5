"""README's picture, from the committed example: what each loss gains, and what two of them answer on the median image.

python docs/site/overview.py        # writes reports/overview-*.svg; part of `make docs`
"""

from __future__ import annotations

import base64
import io
import json
import re
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from PIL import Image

from sweeper.report.figures.images import PALE, PALE_GROUND
from sweeper.report.figures.style import (
    BAND,
    CHOSEN,
    FALSE_ALARM,
    FONT,
    HIT,
    INK,
    MISS,
    OTHERS,
    DrawnFigure,
    clean_axes,
    make_figure,
    make_palette,
    save_figure,
)

Bytes = npt.NDArray[np.uint8]

EXAMPLE = Path(__file__).resolve().parents[2] / "reports" / "example"
BASELINE = "cross_entropy"
RARE = 0.02
"""Share of the pixels below which a class is shown."""
DIM = 0.6
"""Brightness that is left of the photograph, so that the colours stand out."""
BORDER = 6
"""Pixels of the image around the objects."""
INKS = {"light": "#59636e", "dark": "#9198a1"}
"""Text and axes on a ground of that kind; a contrast of 6.1 on GitHub's white and of 6.5 on its black."""
WIDTHS = {"wide": 8.4, "narrow": 3.2}
"""Inches: on a screen, and in the 324 pixels that GitHub leaves on a telephone."""


class Answer(NamedTuple):
    """What a loss answers on the image that is shown."""

    family: str
    labels: Bytes
    """(H, W)."""


class MedianImage(NamedTuple):
    """The test image on which the recommended loss gains as much as on the median one."""

    photograph: Bytes
    """(H, W, 3)."""
    truth: Bytes
    """(H, W)."""
    answers: tuple[Answer, Answer]


def main() -> None:
    """Write the picture for each width and ground."""
    for name, text in draw_all().items():
        (EXAMPLE.parent / name).write_text(text, "utf-8")


def draw_all() -> dict[str, str]:
    """Return name → SVG of each version of the picture."""
    document = json.loads((EXAMPLE / "recommendation.json").read_text("utf-8"))
    image = read_median_image(document)
    drawn = {}
    with TemporaryDirectory() as folder:
        path = Path(folder) / "figure.svg"
        for width in WIDTHS:
            save_figure(DrawnFigure(draw(document, image, width), "", ""), path)
            for ground, ink in INKS.items():
                drawn[f"overview-{width}-{ground}.svg"] = path.read_text("utf-8").replace(INK.lower(), ink)
    return drawn


def draw(document: dict[str, Any], image: MedianImage, width: str) -> Figure:
    """Draw the gains, and next to them, or below them on a telephone, the answers."""
    figure = make_figure(3.2 if width == "wide" else 5.0)
    figure.set_figwidth(WIDTHS[width])
    if width == "wide":
        parts = figure.subfigures(1, 2, squeeze=False, width_ratios=[1.15, 1])
    else:
        parts = figure.subfigures(2, 1, squeeze=False, height_ratios=[1, 1.9])
    gains, answers = parts.flat
    draw_gains(gains.add_subplot(), document)
    draw_answers(answers, document, image)
    return figure


def draw_gains(axes: Axes, document: dict[str, Any]) -> None:
    """Draw what each finalist gains over cross-entropy, with its interval."""
    gaps = sorted((c for c in document["differences"] if c["second"] == BASELINE), key=lambda gap: -gap["estimate"])
    clean_axes(axes)
    axes.axvspan(-document["margin"], document["margin"], color=INK, alpha=BAND, lw=0, zorder=0)
    axes.axvline(0, color=INK, lw=1, zorder=1)
    others = iter(OTHERS)
    for row, gap in enumerate(gaps):
        colour = CHOSEN if gap["first"] == document["use"]["loss"] else next(others)
        axes.plot([gap["low"], gap["high"]], [row, row], color=colour, lw=2.4, solid_capstyle="butt")
        axes.plot(gap["estimate"], row, "o", color=colour, ms=7)
        text = f"{gap['estimate']:+.3f} [{gap['low']:+.3f}, {gap['high']:+.3f}]".replace("-", "−")
        axes.annotate(text, (gap["estimate"], row), xytext=(0, 8), ha="center", textcoords="offset points",
                      fontsize=FONT, color=INK)  # fmt: skip
    axes.set_yticks(range(len(gaps)), labels=[gap["first"] for gap in gaps])
    axes.set_ylim(len(gaps) - 0.6, -0.7)
    axes.margins(x=0.17)
    axes.xaxis.set_major_locator(MaxNLocator(4))
    axes.set_xlabel("test mIoU, 95 % interval")  # over all interim analyses, as the report says
    rarest = min(document["dataset"]["profile"]["classes"], key=lambda row: row["pixel_share"])
    title = (
        f"Gain over tuned {BASELINE},\nwhere a {rarest['name']} is {100 * rarest['pixel_share']:.2g} % of the pixels"
    )
    axes.set_title(title, fontsize=FONT, pad=6, color=INK)


def draw_answers(figure: SubFigure, document: dict[str, Any], image: MedianImage) -> None:
    """Draw the rare objects as each loss answers them, with the scores of the whole image below."""
    classes = document["dataset"]["classes"]
    rare = list_rare_classes(document)
    part = find_window(np.isin(image.truth, rare))
    for axes, answer in zip(figure.subplots(2, 1), image.answers, strict=True):
        axes.imshow(draw_overlay(image, answer.labels, rare)[part], interpolation="none")
        axes.set(xticks=[], yticks=[], frame_on=False)
        first = "" if answer is not image.answers[0] else f"The median of {document['images']} test images, by gain\n"
        axes.set_title(f"{first}{answer.family}", fontsize=FONT, pad=4, color=INK)
        present = [c for c in rare if (image.truth == c).any()]
        scores = [f"{classes[c]} {measure_iou(image.truth, answer.labels, c):.2f}" for c in present]
        axes.set_xlabel(f"IoU: {', '.join(scores)}", fontsize=FONT, labelpad=3, color=INK)
    colours = {"hit": HIT, "miss": MISS, "false alarm": FALSE_ALARM}
    legend = figure.legend(
        handles=[Patch(color=colour, label=name) for name, colour in colours.items()],
        loc="outside lower center",
        ncols=len(colours),
        frameon=False,
        fontsize=FONT,
        labelcolor=INK,
        columnspacing=1.2,
        handlelength=1.0,
    )
    for patch in legend.get_patches():
        patch.set(ec=INK, lw=0.7)


def list_rare_classes(document: dict[str, Any]) -> list[int]:
    """Return the labels of the classes below `RARE` of the pixels, the rarest first."""
    shares = [row["pixel_share"] for row in document["dataset"]["profile"]["classes"]]
    return sorted((label for label, share in enumerate(shares) if share < RARE), key=lambda label: shares[label])


def read_median_image(document: dict[str, Any]) -> MedianImage:
    """Read it out of the report's figure of predictions, whose middle row it is; each panel holds its pixels."""
    text = (EXAMPLE / "figures" / "predictions.svg").read_text("utf-8")
    panels = re.findall(r"data:image/png;base64,([A-Za-z0-9+/=\s]+)", text)
    rows = [panels[at : at + 4] for at in range(0, len(panels), 4)]
    if len(rows) % 2 == 0 or len(rows) < 5:
        raise SystemExit(f"the figure of predictions has {len(rows)} rows; the median is in the middle of 5 or more")
    images = [np.asarray(Image.open(io.BytesIO(base64.b64decode(one))).convert("RGB")) for one in rows[len(rows) // 2]]
    photograph, truth, first, second = images
    classes = len(document["dataset"]["classes"])
    families = (document["use"]["loss"], find_rival())
    answers = [Answer(f, decode_labels(p, classes)) for f, p in zip(families, (first, second), strict=True)]
    return MedianImage(photograph, decode_labels(truth, classes), (answers[0], answers[1]))


def find_rival() -> str:
    """Return the loss shown next to the recommended one, by the figure's caption in the report."""
    match = re.search(r"is most ahead of `([a-z_]+)`", (EXAMPLE / "report.md").read_text("utf-8"))
    if match is None:
        raise SystemExit("the caption of the predictions names no loss that another one is most ahead of")
    return match[1]


def decode_labels(panel: Bytes, classes: int) -> Bytes:
    """Return the labels (H, W) of a panel in the report's colours, full or paled."""
    full = make_palette(classes, PALE_GROUND)
    colours = np.concatenate([full, np.rint(full * (1 - PALE) + 255 * PALE).astype(np.uint8)]).astype(int)
    distance = np.abs(panel[:, :, None].astype(int) - colours).sum(axis=-1)
    if distance.min(axis=-1).any():
        raise SystemExit("the figure of predictions has pixels in no class's colour: these would be made up")
    labels: Bytes = (distance.argmin(axis=-1) % classes).astype(np.uint8)
    return labels


def find_window(shown: npt.NDArray[np.bool_]) -> tuple[slice, slice]:
    """Return the smallest window that has all of these pixels, with a border."""
    ends = [(places.min(), places.max()) for places in np.nonzero(shown)]
    low, high = ((max(0, int(first) - BORDER), int(last) + BORDER + 1) for first, last in ends)
    return slice(*low), slice(*high)


def draw_overlay(image: MedianImage, answer: Bytes, rare: Sequence[int]) -> Bytes:
    """Return the dimmed photograph, with what the answer finds, misses and invents of the rare classes."""
    is_object, is_named = np.isin(image.truth, rare), np.isin(answer, rare)
    shown = DIM * image.photograph
    for where, colour in (
        (is_object & (answer == image.truth), HIT),
        (is_object & ~is_named, MISS),
        (is_named & (answer != image.truth), FALSE_ALARM),
    ):
        shown[where] = [int(colour[at : at + 2], 16) for at in (1, 3, 5)]
    return shown.astype(np.uint8)


def measure_iou(truth: Bytes, answer: Bytes, label: int) -> float:
    """Return the intersection over union of a class on the whole image."""
    both, either = (truth == label) & (answer == label), (truth == label) | (answer == label)
    return float(both.sum() / either.sum())


if __name__ == "__main__":
    main()
