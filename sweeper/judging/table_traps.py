"""Mistakes in a table of scores that no single row shows: similar names, mixed units, failure codes."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence

import pandas as pd

from sweeper.core.text import abbreviate_names, join_words
from sweeper.judging.rows import Rows

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
LEARNED_IOU = 0.05
"""Highest IoU of a class that counts as not learned."""
_CODES = (-1.0, -99.0, -999.0, -9999.0)
"""Numbers that mean "failed" if scores are from 0 to 1."""


def find_traps(rows: Rows, *, lower_is_better: bool) -> Iterator[str]:
    """Yield the mistakes of a table whose columns could be read."""
    for key in ("method", "image", "class"):
        if key in rows.frame:
            yield from _find_alike(rows.frame, key)
            yield from _find_summaries(rows, key)
    if not rows.of_counts:
        scores = rows.frame[rows.metric].dropna()
        yield from _find_codes(rows, scores)
        if not lower_is_better:
            by = [rows.frame[key] for key in ("method", "seed") if key in rows.frame]
            yield from _find_mixed_units(
                rows, scores, scores.groupby([names[scores.index] for names in by]).transform("max")
            )


def _find_alike(frame: pd.DataFrame, key: str) -> Iterator[str]:
    """Yield names that differ only in spelling; of images, if they differ by folders or zeros and no run has both."""
    names = pd.Series(frame[key].unique())
    plain = names.map(_simplify_name)
    if key == "image":
        plain = names.map(lambda name: _LEADING_ZEROS.sub("", _simplify_name(_FOLDERS.sub("", name))))
    alike = names[plain.duplicated(keep=False)]
    if key == "image" and len(alike):
        code = frame["image"].map(dict(zip(names, plain, strict=True)))
        by = [frame[other] for other in ("method", "seed", "class") if other in frame]
        in_run = frame.groupby([*by, code])["image"].transform("nunique")
        alike = alike[~plain[alike.index].isin(code[in_run > 1])]
    if len(alike):
        pairs = [join_words([*map(repr, group)]) for _, group in alike.groupby(plain[alike.index], sort=False)]
        yield (
            f"each {key} must be written in one way, got {abbreviate_names(pairs)}; write them alike, or if they are "
            "not the same, with names that differ in more than case, blanks and endings (of images folders and zeros)"
        )


def _simplify_name(name: str) -> str:
    plain = _ENDINGS.sub("", unicodedata.normalize("NFKC", name).casefold().strip())
    return " ".join(_BETWEEN_LETTERS.sub("", plain).replace("_", " ").split())


def _find_summaries(rows: Rows, key: str) -> Iterator[str]:
    """Yield that rows are a mean or total of the others."""
    names = rows.frame[key].unique().tolist()
    summaries = [name for name in names if _normalise_words(name.rpartition("/")[2]) in _SUMMARIES]
    if 0 < len(summaries) < len(names) and key != "method":
        which, title = rows.frame.index[rows.frame[key].isin(summaries)], rows.titles[key]
        yield (
            f"{rows.format_rows(which)}: each row must be of one {key}, got {summaries[0]!r}, which looks like a "
            f"summary of others; leave them out, in pandas: `table = table[~table[{title!r}].isin({summaries})]`"
        )


def _normalise_words(name: str) -> str:
    return re.sub(r"[\s_-]+", " ", name.casefold()).strip()


def _find_codes(rows: Rows, scores: pd.Series[float]) -> Iterator[str]:
    is_code = scores.isin(_CODES)
    if is_code.any() and scores[~is_code].between(0, 1).all() and not is_code.all():
        yield (
            f"{rows.format_rows(scores.index[is_code])}: got {scores[is_code].iloc[0]:g} where all other scores lie "
            "within 0 to 1, which looks like a code of failure; a run that failed gets the score that it is worth"
        )


def _find_mixed_units(rows: Rows, scores: pd.Series[float], largest: pd.Series[float]) -> Iterator[str]:
    """Yield that some runs, or rows, have scores in 0–1 and others in per cent, about 100 times as large.

    Args:
        rows: the table.
        scores: higher is better.
        largest: the largest score of each row's run.
    """
    if not len(scores) or scores.min() < 0 or not 1.5 < scores.max() <= 100:
        return
    above, between = scores[scores > 1], scores[(scores > 0) & (scores <= 1)]
    is_share = (largest <= 1) & (200 * largest >= scores[largest > 1].median())
    if not is_share.any() and 100 * between.min() >= above.min() and 100 * between.max() <= above.max():
        is_share = scores.le(1) & scores.gt(0)
    if is_share.any():
        fewer = is_share if 2 * is_share.sum() <= len(scores) else scores > 1
        yield (
            f"{rows.format_rows(scores.index[fewer])}: scores must have one unit, got {scores[is_share].iloc[0]:g} "
            f"next to {above.iloc[0]:g}, shares of 1 and per cent; multiply the ones by 100, or divide the others"
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
    if "seed" in rows.frame or methods.isna().any() or not methods.duplicated().any():
        return []
    several = [repr(name) for name in names[methods.duplicated(keep=False)]]
    return [
        f"{abbreviate_names(several)} look like trainings of fewer methods, and are judged as methods. If they are, "
        f"give the seed a column, in pandas: `table[['method', 'seed']] = table[{rows.titles['method']!r}].str.extract("
        f"{_SEED_IN_NAME!r})`"
    ]


def note_unlearned(names: Sequence[str]) -> list[str]:
    """Return a note on classes that no run learned."""
    if not names:
        return []
    return [
        f"No run learned {join_words(names)} (the IoU is at most {LEARNED_IOU:g}): nothing is known about how the "
        "methods treat them; train longer."
    ]
