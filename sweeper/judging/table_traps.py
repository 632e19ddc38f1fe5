"""Mistakes in a table of scores that no single row shows: similar names, mixed units, failure codes."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence

import numpy as np
import numpy.typing as npt

from sweeper.core.text import join_words
from sweeper.evidence.intervals import Floats
from sweeper.judging.rows import Rows, abbreviate_names, format_rows

_BETWEEN_LETTERS = re.compile(r"(?<=[^\W\d_])[\s_-]+(?=[^\W\d_])")
_ENDINGS = re.compile(r"\.(nii\.gz|nii|nrrd|mha|tiff?|png|jpe?g|bmp|npy|npz)$")
_LEADING_ZEROS = re.compile(r"(?<![\d.])0+(?=\d)")
_SEED_IN_NAME = r"(.+?)[\W_]+(?:seed|run|rep|trial|s)[\W_]*(\d+)$"
"""Method and seed in one name."""
_SUMMARIES = {
    *("mean", "average", "avg", "std", "sd", "median", "total", "all", "overall", "summary"),
    *("macro avg", "micro avg", "weighted avg", "foreground mean", "mean foreground", "miou", "mdice"),
}
"""Names of rows that summarise others; _ and - are matched as blanks."""
_BACKGROUND = {"background", "bg", "back ground"}
LEARNED_IOU = 0.05
"""Highest IoU of a class that counts as not learned."""
_CODES = (-1.0, -99.0, -999.0, -9999.0)
"""Numbers that mean "failed" if scores are from 0 to 1."""


def find_traps(rows: Rows, *, lower_is_better: bool) -> Iterator[str]:
    """Yield the mistakes of a table whose columns could be read."""
    for key in ("method", "image", "class"):
        if key in rows.keys:
            alike = _find_alike_images(rows) if key == "image" else find_alike(rows.keys[key].tolist())
            yield from describe_alike(key, alike)
    for key, texts, least in (("image", rows.plain_images, 2), ("class", rows.keys.get("class"), 1)):
        if texts is not None:
            yield from _find_summaries(rows, key, texts, least)
    if not rows.of_counts:
        yield from _find_codes(rows.numbers[0])
        if not lower_is_better:
            yield from find_mixed_units(rows.numbers[0], _number_runs(rows))


def _find_summaries(rows: Rows, key: str, names: npt.NDArray[np.str_], least: int) -> Iterator[str]:
    """Yield that rows are a mean or total of the others, if at least `least` images, or classes, remain."""
    distinct = list(dict.fromkeys(names.tolist()))
    summaries = [name for name in distinct if _normalise_words(name) in _SUMMARIES]
    if summaries and len(distinct) - len(summaries) >= least:
        which = np.flatnonzero(np.isin(names, summaries))
        yield (
            f"{format_rows(which)}: each row must be of one {key}, got {summaries[0]!r}, which looks like a summary of "
            f"others; leave them out, in pandas: `table = table[~table[{rows.key_titles[key]!r}].isin({summaries})]`"
        )


def note_background(rows: Rows) -> list[str]:
    """Return a note if the background is one of several classes."""
    distinct = list(dict.fromkeys(rows.keys["class"].tolist())) if "class" in rows.keys else []
    names = [name for name in distinct if _normalise_words(name) in _BACKGROUND]
    if not names or len(names) == len(distinct):
        return []
    return [
        f"The class {names[0]!r} counts in the mean as each other class does. To judge without it, leave its rows out, "
        f"in pandas: `table = table[table[{rows.key_titles['class']!r}] != {names[0]!r}]`"
    ]


def note_seeds_in_names(rows: Rows) -> list[str]:
    """Return a note if the methods look like several trainings of fewer methods, `ce_s0` and `ce_s1`."""
    methods = list(dict.fromkeys(rows.keys["method"].tolist()))
    matches = [re.match(_SEED_IN_NAME, name) for name in methods]
    groups = [match[1] for match in matches if match]
    several = [name for name, match in zip(methods, matches, strict=True) if match and groups.count(match[1]) > 1]
    if "seed" in rows.keys or len(groups) < len(methods) or not several:
        return []
    return [
        f"{abbreviate_names([*map(repr, several)])} look like trainings of fewer methods, and are judged as methods. "
        "If they are, give the seed a column, in pandas: `table[['method', 'seed']] = "
        f"table[{rows.key_titles['method']!r}].str.extract({_SEED_IN_NAME!r})`"
    ]


def note_unlearned(names: Sequence[str]) -> list[str]:
    """Return a note on classes that no run learned."""
    if not names:
        return []
    return [
        f"No run learned {join_words(names)} (the IoU is at most {LEARNED_IOU:g}): nothing is known about how the "
        "methods treat them; train longer."
    ]


def _normalise_words(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name.casefold()).strip()


def find_alike(names: Sequence[str]) -> list[tuple[str, ...]]:
    """Find names that differ only by case, blanks, _ or - between letters, or a file extension."""
    by_plain: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        by_plain.setdefault(_simplify_name(name), []).append(name)
    return [tuple(each) for each in by_plain.values() if len(each) > 1]


def _simplify_name(name: str) -> str:
    plain = _ENDINGS.sub("", unicodedata.normalize("NFKC", name).casefold().strip())
    return " ".join(_BETWEEN_LETTERS.sub("", plain).replace("_", " ").split())


def _find_alike_images(rows: Rows) -> list[tuple[str, ...]]:
    """Find images whose names differ as above, by folders or leading zeros, unless a run has two of them."""
    names, image = np.unique(rows.keys["image"], return_inverse=True)
    last_parts = [re.split(r"[/\\]", name)[-1] for name in names.tolist()]
    simple_names = [_LEADING_ZEROS.sub("", _simplify_name(part)) for part in last_parts]
    simple_name, count = np.unique(simple_names, return_inverse=True, return_counts=True)[1:]
    of_run = _number_runs(rows, ("method", "seed", "class")) * len(count) + simple_name[image]
    of_run, times = np.unique(np.unique(of_run * len(names) + image) // len(names), return_counts=True)
    alike = np.setdiff1d(np.flatnonzero(count > 1), of_run[times > 1] % len(count))
    return [tuple(names[simple_name == one].tolist()) for one in alike]


def describe_alike(key: str, alike: Sequence[tuple[str, ...]]) -> Iterator[str]:
    """Yield the problem of such names."""
    if alike:
        what, more = ("a test image", ", folders and zeros") if key == "image" else (f"a {key}", "")
        pairs = abbreviate_names([join_words([*map(repr, pair)]) for pair in alike])
        yield (
            f"the name of {what} must be written in one way, got {pairs}; write them alike, or where they are not the "
            f"same, with names that differ in more than case, blanks, endings{more}"
        )


def _find_codes(scores: Floats) -> Iterator[str]:
    finite_scores = scores[np.isfinite(scores)]
    is_code = np.isin(scores, _CODES)
    rest = finite_scores[~np.isin(finite_scores, _CODES)]
    if is_code.any() and len(rest) and rest.min() >= 0 and rest.max() <= 1:
        yield (
            f"{format_rows(np.flatnonzero(is_code))}: got {scores[is_code][0]:g} where all other scores lie within 0 "
            "to 1, which looks like a code of failure; a run that failed gets the score that it is worth"
        )


def _number_runs(rows: Rows, keys: Sequence[str] = ("method", "seed")) -> npt.NDArray[np.intp]:
    of_run = np.zeros(rows.numbers.shape[1], dtype=np.intp)
    for key in keys:
        if key in rows.keys:
            names, code = np.unique(rows.keys[key], return_inverse=True)
            of_run = of_run * len(names) + code
    return of_run


def find_mixed_units(scores: Floats, of_run: npt.NDArray[np.intp]) -> Iterator[str]:
    """Yield that some runs, or rows, have scores in 0–1 and others in per cent, about 100 times as large.

    Args:
        scores: (rows,); higher is better.
        of_run: (rows,) number of the run of each.
    """
    finite_scores = scores[np.isfinite(scores)]
    if not len(finite_scores) or finite_scores.min() < 0 or not 1.5 < finite_scores.max() <= 100:
        return
    is_share = np.zeros(len(scores), dtype=bool)
    largest = np.full(of_run.max() + 1, -np.inf)
    finite = np.flatnonzero(np.isfinite(scores))
    np.maximum.at(largest, of_run[finite], scores[finite])
    if (largest > 1).any() and (largest <= 1).any():
        others = np.median(scores[finite][largest[of_run[finite]] > 1])
        is_share = (largest[of_run] <= 1) & (100 * largest[of_run] >= others / 2)
    if not is_share.any():
        between = (scores > 0) & (scores <= 1)
        above = finite_scores[finite_scores > 1]
        if between.any() and 100 * scores[between].min() >= above.min() and 100 * scores[between].max() <= above.max():
            is_share = between
    if is_share.any():
        small, large = scores[is_share][0], finite_scores[finite_scores > 1][0]
        fewer = is_share if 2 * is_share.sum() <= len(scores) else np.isfinite(scores) & (scores > 1)
        yield (
            f"{format_rows(np.flatnonzero(fewer))}: scores must have one unit, got {small:g} next to {large:g}, shares "
            "of 1 and per cent; multiply the ones by 100, or divide the others"
        )
