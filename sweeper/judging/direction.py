"""Direction of a metric: whether its name says that lower is better, as that of a loss, a distance or an error."""

from __future__ import annotations

import re

_LOWER = {
    *("loss", "losses", "error", "errors", "err", "mae", "mse", "rmse", "mape", "ece", "nll", "brier"),
    *("hd", "hausdorff", "asd", "assd", "masd", "distance", "distances", "voe", "fpr", "fnr"),
}
"""Words of names of which lower is better."""
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


def find_lower_word(metric: str) -> str | None:
    """Return the word of a metric's name that says that lower is better; None = it has none.

    Words end at capitals, digits and all that is no letter: `val_hd95`, `test/HD`, `valLoss`.
    """
    return next((word for word in _WORDS.findall(metric) if word.lower() in _LOWER), None)


def check_direction(metric: str, lower_is_better: bool | None) -> list[str]:
    """Return the problem of a metric that looks as if lower were better, where nothing says which way it goes."""
    word = find_lower_word(metric)
    if word is None or lower_is_better is not None:
        return []
    return [
        f"of {metric!r} it must be said whether lower is better, as {word!r} in a name mostly means it, got nothing; "
        "add --lower-is-better, or --higher-is-better where higher is better after all"
    ]
