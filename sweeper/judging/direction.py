"""Direction of a metric: does its name say that lower is better, as for a loss, a distance or an error?"""

from __future__ import annotations

import re

_LOWER = {
    *("loss", "losses", "error", "errors", "err", "mae", "mse", "rmse", "mape", "ece", "nll", "brier"),
    *("hd", "hausdorff", "asd", "assd", "masd", "distance", "distances", "voe", "fpr", "fnr"),
}
"""Words in names of metrics for which lower is better."""
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


def find_lower_word(metric: str) -> str | None:
    """Return the word in a metric's name by which lower is better; None if there is none.

    Words end at capitals, digits and any non-letter: `val_hd95`, `test/HD`, `valLoss`.
    """
    return next((word for word in _WORDS.findall(metric) if word.lower() in _LOWER), None)


def check_direction(metric: str, lower_is_better: bool | None) -> list[str]:
    """Return the problem of a metric whose name suggests that lower is better while its direction is not given."""
    word = find_lower_word(metric)
    if word is None or lower_is_better is not None:
        return []
    return [
        f"of {metric!r} it must be said whether lower is better, as {word!r} in a name mostly means it, got nothing; "
        "add --lower-is-better, or --higher-is-better where higher is better after all"
    ]
