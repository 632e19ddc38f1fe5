"""The report on a table of scores that `sweeper judge` was given: markdown, HTML, figure, and JSON for programs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from sweeper.core.document import json_text
from sweeper.core.paths import JudgementPaths
from sweeper.core.text import at_most
from sweeper.evidence.decision_rule import beats, difference
from sweeper.judging.judgement import Judgement, interval_text
from sweeper.judging.weighing import own_interval
from sweeper.report.figures.style import BLUE, INK, VERMILLION, Drawn, Gap, forest, plain, save_all, steady_style
from sweeper.report.formatting import MISSING, code, escape_md, level, number, table
from sweeper.report.html import write_page


@steady_style
def write_judgement(judgement: Judgement, out: Path) -> Path:
    """Write `OUT/{report.md, report.html, judgement.json, figures/differences.svg}`, and say where the report lies.

    Raises:
        OSError: if a file cannot be written.
    """
    paths = JudgementPaths(out)
    drawn = differences(judgement)
    save_all({"differences": drawn}, paths.figures)
    paths.document.write_text(json_text(judgement.document.document), "utf-8")
    write_page(judgement_text(judgement, drawn.shown("differences")), paths.markdown)
    return paths.markdown


def judgement_text(judgement: Judgement, figure: str) -> str:
    """The report as markdown; names are escaped."""
    own, networks = judgement.table, judgement.networks
    reasons = judgement.reasons if networks is None else networks[1].reasons
    parts = [
        f"# {escape_md(own.scale.score)} of {len(own.methods)} methods, judged",
        *([] if judgement.claim is None else [escape_md(judgement.claim.sentence)]),
        f"**{escape_md(judgement.headline)}**",
        _methods(judgement),
        figure,
        *_part("Why", reasons),
        "## Every pair",
        _pairs(judgement),
        *_part("What would settle it", judgement.next_steps),
        *_part("Mind", judgement.caveats),
    ]
    return "\n\n".join(parts) + "\n"


def _part(heading: str, sentences: Sequence[str]) -> list[str]:
    return [f"## {heading}", "\n".join(f"- {escape_md(each)}" for each in sentences)] if sentences else []


def _methods(judgement: Judgement) -> str:
    own = judgement.table
    rows = []
    for each in judgement.shown.finalists:
        name = f"**{code(each.family)}**" if each.family == judgement.named else code(each.family)
        cost = MISSING if each.regret is None else at_most(each.regret.bound, own.margin, own.scale.digits)
        rows.append([name, str(len(each.runs)), interval_text(own_interval(own, each), own.scale.digits), cost])
    unit = "" if own.higher_is_better else ", lower is better"
    header = ["method", "runs", f"{escape_md(own.scale.score)}{unit}, 95 % interval", "costs at most (95 %)"]
    return table(header, rows)


def _pairs(judgement: Judgement) -> str:
    contest, digits = judgement.shown, judgement.table.scale.digits
    rows = []
    for i, one in enumerate(contest.finalists):
        for j in range(i + 1, len(contest.finalists)):
            gap = difference(contest, i, j)
            rows.append(
                [
                    code(one.family),
                    code(contest.finalists[j].family),
                    interval_text(gap, digits),
                    number(gap.se_seed, digits),
                    "0 (cut off)" if contest.scope == "both" and gap.se_image == 0 else number(gap.se_image, digits),
                ]
            )
    header = ["reads better", "than", f"by, {level(judgement.level)} interval", "error from seeds", "error from images"]
    return table(header, rows, left=2)


def differences(judgement: Judgement) -> Drawn:
    """Differences to the baseline, or where there is none to the named method; above 0 is better."""
    contest, own = judgement.shown, judgement.table
    names = [each.family for each in contest.finalists]
    to = contest.baseline if contest.baseline is not None else names.index(judgement.named)
    rows = [i for i in range(len(names)) if i != to]
    gaps = []
    for i in rows:
        colour = BLUE if beats(contest, i, to) else VERMILLION if beats(contest, to, i) else INK
        gap = difference(contest, i, to)
        gaps.append(Gap(names[i], colour, gap, math.isfinite(gap.low)))
    label = f"← worse     {plain(own.scale.score)} against {plain(names[to])}     better →"
    figure = forest(gaps, own.margin, label, own.scale.digits)
    text = (
        f"Dots: differences to {code(names[to])}, above 0 better; lines: {level(judgement.level)} intervals. Within "
        f"the grey band (± {own.margin:g}) a difference does not matter. Blue is shown to be better, red to be worse."
    )
    if not all(gap.known for gap in gaps):
        text += " A dot without a line: nothing is known of its error."
    other = "baseline" if contest.baseline is not None else "named method"
    return Drawn(figure, text, f"What each method gains over the {other}")
