"""One renderer and one style for every figure: transparent SVG, legible on light and dark backgrounds.

Text, axes and data have colours of middle lightness, so that no style sheet for the viewer's theme is needed. Text is
drawn as shapes: the file has no text, script or address.
"""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import cycle
from pathlib import Path
from typing import Literal, NamedTuple

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib import style
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Patch

from sweeper.core.records import IGNORE, Interval
from sweeper.core.text import shorten
from sweeper.report.facts import ReportFacts
from sweeper.report.formatting import escape_md, format_signed_number, make_one_line

# matplotlib's font list may come from a deleted environment; its fallback is the wanted font, so hide the warnings.
logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)

steady_style = style.context(["default", {"svg.hashsalt": "sweeper", "svg.fonttype": "path"}])
"""Decorator of drawing functions, so that a user's matplotlibrc has no effect."""
WIDTH = 4.8
"""Inches; with DPI, 720 pixels. Letters are large for this width, because a telephone halves the figure's size."""
DPI = 150
FONT = 8.5
"""Points; 18 pixels at DPI."""
SMALL = 7.5

INK = "#7B7B7F"
"""Text, axes and reference lines: equal contrast to white and to the dark background."""
# From Okabe and Ito's palette (Color Universal Design, 2008), pale colours darkened.
BLUE, VERMILLION, GREEN, PURPLE, ORANGE = "#1F82C4", "#D55E00", "#009E73", "#C06A9A", "#B98500"
CHOSEN, RIVAL = BLUE, VERMILLION
"""Colours of the recommended loss and its rival in every figure."""
HIT, FALSE_ALARM, MISS = "#56B4E9", "#D55E00", "#F0E442"
"""Colours of predicted pixels, distinct for every kind of colour vision on a darkened photograph."""
OTHERS = (GREEN, PURPLE, ORANGE, INK)
MARKERS = ("o", "s", "^", "D", "v", "P")
BAND = 0.22
"""Opacity of a band or grid behind the data, in the data's colour."""


@dataclass(frozen=True)
class DrawnFigure:
    """A figure with its caption and description."""

    figure: Figure
    caption: str
    """Markdown with escaped names."""
    alt: str
    """Description in plain words: the title, and the alternative text."""

    def format_markdown(self, name: str) -> str:
        """Format the file NAME.svg in figures/ as markdown, with the caption below."""
        title = escape_md(self.alt)
        return f"![{title}](figures/{name}.svg)\n\n**{title}.** {self.caption}"


def make_figure(height: float) -> Figure:
    """Create an empty figure of this height in inches, without pyplot's global state."""
    figure = Figure(figsize=(WIDTH, height), dpi=DPI, layout=ConstrainedLayoutEngine(w_pad=0.04, h_pad=0.05))
    FigureCanvasAgg(figure)
    return figure


@steady_style
def save_figure(drawn: DrawnFigure, path: Path) -> None:
    """Write the figure without background and title (the caption has it). The same figure gives the same bytes."""
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    drawn.figure.savefig(written := io.StringIO(), format="svg", transparent=True, metadata=nothing)
    width, height = (round(DPI * inches) for inches in drawn.figure.get_size_inches())
    text = re.sub(
        r'width="[\d.]+pt" height="[\d.]+pt"', f'width="{width}" height="{height}"', written.getvalue(), count=1
    )
    path.write_text(text, "utf-8")


