"""One renderer and one look for every figure: transparent SVG that can be read on a light and on a dark ground.

Text, axes and data have colours of middle lightness, so that no style sheet is needed: what shows the file need not say
which theme it has. Names are drawn as shapes: the file holds no text, script or address.
"""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
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

from sweeper.core.records import IGNORE, FinalistEvidence, Interval
from sweeper.core.text import shorten
from sweeper.report.facts import ReportFacts
from sweeper.report.formatting import escape_md, format_signed_number, make_one_line

# Its list of fonts may be that of an environment which was deleted; what it falls back to is the font that is meant.
logging.getLogger("matplotlib.font_manager").setLevel(logging.ERROR)

steady_style = style.context(["default", {"svg.hashsalt": "sweeper", "svg.fonttype": "path"}])
"""Decorates whatever draws: a user's matplotlibrc changes no figure."""
WIDTH = 4.8
"""Inches; with DPI, 720 pixels. Narrow for its letters: on a telephone it is shown at half its size."""
DPI = 150
FONT = 8.5
"""Points; 18 pixels at DPI."""
SMALL = 7.5

INK = "#7B7B7F"
"""Text, axes and reference lines: as far from white as from the dark ground."""
# After Okabe and Ito's palette (Color Universal Design, 2008), its pale colours darkened.
BLUE, VERMILLION, GREEN, PURPLE, ORANGE = "#1F82C4", "#D55E00", "#009E73", "#C06A9A", "#B98500"
CHOSEN, RIVAL = BLUE, VERMILLION
"""The recommended loss and the one it is compared with have these colours in every figure."""
HIT, FALSE_ALARM, MISS = "#56B4E9", "#D55E00", "#F0E442"
"""Pixels of an answer; far apart for every kind of colour vision on a darkened photograph."""
OTHERS = (GREEN, PURPLE, ORANGE, INK)
MARKERS = ("o", "s", "^", "D", "v", "P")
BAND = 0.22
"""Opacity of a band or a grid behind the data, in the colour of what it belongs to."""


@dataclass(frozen=True)
class DrawnFigure:
    """A figure and what to see in it."""

    figure: Figure
    caption: str
    """Markdown; names are escaped already."""
    alt: str
    """Description in plain words: its title, and the text for those who cannot see it."""

    def format_markdown(self, name: str) -> str:
        """Markdown of the file NAME.svg in figures/, with the caption below."""
        title = escape_md(self.alt)
        return f"![{title}](figures/{name}.svg)\n\n**{title}.** {self.caption}"


def make_figure(height: float) -> Figure:
    """Return an empty figure of this height in inches, apart from pyplot's global state."""
    figure = Figure(figsize=(WIDTH, height), dpi=DPI, layout=ConstrainedLayoutEngine(w_pad=0.04, h_pad=0.05))
    FigureCanvasAgg(figure)
    return figure


@steady_style
def save_figure(drawn: DrawnFigure, path: Path) -> None:
    """Write the figure without ground and title, which is text below it. The same figure gives the same bytes.

    Raises:
        OSError: if the file cannot be written.
    """
    nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    drawn.figure.savefig(written := io.StringIO(), format="svg", transparent=True, metadata=nothing)
    width, height = (round(DPI * inches) for inches in drawn.figure.get_size_inches())
    text = re.sub(
        r'width="[\d.]+pt" height="[\d.]+pt"', f'width="{width}" height="{height}"', written.getvalue(), count=1
    )
    path.write_text(text, "utf-8")


def save_all(figures: Mapping[str, DrawnFigure | str], folder: Path) -> None:
    """Write each that was drawn as NAME.svg into the folder, which is made; all other figures in it go.

    Raises:
        OSError: if a file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.glob("*.svg"):
        path.unlink()
    for name, drawn in figures.items():
        if isinstance(drawn, DrawnFigure):
            save_figure(drawn, folder / f"{name}.svg")


def clean_axes(axes: Axes, grid: Literal["x", "y", "both"] = "x") -> Axes:
    """Quiet axes: two spines, a pale grid behind the data along `grid`, the common font size."""
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
    """A row of `draw_forest`: a difference, with its interval where there is one."""

    name: str
    colour: str
    value: Interval
    known: bool
    """Whether the interval says anything."""


def draw_forest(gaps: Sequence[GapRow], margin: float, label: str, digits: int = 3) -> Figure:
    """Differences with their intervals, the first at the top; the margin is a grey band around 0."""
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
    """Draw a legend of everything with a label, below the whole figure, where it covers nothing."""
    figure = axes.get_figure(root=True)
    if figure is not None:
        draw_legend_of(figure, axes.get_legend_handles_labels()[0])


def draw_legend_of(figure: Figure, entries: Sequence[Artist], title: str = "") -> None:
    """Draw a legend of these entries below the whole figure; a small one of patches."""
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
    """Text that matplotlib draws as it is: no mathematics from `$`, no missing glyphs, shortened in the middle."""
    drawn = "".join(c if ord(c) in _list_glyphs() else "?" for c in make_one_line(text))
    return re.sub(r"\$", r"\\$", shorten(drawn, longest))


def format_class_label(classes: Sequence[str], index: int) -> str:
    """Return a class's name for a figure; its number if the font has none of its letters."""
    name = escape_figure_text(classes[index])
    return name if re.search(r"\w", name.replace("?", "")) else f"class {index}"


def make_class_patches(
    classes: Sequence[str], colours: npt.NDArray[np.uint8], shown: Iterable[int], hatch: str | None = None
) -> list[Patch]:
    """Return a legend's entries for these labels, in their colours; 255 is "no label", hatched."""
    labels = sorted(shown)
    named = [
        Patch(color=tuple(colours[i] / 255), label=format_class_label(classes, i)) for i in labels if i < len(colours)
    ]
    return [*named, Patch(fc="white", ec=INK, label="no label", hatch=hatch)] if IGNORE in labels else named


def make_rgb(image: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    """(H, W, 3) of an image with one channel or three, as matplotlib takes it."""
    return np.broadcast_to(image, (*image.shape[:2], 3))


def make_palette(classes: int, ground: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> npt.NDArray[np.uint8]:
    """Colours (C, 3): class 0 that of the `ground` (0–1), then Okabe–Ito's, then the same ones darker and paler."""
    base = ["#E69F00", "#0072B2", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442"]
    colours = [ground]
    for index in range(max(0, classes - 1)):
        red, green, blue = to_rgb(base[index % 7])
        shade = (0.0, -0.45, 0.55)[min(2, index // 7)]
        mixed = [v + (1 - v) * shade if shade >= 0 else v * (1 + shade) for v in (red, green, blue)]
        colours.append((mixed[0], mixed[1], mixed[2]))
    result: npt.NDArray[np.uint8] = np.rint(np.array(colours) * 255).astype(np.uint8)
    return result


def assign_finalist_colours(facts: ReportFacts, finalists: Sequence[FinalistEvidence]) -> list[str]:
    """Return the recommended loss and its rival in their colours, the others in turn."""
    others = iter(OTHERS * (1 + len(finalists) // len(OTHERS)))
    return [CHOSEN if f is facts.chosen else RIVAL if f is facts.rival else next(others) for f in finalists]
