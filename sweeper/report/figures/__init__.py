"""The report's figures. Each is a function from `Facts` to what was drawn, or to the reason why it was not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from sweeper.report.facts import Facts
from sweeper.report.figures.cost import cost
from sweeper.report.figures.finalists import curves, finalists, per_class_iou
from sweeper.report.figures.gain import gain
from sweeper.report.figures.images import Pixels, imbalance, predictions
from sweeper.report.figures.learning_rates import learning_rates
from sweeper.report.figures.operating_points import precision_recall, threshold
from sweeper.report.figures.search import landscape, search
from sweeper.report.figures.style import Drawn, save
from sweeper.report.figures.variance_components import spread

FIGURES: dict[str, Callable[[Facts], Drawn | str]] = {
    "gain": gain,
    "finalists": finalists,
    "per_class_iou": per_class_iou,
    "threshold": threshold,
    "precision_recall": precision_recall,
    "curves": curves,
    "learning_rates": learning_rates,
    "imbalance": imbalance,
    "search": search,
    "landscape": landscape,
    "spread": spread,
    "cost": cost,
}
"""Name of the file (without `.png`) → what draws it. `predictions` is drawn apart: it needs pixels."""


def draw_all(
    facts: Facts, folder: Path, pixels: Pixels | None, beat: Callable[[], None] = lambda: None
) -> dict[str, Drawn | str]:
    """Draw every figure into `folder` as NAME.png; figures of an earlier report that are not drawn now are removed.

    `beat` is called before each, as a sign of life.

    Returns:
        For every name what was drawn, or why it was not, in words.

    Raises:
        OSError: if the folder or a file cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    results: dict[str, Drawn | str] = {}
    for name in (*FIGURES, "predictions"):
        beat()
        result = predictions(facts, pixels) if name == "predictions" else FIGURES[name](facts)
        path = folder / f"{name}.png"
        if isinstance(result, Drawn):
            save(result.figure, path, 256 if name == "predictions" else None)
        else:
            path.unlink(missing_ok=True)
        results[name] = result
    return results


__all__ = ["FIGURES", "Drawn", "Pixels", "draw_all"]
