"""Formatting of lists, numbers and commands in sentences, shared by several packages."""

from __future__ import annotations

import difflib
import os
import re
import shlex
import shutil
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from math import ceil, inf, isfinite
from pathlib import Path

from sweeper.core.paths import REPORTS, STORAGE, TRACKING
from sweeper.core.redact import hide_address_secrets

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""Beginnings that a spreadsheet takes for a formula; such texts get an apostrophe."""


NEAR, VERY_NEAR = 0.55, 0.8
"""Least likeness of two names, by `difflib`, for one to be a slip of the other: possibly, and most likely."""


def escape_for_display(text: object) -> str:
    """Escape unprintable characters in text or a file's name for display on a terminal."""
    if (plain := str(text)).isprintable():
        return plain
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in plain)


def format_resume_command(study: str, storage: str = STORAGE, places: str = "") -> str:
    """Return the command that resumes a study, with its `--storage` unless that is the default, and its `places`.

    An address with a password or token is replaced by the environment variable for it.
    """
    place = format_option("--storage", storage, STORAGE)
    return f"sweeper run --study {shlex.quote(study)} --resume{place}{places}"


def format_comparison_resume_command(name: str, places: str = "") -> str:
    """Return the command that resumes a comparison, with its `places`."""
    return f"sweeper confirm --study {shlex.quote(name)} --resume{places}"


def format_places(tracking: str = TRACKING, out: Path = REPORTS) -> str:
    """Format the options for output locations, which no study or comparison stores; "" if all are the defaults."""
    folder = "" if out == REPORTS else f" --out {shlex.quote(str(out))}"
    return format_option("--tracking-uri", tracking, TRACKING) + folder


def replace_options(command: str, options: Mapping[str, object], *, drop: Sequence[str] = ()) -> str:
    """Return a command line with these options in place of their earlier values, and without dropped ones."""
    words, kept = iter(shlex.split(command)), []
    for word in words:
        name, equals, _ = word.partition("=")
        if name not in {*options, *drop}:
            kept.append(word)
        elif not equals:
            next(words, None)  # its value
    return shlex.join([*kept, *(str(word) for pair in options.items() for word in pair)])


def format_study_command(command: str, study: str, storage: str = STORAGE) -> str:
    """Return the command of sweeper (train, predict, export or report) for a study in this storage."""
    return f"sweeper {command} {shlex.quote(study)}{format_option('--storage', storage, STORAGE)}"


def format_sync_command(study: str, storage: str = STORAGE, tracking: str = TRACKING) -> str:
    """Return the command that writes to MLflow what it lacks of a study."""
    places = format_option("--storage", storage, STORAGE) + format_option("--tracking-uri", tracking, TRACKING)
    return f"sweeper studies sync {shlex.quote(study)}{places}"


def format_confirm_command(study: str, storage: str = STORAGE) -> str:
    """Return the command that compares a study's losses in the user's own training script."""
    place = format_option("--storage", storage, STORAGE)
    return f'sweeper confirm {shlex.quote(study)} --command "python train.py"{place}'


def format_option(name: str, value: str, default: str) -> str:
    """Format an option of a command, after a space; "" if it is the default.

    An address with a password or token is replaced by the environment variable for it.
    """
    return "" if value == default else f" {name} {format_address_word(name, value)}"


def format_address_word(name: str, value: str, *, driver: bool = False) -> str:
    """Format the address of option `name` as a word of a command; `driver` adds psycopg to PostgreSQL's scheme."""
    scheme, mark, rest = value.partition("://")
    is_postgres = bool(mark) and scheme.partition("+")[0] in {"postgres", "postgresql"}
    postgres = driver and is_postgres
    if hide_address_secrets(value) != value:
        variable = "SWEEPER_" + name.strip("-").upper().replace("-", "_")
        if name == "--tracking-uri" and os.environ.get("MLFLOW_TRACKING_URI") == value:
            variable = "MLFLOW_TRACKING_URI"  # it was given in that variable
        return f'"postgresql+psycopg://${{{variable}#*://}}"' if postgres else f'"${variable}"'
    return shlex.quote(f"postgresql+psycopg://{rest}" if postgres else value)


def get_width(most: int = 110) -> int:
    """Return the columns of the terminal, at most `most`; 100 where there is none."""
    return min(most, shutil.get_terminal_size((100, 24)).columns)


def fill_words(text: str, width: int, *, first: str = "", rest: str = "") -> str:
    """Wrap a paragraph at `width` columns, only between words.

    A word that is longer than a line has its own line, and a command between backticks stays on one, to be copied. The
    first line begins with `first`, each other with `rest`.
    """
    whole = re.sub(r"`[^`]*`", lambda command: command.group().replace(" ", "\u00a0"), text)
    lines = textwrap.fill(
        whole, width, initial_indent=first, subsequent_indent=rest, break_on_hyphens=False, break_long_words=False
    )
    return lines.replace("\u00a0", " ")


def is_unicode(text: str) -> bool:
    """Return whether a text can be written as UTF-8; a file's name may contain other bytes."""
    return text.isascii() or text == text.encode("utf-8", "replace").decode()


