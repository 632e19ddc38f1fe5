"""The report on scores that were trained elsewhere, or by the user's script: markdown, HTML, figure, JSON."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path

from sweeper.core.document import format_json
from sweeper.core.paths import ReportPaths
from sweeper.evidence.answer_text import format_score
from sweeper.evidence.document import AnswerDocument, DifferenceRow, LossRow
from sweeper.evidence.phrases import format_phrase, list_remarks
from sweeper.evidence.verdict_predicates import get_difference, has_beaten
from sweeper.judging.judgement import Judgement
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
from sweeper.report.formatting import escape_md, escape_prose, format_code, format_number, tabulate
from sweeper.report.html import write_page
from sweeper.report.markdown import format_note
from sweeper.report.sections import format_cost


@steady_style
def write_judgement(
    judgement: Judgement, document: AnswerDocument, out: Path, *, title: str = "", end: Sequence[str] = ()
) -> Path:
    """Write `OUT/{report.md, report.html, recommendation.json, figures/differences.svg}`; return the report's path.

    `document` is the judgement's, possibly with more remarks and next steps. `end` are paragraphs after all others;
    their names are not escaped.
    """
    paths = ReportPaths(out)
    drawn = list_differences(judgement)
    save_all({"differences": drawn}, paths.figures)
    paths.recommendation.write_text(format_json(document.document), "utf-8")
    remarks = [f"- {escape_prose(text)}" for text in list_remarks(document, "text", "fold")]
    parts = [
        f"# {title or f'{escape_md(document.scale.score)} of {len(document.losses)} methods'}",
        format_note(document),
        _make_losses_table(document),
        drawn.format_markdown("differences"),
        _make_pairs_table(document),
        *(["## Mind", "\n".join(remarks)] if remarks else []),
        *end,
    ]
    write_page("\n\n".join(parts) + "\n", paths.markdown)
    return paths.markdown


def _make_losses_table(document: AnswerDocument) -> str:

    def name_loss(row: LossRow) -> str:
        return f"**{format_code(row.loss)}**" if row.loss == document.used else format_code(row.loss)

    way = "" if document.higher_is_better else ", lower is better"
    columns: dict[str, Callable[[LossRow], str]] = {
        document.kind: name_loss,
        "runs": lambda row: str(row.seeds),
        f"{escape_md(document.scale.score)}{way} [{100 * document.level:g} %]": lambda row: format_score(row, document),
        "costs at most": lambda row: format_cost(row.cost, document),
    }
    return tabulate(document.losses, columns)


def _make_pairs_table(document: AnswerDocument) -> str:
    digits = document.scale.digits

    def format_difference(row: DifferenceRow) -> str:
        ends = {"low": row.low, "high": row.high}
        return format_phrase("LEAD" if row.low is not None else "MEAN", document, estimate=row.estimate, **ends)

    columns: dict[str, Callable[[DifferenceRow], str]] = {
        "scores better": lambda row: format_code(row.first),
        "than": lambda row: format_code(row.second),
        "by": format_difference,
        "established": lambda row: "yes" if row.established else "no",
        "error from runs": lambda row: format_number(row.se_seed, digits),
        "error from images": lambda row: format_number(row.se_image, digits),
    }
    return tabulate(document.differences, columns, left=2)


def list_differences(judgement: Judgement) -> DrawnFigure:
    """Draw the differences to the present method, or without one to the used one; above 0 is better."""
    contest, document = judgement.contest, judgement.answer
    names = [each.family for each in contest.finalists]
    to = contest.baseline if contest.baseline is not None else judgement.choice.use or 0
    gaps = []
    for i in (i for i in range(len(names)) if i != to):
        colour = BLUE if has_beaten(contest, i, to) else VERMILLION if has_beaten(contest, to, i) else INK
        gap = get_difference(contest, i, to)
        gaps.append(GapRow(names[i], colour, gap, math.isfinite(gap.low)))
    score, against = escape_figure_text(document.scale.score), escape_figure_text(names[to])
    label = f"← worse     {score} against {against}     better →"
    figure = draw_forest(gaps, document.margin, label, document.scale.digits)
    text = (
        f"Dots: differences to {format_code(names[to])}, above 0 better; lines: intervals; a dot without a line has "
        f"none. Within the grey band (± {document.margin:g}) a difference does not matter."
    )
    return DrawnFigure(figure, text, f"Differences to {names[to]}")