def save_all(figures: Mapping[str, DrawnFigure | str], folder: Path) -> None:
    """Write each drawn figure as NAME.svg into the folder, which is created, and delete its other figures."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob("*.svg"):
        path.unlink()
    for name, drawn in figures.items():
        if isinstance(drawn, DrawnFigure):
            save_figure(drawn, folder / f"{name}.svg")


def clean_axes(axes: Axes, grid: Literal["x", "y", "both"] = "x") -> Axes:
    """Style the axes: two spines, a pale grid behind the data along `grid`, the common font size."""
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(INK)
    axes.tick_params(labelsize=FONT, color=INK, labelcolor=INK)
    for label in (axes.xaxis.label, axes.yaxis.label):
        label.set(fontsize=FONT, color=INK)
    axes.grid(visible=True, axis=grid, color=INK, alpha=BAND, lw=0.7)
    axes.set_axisbelow(True)
    return axes


class GapRow(NamedTuple):
    """A row of `draw_forest`: a difference, with its interval if any."""

    name: str
    colour: str
    value: Interval
    known: bool
    """Whether the interval is known."""


def draw_forest(gaps: Sequence[GapRow], margin: float, label: str, digits: int = 3) -> Figure:
    """Draw differences with their intervals, the first at the top; the margin is a grey band around 0."""
    figure = make_figure(0.6 + 0.36 * len(gaps))
    axes = clean_axes(figure.add_subplot())
    axes.axvspan(-margin, margin, color=INK, alpha=BAND, lw=0, zorder=0)
    axes.axvline(0, color=INK, lw=1, zorder=1)
    for row, gap in enumerate(gaps):
        if gap.known:
            ends = [gap.value.low, gap.value.high]
            axes.plot(ends, [row, row], color=gap.colour, lw=2.2, solid_capstyle="butt", zorder=2)
        axes.plot(gap.value.estimate, row, "o", color=gap.colour, ms=7, zorder=3)
        number = format_signed_number(gap.value.estimate, digits)
        axes.annotate(number, (gap.value.estimate, row), xytext=(0, 6), ha="center",
                      textcoords="offset points", fontsize=SMALL, color=INK)  # fmt: skip
    axes.set_yticks(range(len(gaps)), labels=[escape_figure_text(gap.name) for gap in gaps])
    axes.set_ylim(len(gaps) - 0.5, -0.6)
    axes.margins(x=0.06)
    axes.set_xlabel(label)
    return figure


def draw_legend(axes: Axes) -> None:
    """Draw a legend of all labelled elements below the figure."""
    figure = axes.get_figure(root=True)
    if figure is not None:
        draw_legend_of(figure, axes.get_legend_handles_labels()[0])


def draw_legend_of(figure: Figure, entries: Sequence[Artist], title: str = "") -> None:
    """Draw a legend of these entries below the figure; with a smaller font for patches."""
    size = SMALL if all(isinstance(entry, Patch) for entry in entries) else FONT
    figure.legend(
        handles=entries,
        loc="outside lower center",
        ncols=3,
        frameon=False,
        fontsize=size,
        labelcolor=INK,
        handletextpad=0.5,
        columnspacing=1.4,
        title=title,
        title_fontproperties={"size": size},
    )


@cache
def _list_glyphs() -> frozenset[int]:
    font = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    return frozenset(FT2Font(str(font)).get_charmap())


def escape_figure_text(text: str, longest: int = 26) -> str:
    """Escape a text for matplotlib: no mathematics from `$`, no missing glyphs, shortened in the middle."""
    drawn = "".join(c if ord(c) in _list_glyphs() else "?" for c in make_one_line(text))
    return re.sub(r"\$", r"\\$", shorten(drawn, longest))


def format_class_label(classes: Sequence[str], index: int) -> str:
    """Return a class's name for a figure; its number if the font lacks all its letters."""
    name = escape_figure_text(classes[index])
    return name if re.search(r"\w", name.replace("?", "")) else f"class {index}"


def make_class_patches(
    classes: Sequence[str], colours: npt.NDArray[np.uint8], shown: Iterable[int], hatch: str | None = None
) -> list[Patch]:
    """Make a legend's entries for these labels, in their colours; 255 is "no label", hatched."""
    labels = sorted(shown)
    named = [
        Patch(color=tuple(colours[i] / 255), label=format_class_label(classes, i)) for i in labels if i < len(colours)
    ]
    return [*named, Patch(fc="white", ec=INK, label="no label", hatch=hatch)] if IGNORE in labels else named


def make_rgb(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """Return an image with one or three channels as (H, W, 3) for matplotlib."""
    return np.broadcast_to(image, (*image.shape[:2], 3))


def make_palette(classes: int, ground: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> npt.NDArray[np.uint8]:
    """Return colours (C, 3): `ground` (0–1) for class 0, then Okabe–Ito's, then these darker and paler."""
    base = ["#E69F00", "#0072B2", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442"]
    colours = [ground]
    for index in range(max(0, classes - 1)):
        red, green, blue = to_rgb(base[index % 7])
        shade = (0.0, -0.45, 0.55)[min(2, index // 7)]
        mixed = [v + (1 - v) * shade if shade >= 0 else v * (1 + shade) for v in (red, green, blue)]
        colours.append((mixed[0], mixed[1], mixed[2]))
    result: npt.NDArray[np.uint8] = np.rint(np.array(colours) * 255).astype(np.uint8)
    return result


def assign_finalist_colours(facts: ReportFacts) -> dict[str, str]:
    """Return each finalist's colour by family: fixed for the recommended loss and its rival, for the others in turn."""
    others = cycle(OTHERS)
    return {
        f.family: CHOSEN if f is facts.chosen else RIVAL if f is facts.rival else next(others) for f in facts.finalists
    }
