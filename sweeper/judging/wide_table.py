"""Tables with a column of scores for each method, seed, fold, image or class: the pandas code that makes them long."""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NamedTuple

from sweeper.judging.direction import find_lower_word

_NUMBERED = re.compile(r"(?P<before>.*?)(?P<separator>[\W_]*)\d+")
_SEPARATOR = re.compile(r"[\W_]+")
_KINDS = {
    "seed": {"seed", "s", "run", "trial", "rep", "repeat", "repetition", "training"},
    "fold": {"fold", "cv", "split"},
    "image": {"image", "img", "im"},
    "class": {"class", "label"},
}
"""Key → words before the number in the names of its columns."""
_METRICS = re.compile(
    r"score|m?dice|dsc|m?iou|jaccard|f1|acc|accuracy|nsd|precision|recall|sensitivity|specificity", re.IGNORECASE
)
MOST_COLUMNS = 50
"""Most columns that the suggested code lists."""


class _WideColumns(NamedTuple):
    key: str
    """Key of which each column has one value: `method`, `seed`, `fold`, `image` or `class`."""
    metric: str
    """Metric in their names; empty = none."""
    names: list[str]


def suggest_melt(
    columns: Mapping[str, Sequence[Any]], free: Sequence[str], keys: Collection[str], metric: str | None
) -> str:
    """Suggest after a semicolon how to make a wide table long; empty if it is not wide.

    Args:
        columns: with the names of the input.
        free: numeric columns that are no keys.
        keys: those of method, seed, fold, image, group and class that have a column.
        metric: requested name of the scores; None = none.
    """
    if "method" in keys:
        wide = _find_numbered(free, keys) or _find_by_metric(free)
    else:
        wide = None if all(map(_is_metric, free)) else _WideColumns("method", "", list(free))
    if wide is None or not 2 <= len(wide.names) <= MOST_COLUMNS or wide.key in keys:
        return ""
    value = metric or wide.metric or "score"
    value = "score" if value in columns else value
    ids = [name for name in columns if name not in wide.names]
    code = f"table = table.melt({ids!r}, {wide.names!r}, {wide.key!r}, {value!r})"
    if wide.key == "class" and any(str(cell) in ("", "None", "nan") for name in wide.names for cell in columns[name]):
        code += f".dropna(subset=[{value!r}])"
    option = f", and --metric {shlex.quote(value)} names the scores" if value not in ("score", metric) else ""
    return f"; if each column is of one {wide.key}, pandas makes a row of each score: `{code}`{option}"


def _find_numbered(names: Sequence[str], keys: Collection[str]) -> _WideColumns | None:
    """Find columns like `seed0`, `dice_fold_1` or `3`; return the largest group of one kind."""
    groups: dict[tuple[str, str], list[str]] = {}
    for name in names:
        if match := _NUMBERED.fullmatch(name.strip()):
            *metric, word = _SEPARATOR.split(match["before"])
            key = next((key for key, words in _KINDS.items() if word.casefold() in words), "")
            if not word or (match["separator"] and _is_metric(word)):  # 3, dice_3
                key, metric = "class" if "seed" in keys else "seed", [*metric, word]
            if key:
                groups.setdefault((key, "_".join(filter(None, metric))), []).append(name)
    several = [_WideColumns(key, metric, group) for (key, metric), group in groups.items() if len(group) > 1]
    return max(several, key=lambda each: len(each.names), default=None)


def _find_by_metric(names: Sequence[str]) -> _WideColumns | None:
    """Find columns like `dice_liver` and `dice_tumor`, or `liver_dice`; return the largest group of one metric."""
    groups: dict[str, list[str]] = {}
    for name in names:
        words = _SEPARATOR.split(name.strip())
        if len(words) < 2:
            continue
        for metric, others in ((words[0], words[1:]), (words[-1], words[:-1])):
            if _is_metric(metric) and not any(map(_is_metric, others)):
                groups.setdefault(metric, []).append(name)
    several = [_WideColumns("class", metric, group) for metric, group in groups.items() if len(group) > 1]
    return max(several, key=lambda each: len(each.names), default=None)


def _is_metric(word: str) -> bool:
    return bool(_METRICS.fullmatch(word)) or find_lower_word(word) is not None
