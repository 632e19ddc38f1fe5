"""Format numbers and names as text, with markup in names from files and labels escaped."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TypeVar

from sweeper.core.records import Interval
from sweeper.core.text import format_signed, format_significant

Row = TypeVar("Row")
MISSING = "–"
"""Placeholder for a missing number."""
MOST_CLASSES = 12
"""Rarest classes that table and figure show; recommendation.json has all."""

# Text that can act as markup: always; at the start of a block or (a closing #) the end of a heading; in addresses that
# GitHub links automatically.
_MARKUP = re.compile(
    r"""[\\`*\[\]|~$]
    | (?<![^\W_])_ | _(?![^\W_])
    | (?<=\ )[#] | ^[#+\-=]
    | (?:(?<=^\d) | (?<=^\d\d) | (?<=^\d{3}) | (?<=^\d{4}) | (?<=^\d{5}) | (?<=^\d{6}) | (?<=^\d{7})
    | (?<=^\d{8}) | (?<=^\d{9}))[.)](?=\s|$)
    | :(?=/) | (?<=mailto):(?=\S) | (?<=xmpp):(?=\S) | (?<=www)\.""",
    re.VERBOSE | re.IGNORECASE,
)
_SAFE_CODE = re.compile(r"[A-Za-z0-9_.,:;=+\-/ ×→]+")
_INTERVAL = re.compile(r"\\\[([−+\d., ]+)\\\]")
"""An escaped interval: it is no link, and needs no escape."""
_SAFE_SPAN = re.compile(r"""(`[A-Za-z0-9_.,:;=+\-/'" ]+`)""")


# --- Numbers ------------------------------------------------------------------------------------------------


def format_number(value: float | None, digits: int = 3) -> str:
    """Format a number with fixed decimals; a dash if it is not finite. `-0.0001` becomes `0.000`."""
    if value is None or not math.isfinite(value):
        return MISSING
    text = f"{value:.{digits}f}"
    return (text if float(text) else text.lstrip("-")).replace("-", "−")


def format_signed_number(value: float | None, digits: int = 3) -> str:
    """Format a number like `format_number`, with a plus sign for gains."""
    return MISSING if value is None or not math.isfinite(value) else format_signed(value, digits)


def format_interval(value: Interval, seeds: int, format_one: Callable[[float], str] = format_number) -> str:
    """Format an interval: `0.710 [0.690, 0.730]`; a single seed has none."""
    estimate, low, high = map(format_one, (value.estimate, value.low, value.high))
    return f"{estimate} [{low}, {high}]" if seeds > 1 else f"{estimate} (one seed)"


def format_elapsed(seconds: float | None) -> str:
    """Format a duration: `41 s`, `4 min 1 s`, `2 h 5 min`; below 10 s with one decimal."""
    if seconds is None or not math.isfinite(seconds):
        return MISSING
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


# --- Names --------------------------------------------------------------------------------------------------


def make_one_line(text: str) -> str:
    """Replace line breaks, control characters and direction marks by single spaces."""
    kept = "".join(" " if unicodedata.category(c)[0] in "CZ" else c for c in text)
    return re.sub(r" +", " ", kept).strip()


def escape_md(text: str) -> str:
    r"""Escape a text for GitHub's markdown, in paragraphs, headings and table cells.

    Control characters and direction marks become spaces, HTML becomes entities, and characters that could act as markup
    at their position get a backslash. A word joiner after `@` prevents mentions and mail links, which GitHub makes
    after it removes escapes.
    """
    line = make_one_line(text).replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return _MARKUP.sub(r"\\\g<0>", line).replace("@", "@\u2060")


def format_code(text: str) -> str:
    """Format a plain identifier as a code span, anything else as escaped text."""
    line = make_one_line(text)
    return f"`{line}`" if _SAFE_CODE.fullmatch(line) else escape_md(line)


def escape_prose(text: str) -> str:
    """Escape a text except for code spans of plain characters, and intervals."""
    pieces = _SAFE_SPAN.split(text)
    escaped = (p if _SAFE_SPAN.fullmatch(p) else _escape_piece(p, begins=i == 0) for i, p in enumerate(pieces))
    return _INTERVAL.sub(r"[\1]", "".join(escaped))


def _escape_piece(text: str, *, begins: bool) -> str:
    """Escape a piece of a sentence, and keep a space at either end.

    Markup of a line's beginning is escaped only there.
    """
    if not text.strip():
        return " " if text else ""
    before = f"{' ' if text[0].isspace() else ''}{escape_md(text)}" if begins else escape_md(f"){text}")[1:]
    return f"{before}{' ' if text[-1].isspace() else ''}"


_NUMBERS = r"[+−]?[\d.,]+"
_UNBROKEN = re.compile(
    rf"(?P<interval>(?:{_NUMBERS} )?\[{_NUMBERS}, {_NUMBERS}\]|[+−]\d[\d.]* to [+−]\d[\d.]*)"
    r"|(?P<unit>(?<=\d) (?:%|ms|s|min|h|×)(?![\w%]))|(?P<margin>± (?=\d))|(?<=`) (?=[−\d])"
)


def join_unbroken(text: str) -> str:
    """Put non-breaking spaces into intervals and numbers with units of a markdown text, except in fenced blocks.

    Examples are `0.710 [0.690, 0.730]`, `−0.006 to +0.012`, `95 %`, `± 0.01`, a name in code and its value. Several
    empty lines become one.
    """
    pieces = re.split(r"(^(?P<ticks>`{3,})[^\n]*\n.*?^(?P=ticks)$)", text, flags=re.MULTILINE | re.DOTALL)
    joined = []
    for i in range(0, len(pieces), 3):  # text, a fenced block, its ticks
        kept = _UNBROKEN.sub(lambda match: match[0].replace(" ", "\u00a0"), pieces[i])
        joined += [re.sub(r"\n{3,}", "\n\n", kept), *pieces[i + 1 : i + 2]]
    return "".join(joined)


def make_fence(text: str, language: str) -> str:
    """Make a fenced block of the verbatim text, with a fence longer than any run of backticks in it.

    Control characters and direction marks become spaces, as in `make_one_line`, so that readers see what they paste.
    """
    kept = "".join(c if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cf", "Zl", "Zp") else " " for c in text)
    longest = max((len(run) for run in re.findall(r"`+", kept)), default=0)
    ticks = "`" * max(3, longest + 1)
    return f"{ticks}{language}\n{kept.rstrip(chr(10))}\n{ticks}"


def format_params(params: dict[str, float]) -> str:
    """Format parameters: `gamma` 2.2, `mix` 0.41; empty for a loss without any."""
    return ", ".join(f"{format_code(name)} {format_significant(value)}" for name, value in params.items())


def tabulate(rows: Collection[Row], columns: Mapping[str, Callable[[Row], str]], left: int = 1) -> str:
    """Make a markdown table with a line per row; "" without rows. `columns`: header → function from row to cell.

    The first `left` columns are aligned left, the others right. Headers and cells must be markdown.
    """
    cells = [[make(row) for make in columns.values()] for row in rows]
    return make_table([*columns], cells, left) if cells else ""


def make_table(header: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """Make a markdown table; the first `left` columns are aligned left, the others right.

    Cells must be markdown.
    """
    rule = [":--" if i < left else "--:" for i in range(len(header))]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [header, rule, *rows])