def join_words(items: Sequence[str]) -> str:
    """Return `a`, `a and b`, or `a, b and c`; empty for no words."""
    return " and ".join([", ".join(items[:-1]), items[-1]] if len(items) > 1 else items)


def abbreviate(names: Sequence[str], most: int = 5) -> str:
    """Return `a, b, c`, or `a, b, c and 4 more`: at most `most` of the names."""
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def abbreviate_names(names: Sequence[str], most: int = 3) -> str:
    """Return `a, b and c`, or `a, b, c and 4 more`: at most `most` of the names."""
    return join_words(names) if len(names) <= most else abbreviate(names, most)


def replace_minus(text: str) -> str:
    """Replace hyphens in formatted numbers by true minus signs, as in the report's tables."""
    return text.replace("-", "−")


def format_signed(value: float, digits: int = 3) -> str:
    """Return `+0.012` or `−0.012`; a value that rounds to 0 has no sign."""
    return replace_minus(f"{value:+.{digits}f}") if round(value, digits) else f"{0:.{digits}f}"


def format_upper_bound(bound: float, margin: float, least: int = 3) -> str:
    """Format a bound ≥ 0, rounded up to `least` digits, or to those of the margin that it is compared with.

    So the text is no less than the bound, and exceeds the margin only if the bound does. It is never 0, as no bound is
    so precise.
    """
    digits = max(least, -int(Decimal(repr(margin)).as_tuple().exponent))
    return f"{max(1, ceil(bound * 10**digits - 1e-6)) / 10**digits:.{digits}f}"


def shorten(name: str, longest: int) -> str:
    """Return a name of at most `longest` characters (≥ 3); a longer one gets an ellipsis in its middle."""
    half = (longest - 1) // 2
    return name if len(name) <= longest else f"{name[: longest - 1 - half]}…{name[-half:]}"


def capitalise(sentence: str) -> str:
    """Capitalise only the first letter of a sentence."""
    return sentence[:1].upper() + sentence[1:]


def format_count(n: int, one: str, more: str = "") -> str:
    """Format a count with its noun: `1 trial`, `1,200 trials`; with both forms `1 image has`, `3 images have`."""
    if n == 1:
        return f"1 {one}"
    plural = f"{one}es" if one.endswith("s") else f"{one}s"
    if one.endswith("y"):
        plural = f"{one[:-1]}ies"
    return f"{n:,} {more or plural}"


def format_count_range(counts: Iterable[int], one: str) -> str:
    """Format counts: `3 seeds`, or if they differ the range: `2 to 3 seeds`."""
    distinct = sorted(set(counts))
    most = format_count(distinct[-1], one)
    return most if len(distinct) == 1 else f"{distinct[0]} to {most}"


def format_parallel_trainings(trainings: int) -> str:
    """Return `1 training runs at a time` or `2 trainings run at a time`."""
    return f"{format_count(trainings, 'training runs', 'trainings run')} at a time"


_UNITS = (("ms", 0.001, 999.5), ("s", 1.0, 90.0), ("min", 60.0, 90.0), ("h", 3600.0, 48.0), ("days", 86400.0, inf))
"""Units of a time with their seconds, and the number of them below which each is used."""


def format_duration(seconds: float) -> str:
    """Format a duration to about two digits: 45 ms, 3.2 s, 14 min, 2.5 h, 3 days."""
    unit, size = _choose_unit(seconds)
    return f"{_round_two_digits(seconds / size)} {unit}"


def format_duration_range(least: float, most: float) -> str:
    """Format a forecast, `9 to 25 min` or `about 40 s`; both ends in the unit of the upper one."""
    unit, size = _choose_unit(most)
    low, high = (_round_two_digits(seconds / size) for seconds in (min(least, most), most))
    return f"about {high} {unit}" if low == high else f"{low} to {high} {unit}"


def _choose_unit(seconds: float) -> tuple[str, float]:
    return next((unit, size) for unit, size, most in _UNITS if seconds / size < most)


def _round_two_digits(number: float) -> str:
    return f"{number:.0f}" if number >= 9.95 else f"{number:.1f}".removesuffix(".0")


def format_significant(value: float | None, digits: int = 3) -> str:
    """Format a number to significant digits, for coordinates and learning rates; whole from 1,000."""
    if value is None or not isfinite(value):
        return "–"
    if abs(value) >= 1000:
        return f"{value:,.0f}".replace("-", "−")
    text = f"{value:.{digits}g}"
    if abs(float(text)) >= 10**digits:  # readable: no power of ten
        text = f"{float(text):,.0f}"
    return f"−{text[1:]}" if value < 0 else text  # the exponent keeps its hyphen: 1e-05 can be pasted


def format_share(share: float | None) -> str:
    """Format a share in 0–1 as per cent with three significant digits.

    For example 99.0 %, 0.994 %; 1 − 10⁻⁶ does not become 100 %.
    """
    if share is None or not isfinite(share):
        return "–"
    if share in (0, 1):
        return f"{share:.0%}".replace("%", " %")
    if share > 0.999:
        return "> 99.9 %"
    return f"{100 * share:#.3g} %" if share >= 1e-6 else "< 0.0001 %"


