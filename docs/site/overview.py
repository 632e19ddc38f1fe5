"""README's image, from the committed example: what each loss gains, next to what two of them answer.

python docs/site/overview.py        # writes reports/overview.svg; part of `make docs`
"""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from sweeper.report.figures.style import (
    BAND,
    CHOSEN,
    FONT,
    INK,
    RIVAL,
    DrawnFigure,
    clean_axes,
    make_figure,
    save_figure,
)

EXAMPLE = Path(__file__).resolve().parents[2] / "reports" / "example"
SHOWN = 2
"""Rows of the example's predictions: those where the recommended loss is most ahead."""


def main() -> None:
    """Draw it."""
    document = json.loads((EXAMPLE / "recommendation.json").read_text("utf-8"))
    named, baseline = document["recommended"]["family"], "cross_entropy"
    gaps = [c for c in document["comparisons"] if c["second"] == baseline]
    gaps.sort(key=lambda gap: -gap["difference"])
    figure = make_figure(2.9)
    figure.set_figwidth(9.0)
    left, *others = figure.subplot_mosaic(
        [["gain", *(f"0{column}" for column in range(4))], ["gain", *(f"1{column}" for column in range(4))]],
        width_ratios=[2, 1, 1, 1, 1],
    ).values()
    axes = clean_axes(left)
    axes.axvspan(-document["rope"], document["rope"], color=INK, alpha=BAND, lw=0, zorder=0)
    axes.axvline(0, color=INK, lw=1, zorder=1)
    for row, gap in enumerate(gaps):
        colour = CHOSEN if gap["first"] == named else RIVAL
        axes.plot([gap["ci_low"], gap["ci_high"]], [row, row], color=colour, lw=2.4, solid_capstyle="butt")
        axes.plot(gap["difference"], row, "o", color=colour, ms=7)
        axes.annotate(f"+{gap['difference']:.3f}", (gap["difference"], row), xytext=(0, 7), ha="center",
                      textcoords="offset points", fontsize=FONT, color=INK)  # fmt: skip
    axes.set_yticks(range(len(gaps)), labels=[gap["first"] for gap in gaps])
    axes.set_ylim(len(gaps) - 0.5, -0.7)
    axes.set_xlabel("gain over tuned cross-entropy, test mIoU")
    panels = predictions()
    rival = rival_shown()
    for place, panel, title in zip(others, panels, ("image", "truth", named, rival) * SHOWN, strict=True):
        place.imshow(panel, interpolation="nearest")
        place.set_axis_off()
        if place in others[:4]:
            place.set_title(title, fontsize=FONT, pad=4, color=INK)
    rarest = min(document["dataset"]["profile"]["classes"], key=lambda found: found["pixel_share"])
    title = f"Which loss, where a {rarest['name']} is {100 * rarest['pixel_share']:.2g} % of the pixels?"
    figure.suptitle(title, fontsize=FONT + 1, color=INK)
    save_figure(DrawnFigure(figure, "", title), EXAMPLE.parent / "overview.svg")


def predictions() -> list[npt.NDArray[np.uint8]]:
    """Panels of the first rows of the example's predictions."""
    text = (EXAMPLE / "figures" / "predictions.svg").read_text("utf-8")
    found = re.findall(r"data:image/png;base64,([A-Za-z0-9+/=\s]+)", text)[: 4 * SHOWN]
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(one))).convert("RGB")) for one in found]


def rival_shown() -> str:
    """Return the loss shown next to the recommended one, by their caption in the report."""
    text = (EXAMPLE / "report.md").read_text("utf-8")
    found = re.search(r"is most ahead of `([a-z_]+)`", text)
    assert found is not None
    return found[1]


if __name__ == "__main__":
    main()
