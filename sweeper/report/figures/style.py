"""One look for every figure: 900 pixels wide, colours that the colour-blind can tell apart, text that is data."""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font
from matplotlib.layout_engine import ConstrainedLayoutEngine
from PIL import Image

from sweeper.core.records import FinalistEvidence
from sweeper.core.text import shortened
from sweeper.report.facts import Facts
from sweeper.report.formatting import one_line

# Its list of fonts may be that of an environment which was deleted; what it falls back to is the font that is meant.
logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)

WIDTH = 6.0
"""Inches; with DPI, 900 pixels."""
DPI = 150
FONT = 8.5
"""Points; 18 pixels at DPI."""

# Okabe and Ito's palette (Color Universal Design, 2008).
BLUE, VERMILLION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
SKY, ORANGE, YELLOW, BLACK = "#56B4E9", "#E69F00", "#F0E442", "#000000"
GREY, LIGHT = "#8C8C8C", "#D9D9D9"
CHOSEN, RIVAL = BLUE, VERMILLION
"""The recommended loss and the one beside it have these colours in every figure."""
OTHERS = (GREEN, PURPLE, ORANGE, SKY, GREY)
MARKERS = ("o", "s", "^", "D", "v", "P")


@dataclass(frozen=True)
class Drawn:
    """A figure and what to see in it."""

    figure: Figure
    caption: str
    """Markdown; names are escaped already."""
    alt: str
    """Plain words for those who cannot see it."""


def new_figure(height: float, width: float = WIDTH) -> Figure:
    """An empty figure of so many inches, apart from pyplot's global state."""
    figure = Figure(figsize=(width, height), dpi=DPI, layout=ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.06))
    FigureCanvasAgg(figure)
    return figure


def save(figure: Figure, path: Path, colours: int | None = None) -> None:
    """Write a PNG. The same figure gives the same bytes: no date, no version of matplotlib inside.

    `colours` (at most 256) rounds photographs to so many, which halves the file.
    """
    written = io.BytesIO()
    figure.savefig(written, dpi=DPI, format="png", facecolor="white", metadata={"Software": None})
    if colours is None:
        path.write_bytes(written.getvalue())
    else:
        image = Image.open(written).convert("RGB")
        few = image.quantize(colours, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
        few.save(path, "PNG", optimize=True)


def clean(axes: Axes, grid: str = "x") -> Axes:
    """Quiet axes: two spines, a pale grid behind the data along `grid` (x, y, both or empty), the common font size."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(GREY)
    axes.tick_params(labelsize=FONT, color=GREY)
    axes.xaxis.label.set_fontsize(FONT)
    axes.yaxis.label.set_fontsize(FONT)
    if grid:
        axes.grid(visible=True, axis="both" if grid == "both" else "x" if grid == "x" else "y", color="#E6E6E6", lw=0.7)
    axes.set_axisbelow(True)
    return axes


def legend(axes: Axes, columns: int = 3, *, across: bool = False) -> None:
    """A frameless legend above the axes, where it covers nothing.

    `across` the whole figure where long names at the left leave the axes too narrow for it.
    """
    settings: dict[str, Any] = {
        "ncols": columns, "frameon": False, "fontsize": FONT, "borderaxespad": 0.2, "handletextpad": 0.5,
        "columnspacing": 1.4,
    }  # fmt: skip
    figure = axes.get_figure(root=True)
    if across and figure is not None:
        figure.legend(*axes.get_legend_handles_labels(), loc="outside upper center", **settings)
    else:
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1.0), **settings)


@cache
def _glyphs() -> frozenset[int]:
    font = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    return frozenset(FT2Font(str(font)).get_charmap())


def plain(text: str, longest: int = 26) -> str:
    """Text that matplotlib draws as it is: no mathematics from `$`, no missing glyphs, shortened in the middle."""
    drawn = "".join(c if ord(c) in _glyphs() else "?" for c in one_line(text))
    return re.sub(r"\$", r"\\$", shortened(drawn, longest))


def class_label(classes: Sequence[str], index: int) -> str:
    """A class's name for a figure; its number when the font has none of its letters."""
    name = plain(classes[index])
    return name if re.search(r"\w", name.replace("?", "")) else f"class {index}"


def palette(classes: int, ground: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> npt.NDArray[np.uint8]:
    """Colours (C, 3): class 0 that of the `ground` (0–1), then Okabe–Ito's, then the same ones darker and paler."""
    base = [ORANGE, BLUE, GREEN, PURPLE, SKY, VERMILLION, YELLOW]
    colours = [ground]
    for index in range(max(0, classes - 1)):
        red, green, blue = to_rgb(base[index % 7])
        shade = (0.0, -0.45, 0.55)[min(2, index // 7)]
        mixed = [v + (1 - v) * shade if shade >= 0 else v * (1 + shade) for v in (red, green, blue)]
        colours.append((mixed[0], mixed[1], mixed[2]))
    result: npt.NDArray[np.uint8] = np.rint(np.array(colours) * 255).astype(np.uint8)
    return result


def finalist_colours(facts: Facts, finalists: Sequence[FinalistEvidence]) -> list[str]:
    """The recommended loss and its rival in their colours, the others in turn."""
    others = iter(OTHERS * (1 + len(finalists) // len(OTHERS)))
    return [CHOSEN if f is facts.chosen else RIVAL if f is facts.rival else next(others) for f in finalists]
