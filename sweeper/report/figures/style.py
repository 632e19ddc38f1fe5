"""One look for every figure: 900 pixels wide, colours that the colour-blind can tell apart, text that is data.

The report's figures are SVG that follow the reader's light or dark theme; those of other pages are PNG.
"""

from __future__ import annotations

import io
import logging
import re
from base64 import b64decode, b64encode
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
    """What it shows, in plain words: its title, and for those who cannot see it."""
    photographs: bool = False
    """Whether it holds images, which are rounded to 256 colours each."""


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


_DARK = {
    "#ffffff": "#16181b",
    "#000000": "#e4e6e9",
    "#d9d9d9": "#43484f",
    "#e6e6e6": "#2c3036",
    "#efefef": "#2a2e34",
    "#e8f3ec": "#1d3327",
    "#6b6b6b": "#a4abb3",
}
"""What a grey becomes on a dark ground. Colours are seen on both, but for blue lines, which are lighter there; classes
have the colours of their pixels in either theme."""


def save_themed(drawn: Drawn, path: Path) -> None:
    """Write an SVG with its title, which is dark where the reader's theme is.

    Names in it are drawn as shapes: the file holds no text, no script and no address. The same figure gives the same
    bytes. Colours are attributes of the elements, so that a viewer without style sheets shows the light theme.
    """
    figure, written = drawn.figure, io.StringIO()
    figure.suptitle(plain(drawn.alt, 90), x=0.012, ha="left", fontsize=9.5, fontweight="bold")
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    with matplotlib.rc_context({"svg.hashsalt": "sweeper", "svg.fonttype": "path"}):
        figure.savefig(written, dpi=DPI, format="svg", facecolor="white", metadata=nothing)
    text = re.sub(r"<!--.*?-->|<metadata>.*?</metadata>|<style[^>]*>.*?</style>", "", written.getvalue(), flags=re.S)
    text = re.sub(r' style="([^"]*)"', lambda found: _attributes(found[1]), text)
    if drawn.photographs:
        text = re.sub(r"(?<=data:image/png;base64,)[A-Za-z0-9+/=\s]+", lambda found: _rounded(found[0]), text)
    path.write_text(re.sub(r"\n\s*\n+", "\n", _root(text, drawn.photographs)), "utf-8")


def save_png(drawn: Drawn, path: Path) -> None:
    """Write a PNG with its title, for what shows no SVG."""
    drawn.figure.suptitle(plain(drawn.alt, 90), x=0.012, ha="left", fontsize=9.5, fontweight="bold")
    drawn.figure.savefig(path, dpi=DPI, format="png", facecolor="white")


def _attributes(style: str) -> str:
    pairs = (part.split(":", 1) for part in style.split(";") if ":" in part)
    return "".join(f' {name.strip()}="{value.strip()}"' for name, value in pairs)


def _root(text: str, photographs: bool) -> str:
    """The `svg` element at the common width, with the defaults of lines, and the dark theme."""
    start = text.index("<svg")
    end = text.index(">", start)
    box = re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', text[start:end])
    width, height = (float(side) for side in box.groups()) if box else (72 * WIDTH, 72 * WIDTH)
    mapped = _DARK if photographs else {**_DARK, BLUE.lower(): "#4aa8e8"}
    dark = "".join(f'[fill="{a}"]{{fill:{b}}}[stroke="{a}"]{{stroke:{b}}}' for a, b in mapped.items())
    style = f"<style>@media (prefers-color-scheme: dark){{svg{{fill:{_DARK['#000000']}}}{dark}}}</style>"
    pixels = round(width / 72 * DPI)
    opening = (
        f'<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" width="{pixels}" '
        f'height="{round(height / 72 * DPI)}" viewBox="0 0 {width:g} {height:g}" stroke-linejoin="round" '
        f'stroke-linecap="butt">{style}'
    )
    return f"{opening}{text[end + 1 :]}"


def _rounded(encoded: str) -> str:
    """An embedded image with 256 colours at most: half as large."""
    image = Image.open(io.BytesIO(b64decode(encoded)))
    if image.mode == "RGBA" and image.getchannel("A").getextrema() != (255, 255):
        return encoded  # what is clear must stay so
    written = io.BytesIO()
    few = image.convert("RGB").quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    few.save(written, "PNG", optimize=True)
    return b64encode(written.getvalue()).decode()


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

    `across` the whole figure, below it, where long names at the left leave the axes too narrow for it.
    """
    settings: dict[str, Any] = {
        "ncols": columns, "frameon": False, "fontsize": FONT, "borderaxespad": 0.2, "handletextpad": 0.5,
        "columnspacing": 1.4,
    }  # fmt: skip
    figure = axes.get_figure(root=True)
    if across and figure is not None:
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", **settings)
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
