"""The report of `sweeper judge` on a table of scores: markdown, HTML, figure, and JSON for programs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import combinations
from pathlib import Path

from sweeper.core.document import format_json
from sweeper.core.paths import JudgementPaths
from sweeper.core.records import Interval
from sweeper.core.text import format_upper_bound
from sweeper.evidence.verdict_predicates import get_difference, has_beaten
from sweeper.judging.judgement import Judgement, format_interval
from sweeper.judging.table_evidence import MethodEvidence, restore_score_direction
from sweeper.report.figures.style import (
    BLUE,
    INK,
    VERMILLION,
    DrawnFigure,
    GapRow,
    draw_forest,
    escape_figure_text,
    save_all,
    steady_style,
)
from sweeper.report.formatting import MISSING, escape_md, format_code, format_level, format_number, tabulate
from sweeper.report.html import write_page


@steady_style
def write_judgement(judgement: Judgement, out: Path, *, lead: Sequence[str] = (), end: Sequence[str] = ()) -> Path:
    """Write `OUT/{report.md, report.html, judgement.json, figures/differences.svg}`, and return the report's path.

    `lead` are paragraphs of markdown that replace title and headline, `end` paragraphs after all others; their names
    are not escaped.

    Raises:
        OSError: if a file cannot be written.
    """
    paths = JudgementPaths(out)
    drawn = list_differences(judgement)
    save_all({"differences": drawn}, paths.figures)
    paths.document.write_text(format_json(judgement.document.document), "utf-8")
    score_table, networks = judgement.table, judgement.networks
    reasons = judgement.reasons if networks is None else networks[1].reasons
    title = f"# {escape_md(score_table.scale.score)} of {len(score_table.methods)} methods, judged"
    parts = [
        *(lead or [title]),
        *([] if judgement.claim is None else [escape_md(judgement.claim.sentence)]),
        *([] if lead else [f"**{escape_md(judgement.headline)}**"]),
        _make_methods_table(judgement),
        drawn.format_markdown("differences"),
        *_make_part("Why", reasons),
        "## Every pair",
        _make_pairs_table(judgement),
        *(_make_part("What would settle it", judgement.next_steps) if not lead else []),
        *_make_part("Mind", judgement.caveats),
        *end,
    ]
    write_page("\n\n".join(parts) + "\n", paths.markdown)
    return paths.markdown


def _make_part(heading: str, sentences: Sequence[str]) -> list[str]:
    return [f"## {heading}", "\n".join(f"- {escape_md(each)}" for each in sentences)] if sentences else []


def _make_methods_table(judgement: Judgement) -> str:
    score_table, scale = judgement.table, judgement.table.scale

    def name_method(each: MethodEvidence) -> str:
        return f"**{format_code(each.family)}**" if each.family == judgement.named else format_code(each.family)

    def bound_cost(each: MethodEvidence) -> str:
        regret = each.regret
        return MISSING if regret is None else format_upper_bound(regret.bound, score_table.margin, scale.digits)

    unit = "" if score_table.higher_is_better else ", lower is better"
    columns: dict[str, Callable[[MethodEvidence], str]] = {
        "method": name_method,
        "runs": lambda each: str(len(each.runs)),
        f"{escape_md(scale.score)}{unit}, 95 % interval": lambda each: format_interval(
            restore_score_direction(score_table, each), scale.digits
        ),
        "costs at most (95 %)": bound_cost,
    }
    return tabulate(judgement.decided_contest.finalists, columns)


def _make_pairs_table(judgement: Judgement) -> str:
    contest, digits = judgement.decided_contest, judgement.table.scale.digits

    def format_image_error(gap: Interval) -> str:
        is_cut_off = contest.scope == "both" and gap.se_image == 0
        return "not separable" if is_cut_off else format_number(gap.se_image, digits)

    names = [format_code(each.family) for each in contest.finalists]
    pairs = [(i, j, get_difference(contest, i, j)) for i, j in combinations(range(len(names)), 2)]
    columns: dict[str, Callable[[tuple[int, int, Interval]], str]] = {
        "scores better": lambda pair: names[pair[0]],
        "than": lambda pair: names[pair[1]],
        f"by, {format_level(judgement.level)} interval": lambda pair: format_interval(pair[2], digits),
        "error from seeds": lambda pair: format_number(pair[2].se_seed, digits),
        "error from images": lambda pair: format_image_error(pair[2]),
    }
    return tabulate(pairs, columns, left=2)


def list_differences(judgement: Judgement) -> DrawnFigure:
    """Draw the differences to the baseline, or without one to the named method; above 0 is better."""
    contest, score_table = judgement.decided_contest, judgement.table
    names = [each.family for each in contest.finalists]
    to = contest.baseline if contest.baseline is not None else names.index(judgement.named)
    rows = [i for i in range(len(names)) if i != to]
    gaps = []
    for i in rows:
        colour = BLUE if has_beaten(contest, i, to) else VERMILLION if has_beaten(contest, to, i) else INK
        gap = get_difference(contest, i, to)
        gaps.append(GapRow(names[i], colour, gap, math.isfinite(gap.low)))
    score, against = escape_figure_text(score_table.scale.score), escape_figure_text(names[to])
    label = f"← worse     {score} against {against}     better →"
    figure = draw_forest(gaps, score_table.margin, label, score_table.scale.digits)
    text = (
        f"Dots: differences to {format_code(names[to])}, above 0 better; lines: {format_level(judgement.level)} "
        f"intervals. Within the grey band (± {score_table.margin:g}) a difference does not matter. Blue is shown to be "
        "better, red to be worse."
    )
    if not all(gap.known for gap in gaps):
        text += " A dot without a line: nothing is known of its error."
    other = "baseline" if contest.baseline is not None else "named method"
    return DrawnFigure(figure, text, f"What each method gains over the {other}")
