"""Mistakes in a table of scores that no single row shows: similar names, mixed units, failure codes."""

from __future__ import annotations

import re
import unicodedata

import pandas as pd

from sweeper.core.text import abbreviate_names, join_words
from sweeper.judging.rows import CELL, Rows

_BETWEEN_LETTERS = re.compile(r"(?<=[^\W\d_])[\s_-]+(?=[^\W\d_])")
_ENDINGS = re.compile(r"\.(nii\.gz|nii|nrrd|mha|tiff?|png|jpe?g|bmp|npy|npz)$")
_FOLDERS = re.compile(r".*[/\\]")
_LEADING_ZEROS = re.compile(r"(?<![\d.])0+(?=\d)")
_SEED_IN_NAME = r"(.+?)[\W_]+(?:seed|run|rep|trial|s)[\W_]*(\d+)$"
"""Method and seed in one name."""
_SUMMARIES = {
    *("mean", "average", "avg", "std", "sd", "median", "total", "all", "overall", "summary"),
    *("macro avg", "micro avg", "weighted avg", "foreground mean", "mean foreground", "miou", "mdice"),
}
"""Names of rows that summarise others; _ and - are matched as blanks."""
_BACKGROUND = {"background", "bg", "back ground"}
_CODES = (-1.0, -99.0, -999.0, -9999.0)
"""Numbers that mean "failed" if scores are from 0 to 1."""


def find_traps(rows: Rows, *, lower_is_better: bool) -> None:
    """Add the mistakes of a table whose columns could be read to its problems."""
    for key in ("method", "image", "class"):
        if key in rows.frame:
            _find_alike(rows, key)
            _find_summaries(rows, key)
    if rows.of_counts:
        return
    _find_codes(rows)
    if not lower_is_better:
        _find_mixed_units(rows)


def _find_alike(rows: Rows, key: str) -> None:
    """Find names that differ only in spelling; of images, if they differ by folders or zeros and no run has both."""
    names = pd.Series(rows.frame[key].unique())
    plain = names.map(_simplify_name)
    if key == "image":
        plain = names.map(lambda name: _LEADING_ZEROS.sub("", _simplify_name(_FOLDERS.sub("", name))))
    alike = names[plain.duplicated(keep=False)]
    if key == "image" and len(alike):
        code = rows.frame["image"].map(dict(zip(names, plain, strict=True)))
        others = [other for other in CELL if other != "image"]
        by = [rows.frame[other] for other in others if other in rows.frame]
        in_run = rows.frame.groupby([*by, code])["image"].transform("nunique")
        alike = alike[~plain[alike.index].isin(code[in_run > 1])]
    if len(alike):
        pairs = [join_words([*map(repr, group)]) for _, group in alike.groupby(plain[alike.index], sort=False)]
        rows.problems.append(
            f"each {key} must be written in one way, got {abbreviate_names(pairs)}; write them alike, or if they are "
            "not the same, with names that differ in more than case, blanks and endings (of images folders and zeros)"
        )


def _simplify_name(name: str) -> str:
    plain = _ENDINGS.sub("", unicodedata.normalize("NFKC", name).casefold().strip())
    return " ".join(_BETWEEN_LETTERS.sub("", plain).replace("_", " ").split())


def _find_summaries(rows: Rows, key: str) -> None:
    """Find rows that are a mean or total of the others."""
    names, title = rows.frame[key].unique().tolist(), rows.titles[key]
    summaries = [name for name in names if _normalise_words(name) in _SUMMARIES]
    if len(summaries) < len(names) and key != "method":
        rows.refuse(
            rows.frame[key].isin(summaries),
            f"each row must be of one {key}, and not a mean or sum of others, got {{got}}; leave them out, in pandas: "
            f"`table = table[~table[{title!r}].isin({summaries})]`",
            rows.frame[key],
        )


def _normalise_words(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name.casefold()).strip()


def _find_codes(rows: Rows) -> None:
    """Find a number that means "failed" among scores of 0 to 1."""
    scores = rows.frame[rows.metric]
    is_code, is_share = scores.isin(_CODES), scores.between(0, 1)
    rows.refuse(
        is_code & bool(is_share.any() and (is_code | is_share | scores.isna()).all()),
        "got {got}, as if it were a code of failure, where all other scores lie within 0 to 1; a run that failed gets "
        "the score that it is worth",
        scores,
    )


def _find_mixed_units(rows: Rows) -> None:
    """Find runs, or rows, with scores in 0–1 next to others in per cent, about 100 times as large."""
    scores = rows.frame[rows.metric]
    if not (scores.min() >= 0 and 1.5 < scores.max() <= 100):
        return
    by = [rows.frame[key] for key in ("method", "seed") if key in rows.frame]
    largest = scores.groupby(by).transform("max")
    above, between = scores[scores > 1], scores[(scores > 0) & (scores <= 1)]
    is_share = (largest <= 1) & (200 * largest >= scores[largest > 1].median())
    is_hundredth = 100 * between.min() >= above.min() and 100 * between.max() <= above.max()
    if is_hundredth and not is_share.any():
        is_share = scores.le(1) & scores.gt(0)
    if is_share.any():
        rows.refuse(
            is_share if 2 * is_share.sum() <= len(scores) else scores > 1,
            f"scores must have one unit, and not {scores[is_share].iloc[0]:g} next to {above.iloc[0]:g}, shares of 1 "
            "and per cent; multiply the ones by 100, or divide the others",
        )


def note_background(rows: Rows) -> list[str]:
    """Return a note if the background is one of several classes."""
    classes = rows.frame["class"].unique().tolist() if "class" in rows.frame else []
    names = [name for name in classes if _normalise_words(name) in _BACKGROUND]
    if not 0 < len(names) < len(classes):
        return []
    return [
        f"The class {names[0]!r} counts in the mean as each other class does. To judge without it, leave its rows out, "
        f"in pandas: `table = table[table[{rows.titles['class']!r}] != {names[0]!r}]`"
    ]


def note_seeds_in_names(rows: Rows) -> list[str]:
    """Return a note if the methods look like several trainings of fewer methods, `ce_s0` and `ce_s1`."""
    names = pd.Series(rows.frame["method"].unique())
    methods = names.str.extract(_SEED_IN_NAME)[0]
    end_in_seeds = not methods.isna().any() and methods.duplicated().any()
    if "seed" in rows.frame or not end_in_seeds:
        return []
    several = [repr(name) for name in names[methods.duplicated(keep=False)]]
    return [
        f"{abbreviate_names(several)} look like trainings of fewer methods, and are judged as methods. If they are, "
        f"give the seed a column, in pandas: `table[['method', 'seed']] = table[{rows.titles['method']!r}].str.extract("
        f"{_SEED_IN_NAME!r})`"
    ]
