"""The report's figures. Each is a function from `Facts` to what was drawn, or to the reason why it was not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sweeper.report.facts import Facts
from sweeper.report.figures.confusion import confusion
from sweeper.report.figures.finalists import curves, finalists, per_class_iou
from sweeper.report.figures.gain import gain
from sweeper.report.figures.images import Pixels, mosaic, predictions
from sweeper.report.figures.imbalance import imbalance
from sweeper.report.figures.operating_points import threshold
from sweeper.report.figures.reliability import reliability
from sweeper.report.figures.search import landscape, search
from sweeper.report.figures.style import Drawn, save_themed

FIGURES: dict[str, Callable[[Facts], Drawn | str]] = {
    "gain": gain,
    "finalists": finalists,
    "per_class_iou": per_class_iou,
    "threshold": threshold,
    "reliability": reliability,
    "curves": curves,
    "imbalance": imbalance,
    "search": search,
    "landscape": landscape,
}
"""Name of the file → what draws it."""
WITH_PIXELS: dict[str, Callable[[Facts, Pixels | None], Drawn | str]] = {
    "predictions": predictions,
    "mosaic": mosaic,
    "confusion": confusion,
}
"""The same of figures that need the decoded images."""


def draw_all(
    facts: Facts, folder: Path, pixels: Pixels | None, beat: Callable[[], None] = lambda: None
) -> dict[str, Drawn | str]:
    """Draw every figure into `folder` as NAME.svg; figures of an earlier report that are not drawn now are removed.

    `beat` is called before each, as a sign of life.

    Returns:
        For every name what was drawn, or why it was not, in words.

    Raises:
        OSError: if the folder or a file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    results: dict[str, Drawn | str] = {}
    for name in (*FIGURES, *WITH_PIXELS):
        beat()
        result = FIGURES[name](facts) if name in FIGURES else WITH_PIXELS[name](facts, pixels)
        for suffix in (".png", ".svg"):
            (folder / f"{name}{suffix}").unlink(missing_ok=True)
        if isinstance(result, Drawn):
            save_themed(result, folder / f"{name}.svg")
        results[name] = result
    return results


__all__ = ["FIGURES", "WITH_PIXELS", "Drawn", "Pixels", "draw_all"]