def format_ratio(ratio: float) -> str:
    """Format a ratio: 61.5:1, 3,580:1; three digits below a thousand, whole above."""
    return f"{format_significant(ratio)}:1"


CALLED_ELSEWHERE = {
    **{"cross_entropy": "ce bce", "weighted_ce": "wce", "jaccard": "iou", "miou": "iou"},
    **{"cuda": "gpu gpus 0", "float32": "fp32 32", "bfloat16": "bf16 fp16 16 half"},
    **{"run": "tune optimize optimise search sweep", "train": "fit", "predict": "infer inference"},
    **{"confirm": "compare", "judge": "compare evaluate test val validate", "export": "convert deploy"},
    **{"profile": "analyze inspect plan preprocess stats", "ui": "dashboard mlflow", "doctor": "check env info"},
    **{"show": "status", "list": "ls ps", "delete": "remove rm", "resume": "continue", "dry_run": "fast_dev_run"},
    **{"data": "dataset dir folder input source", "images": "image img", "masks": "annotations label labels mask"},
    **{"device": "accelerator cuda gpu gpus", "workers": "devices gpus jobs", "precision": "amp"},
    **{"size": "imgsz resolution", "batch_size": "batch bs", "steps": "epochs iterations iters"},
    **{"encoder": "backbone", "encoder_weights": "pretrained", "loss": "criterion", "augment": "transforms"},
    **{"space": "learning_rate lr lr0", "command": "optimizer optimiser scheduler weight_decay"},
    **{"out": "dir output project", "study": "experiment name run_name", "seed": "random_state"},
    **{"time": "budget hours timeout", "trials": "evaluations", "folds": "cv kfold splits"},
    **{"present": "baseline", "margin": "rope tolerance", "threshold": "conf point", "class_map": "classes nc"},
    **{"groups": "patient patients split"},
}
"""Our commands, options and values, with the words of other tools for them."""
CONVERSIONS = {
    "steps": " (epochs × images / batch size)",
    "space": " (a file with one `lr`; else one is found for all losses)",
    "command": " (your script; else the optimiser is the same for all losses)",
    "class_map": " (else the classes are those of the data)",
    "groups": " (else the split is that of folders train, val, test or of split.csv, or drawn)",
}
"""What to know of ours where another tool's word means it only in part."""


def suggest_meaning(word: str, meanings: Mapping[str, str], otherwise: str = "") -> str:
    """Return `, did you mean …?` with what a word means here, else `otherwise`.

    It may be the word of another tool, a slip of one of the names, or a name with something before or after it.
    """
    name, plain = _make_plain(word), {_make_plain(name): f"`{meaning}`" for name, meaning in meanings.items()}
    parts = name.split("_")
    readings = (
        _translate(name, plain),
        _find_nearest(name, plain, VERY_NEAR),
        *([plain[part]] for part in parts if part in plain),
        *(_translate(part, plain) for part in parts),
        _find_nearest(name, plain, NEAR),
    )
    found = next(filter(None, readings), [])
    return f", did you mean {' or '.join(found)}?" if found else otherwise


def _translate(word: str, meanings: Mapping[str, str]) -> list[str]:
    """List the meanings that other tools have this word for."""
    names = [ours for ours, theirs in CALLED_ELSEWHERE.items() if word in theirs.split()]
    return [meanings[name] + CONVERSIONS.get(name, "") for name in names if name in meanings]


def _find_nearest(word: str, meanings: Mapping[str, str], least: float) -> list[str]:
    return [meanings[name] for name in difflib.get_close_matches(word, meanings, n=1, cutoff=least)]


def _make_plain(word: str) -> str:
    return str(word).lower().strip("-").replace("-", "_")


def suggest_correction(name: str, candidates: Iterable[str], otherwise: str = "") -> str:
    """Return `, did you mean …?` for a likely typing error, else `otherwise`."""
    return suggest_meaning(name, {one: one for one in candidates}, otherwise)


def suggest_or_list(name: str, candidates: Iterable[str]) -> str:
    """Return `, did you mean …?` for a likely typing error, else the candidates: `; there are a, b and c`."""
    names = list(candidates)
    return suggest_correction(name, names, f"; there are {abbreviate_names(names, most=8) or 'none'}")


def suggest_path(path: Path, fits: Callable[[Path], bool] = Path.exists) -> str:
    """Return `, did you mean …?` for a path with one misspelt part, else an empty text; `fits` accepts a path."""
    try:
        missing = [one for one in (path, *path.parents) if not one.exists()][-1]
        rest = path.relative_to(missing)
        names = {one.name: str(one / rest) for one in missing.parent.iterdir() if fits(one / rest)}
    except (IndexError, OSError, ValueError):  # the path exists, or no file can have this name
        return ""
    return suggest_meaning(missing.name, names)
