"""The report's figures: functions from `ReportFacts` to a drawn figure, or the reason for none.

To add one, write a function in a module here, and add its line to `FIGURES`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

from sweeper.report.facts import ReportFacts
from sweeper.report.figures.classes import draw_classes
from sweeper.report.figures.images import draw_predictions
from sweeper.report.figures.operating_points import draw_threshold
from sweeper.report.figures.style import DrawnFigure, save_all, steady_style

Section = Literal["answer", "finalists", "detail"]
"""Place of a figure in the report: below the answer, next to the losses, or folded. The template shows all figures of a
section, in the order of `FIGURES`."""


class ReportFigure(NamedTuple):
    """A figure's function and its place."""

    draw: Callable[[ReportFacts], DrawnFigure | str]
    section: Section


FIGURES: dict[str, ReportFigure] = {
    "classes": ReportFigure(draw_classes, "answer"),
    "predictions": ReportFigure(draw_predictions, "finalists"),
    "threshold": ReportFigure(draw_threshold, "detail"),
}
"""Name of the file → the figure."""


@steady_style
def draw_all(
    facts: ReportFacts, folder: Path, report_alive: Callable[[], None] = lambda: None
) -> dict[str, DrawnFigure | str]:
    """Draw every figure into `folder` as NAME.svg, replacing those of an earlier report.

    `report_alive` is called before each, as a heartbeat.

    Returns:
        Name → the drawn figure, or the reason for none, in words.
    """
    results: dict[str, DrawnFigure | str] = {}
    for name, figure in FIGURES.items():
        report_alive()
        results[name] = figure.draw(facts)
    save_all(results, folder)
    return results


__all__ = ["FIGURES", "DrawnFigure", "ReportFigure", "draw_all"]
