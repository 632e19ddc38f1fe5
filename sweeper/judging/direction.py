"""Direction of a metric: its name says that higher is better, as of an overlap, or the user is asked."""

from __future__ import annotations

import re

_LOWER = {
    *("loss", "losses", "error", "errors", "err", "mae", "mse", "rmse", "nmse", "mape", "ece", "nll", "brier"),
    *("hd", "hausdorff", "asd", "assd", "masd", "msd", "distance", "distances", "dist", "voe", "voi", "fpr", "fnr"),
    *("avd", "rvd", "diff", "difference", "gap", "drop", "std", "sd", "var", "variance", "deviation", "minus", "neg"),
    *("negative", "false", "perplexity", "entropy", "divergence", "uncertainty", "cost", "risk", "miss", "outlier"),
}
"""Words in names of metrics for which lower is mostly better."""
_HIGHER = re.compile(
    r"(?:\w*(?:iou|dice|acc|score)|jaccard|dsc|nsd|f|accuracy|precision|recall|sensitivity|specificity|quality"
    r"|auc|auroc|auprc|roc|m?ap|m?ar|[psr]q|oa|mcc|kappa|tpr|tnr|ppv|npv|psnr|ssim|similarity|overlap|agreement"
    r"|correlation)s?"
)
"""Words in names of metrics for which higher is better."""
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")


def find_lower_word(metric: str) -> str | None:
    """Return the word in a metric's name by which lower is better; None if there is none.

    Words end at capitals, digits and any non-letter: `val_hd95`, `test/HD`, `valLoss`.
    """
    return next((word for word in _WORDS.findall(metric) if word.lower() in _LOWER), None)


def is_higher_better(metric: str) -> bool:
    """Return whether a metric's name says that higher is better: `val_mIoU`, `test/f1`; not `1 - dice`."""
    words = [*_WORDS.findall(metric), *re.findall(r"[^\W\d_]+", metric)]
    is_complement = re.match(r"1\W", metric) is not None
    is_lower = is_complement or find_lower_word(metric) is not None
    return not is_lower and any(_HIGHER.fullmatch(word.lower()) for word in words)


def check_direction(metric: str, lower_is_better: bool | None) -> list[str]:
    """Return the problem of a metric whose direction is neither given nor in its name."""
    if lower_is_better is not None or is_higher_better(metric):
        return []
    word = find_lower_word(metric) or "no word"
    return [
        f"of {metric!r} it must be said whether lower is better, got {word!r} in its name, and no IoU, Dice, F1 or "
        "like; add --lower-is-better or --higher-is-better"
    ]
