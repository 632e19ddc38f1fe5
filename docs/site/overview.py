"""The home page's picture, from the table in docs/transfer.md: gains in the study, and in a larger training.

python docs/site/overview.py        # writes reports/overview-*.svg; part of `make docs`
"""

from __future__ import annotations

import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

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

ROOT = Path(__file__).resolve().parents[2]
MARGIN = 0.01
INKS = {"light": "#59636e", "dark": "#9198a1"}
"""Text and axes on a ground of that kind; a contrast of 6.1 on GitHub's white and of 6.5 on its black."""
WIDTHS = {"wide": 8.0, "narrow": 3.2}
"""Inches: on a screen, and in the 324 pixels that GitHub leaves on a telephone."""
AGAIN = "the same"
"""Beginning of a row about the set of the row before, in a longer training."""
_GAIN = re.compile(r"([+−][\d.]+)(?: \[([+−][\d.]+), ([+−][\d.]+)\])?")


class Gain(NamedTuple):
    """A gain over cross-entropy, in mIoU; its ends are None where there is no interval."""

    estimate: float
    low: float | None
    high: float | None


class SetRow(NamedTuple):
    """What a study of a set answered, and what is left of it in a realistic training."""

    name: str
    answer: str
    study: Gain | None
    realistic: Gain


def main() -> None:
    """Write the picture for each width and ground."""
    for name, text in draw_all().items():
        (ROOT / "reports" / name).write_text(text, "utf-8")


def draw_all() -> dict[str, str]:
    """Return name → SVG of each version of the picture."""
    rows, drawn = read_rows((ROOT / "docs" / "transfer.md").read_text("utf-8")), {}
    with TemporaryDirectory() as folder:
        path = Path(folder) / "figure.svg"
        for width in WIDTHS:
            save_figure(DrawnFigure(draw(rows, width), "", ""), path)
            for ground, ink in INKS.items():
                drawn[f"overview-{width}-{ground}.svg"] = path.read_text("utf-8").replace(INK.lower(), ink)
    return drawn


def read_rows(text: str) -> list[SetRow]:
    """Return the rows of the first table; of several realistic trainings of a set, that of the longest."""
    rows: list[SetRow] = []
    for line in re.findall(r"^\|(.+)\|$", text.partition("| set |")[2].partition("\n\n")[0], re.MULTILINE)[1:]:
        name, answer, study, realistic, _ = (cell.strip() for cell in line.split("|"))
        gain = _read_gain(realistic)
        if gain is None:
            raise SystemExit(f"the row of {name} must have a realistic gain, got {realistic!r}")
        if name.startswith(AGAIN):
            rows[-1] = rows[-1]._replace(realistic=gain)
        else:
            rows.append(SetRow(name, answer.replace("`", "").partition(":")[0], _read_gain(study), gain))
    return rows


def _read_gain(cell: str) -> Gain | None:
    match = _GAIN.search(cell)
    if match is None:
        return None
    numbers = [None if part is None else float(part.replace("−", "-")) for part in match.groups()]
    return Gain(numbers[0] or 0.0, numbers[1], numbers[2])


def draw(rows: list[SetRow], width: str) -> Figure:
    """Draw a line for each set: the gain in the study, and below it the one in the realistic training."""
    figure = make_figure(0.33 * len(rows) + 1.1)
    figure.set_figwidth(WIDTHS[width])
    axes = figure.add_subplot()
    clean_axes(axes)
    axes.axvspan(-MARGIN, MARGIN, color=INK, alpha=BAND, lw=0, zorder=0)
    axes.axvline(0, color=INK, lw=1, zorder=1)
    for place, row in enumerate(rows):
        if row.study is not None:
            _draw_gain(axes, row.study, place - 0.16, CHOSEN, "o")
        _draw_gain(axes, row.realistic, place + 0.16, RIVAL, "D")
    names = [row.name if width == "narrow" else f"{row.name}: {row.answer}" for row in rows]
    axes.set_yticks(range(len(rows)), labels=names)
    axes.set_ylim(len(rows) - 0.5, -0.5)
    axes.set_xlabel("mIoU over cross-entropy")
    shapes = {"in the study": (CHOSEN, "o"), "in a larger, longer training": (RIVAL, "D")}
    figure.legend(
        handles=[Line2D([], [], color=colour, marker=marker, label=name) for name, (colour, marker) in shapes.items()],
        loc="outside lower center",
        ncols=2 if width == "wide" else 1,
        frameon=False,
        fontsize=FONT,
        labelcolor=INK,
    )
    return figure


def _draw_gain(axes: Axes, gain: Gain, place: float, colour: str, marker: str) -> None:
    if gain.low is not None and gain.high is not None:
        axes.plot([gain.low, gain.high], [place, place], color=colour, lw=2, solid_capstyle="butt")
    axes.plot(gain.estimate, place, marker, color=colour, ms=5)


if __name__ == "__main__":
    main()
