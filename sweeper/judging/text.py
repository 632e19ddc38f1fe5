"""The judgement as lines for a terminal."""

from __future__ import annotations

import math
import shutil
import textwrap

from sweeper.core.records import Interval
from sweeper.core.text import count, minus
from sweeper.judging.judgement import Judgement
from sweeper.judging.weighing import own_interval

REASONS = 6
"""So many are printed; of many methods there is one for each."""


def answer_text(judgement: Judgement, width: int | None = None) -> str:
    """Verdict, methods, why, what would settle it, and what limits it; wrapped at `width` columns."""
    width = width or min(110, shutil.get_terminal_size((100, 24)).columns)
    table = judgement.table
    lines = [textwrap.fill(judgement.headline, width), "", f"  {_header(judgement)}"]
    longest = max(len(each.family) for each in judgement.contest.finalists)
    for each in judgement.shown.finalists:
        mark = "→" if each.family == judgement.named else " "
        score = interval_text(own_interval(table, each), table.scale.digits)
        lines.append(f"{mark} {each.family:{longest}}  {score}  ({count(len(each.runs), 'run')})")
    lines.append("")
    reasons = judgement.reasons if judgement.networks is None else judgement.networks[1].reasons
    if len(reasons) > REASONS:
        reasons = (*reasons[:REASONS], f"{len(reasons) - REASONS} more stand in the report (--out).")
    for heading, sentences in (
        ("", reasons),
        ("What would settle it:", judgement.next_steps),
        ("Mind:", judgement.caveats),
    ):
        if sentences:
            lines += [heading] if heading else []
            lines += [textwrap.fill(s, width, initial_indent="- ", subsequent_indent="  ") for s in sentences]
    return "\n".join(lines)


def _header(judgement: Judgement) -> str:
    table = judgement.table
    on = f", {count(table.images, 'image')}" if table.images else ""
    on += f" in {count(table.groups, 'group')}" if table.groups is not None else ""
    way = "" if table.higher_is_better else ", lower is better"
    return f"{table.scale.score}{way}, 95 % interval{on}, margin {table.margin:g}"


def interval_text(value: Interval, digits: int) -> str:
    """`0.710 [0.690, 0.730]`, without brackets where nothing is known of the error."""
    if not math.isfinite(value.low):
        return minus(f"{value.estimate:.{digits}f}")
    return minus(f"{value.estimate:.{digits}f} [{value.low:.{digits}f}, {value.high:.{digits}f}]")
