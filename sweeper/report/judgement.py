"""The report on a table of scores that `sweeper judge` was given: markdown, HTML, figure, and JSON for programs."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

from sweeper.core.paths import JudgementPaths
from sweeper.core.text import at_most
from sweeper.evidence.decision_rule import difference
from sweeper.judging.judgement import Judgement
from sweeper.judging.text import interval_text
from sweeper.judging.weighing import own_interval
from sweeper.report.figures.differences import differences
from sweeper.report.figures.style import save_all
from sweeper.report.formatting import MISSING, code, escape_md, level, table
from sweeper.report.html import to_html


def write_judgement(judgement: Judgement, out: Path) -> Path:
    """Write `OUT/{report.md, report.html, judgement.json, figures/differences.svg}`, and say where the report lies.

    Raises:
        OSError: if a file cannot be written.
    """
    paths = JudgementPaths(out)
    drawn = differences(judgement)
    save_all({"differences": drawn}, paths.figures)
    document = json.dumps(judgement.document.document, indent=2, ensure_ascii=False, allow_nan=False)
    paths.document.write_text(document + "\n", "utf-8")
    figure = f"![{drawn.alt}](figures/differences.svg)\n\n**{drawn.alt}.** {drawn.caption}"
    text = judgement_text(judgement, figure)
    paths.markdown.write_text(text, "utf-8")
    paths.html.write_text(to_html(text, paths.figures), "utf-8")
    return paths.markdown


def judgement_text(judgement: Judgement, figure: str) -> str:
    """The report as markdown; names are escaped."""
    own, networks = judgement.table, judgement.networks
    reasons = judgement.reasons if networks is None else networks[1].reasons
    parts = [
        f"# {escape_md(own.scale.score)} of {len(own.methods)} methods, judged",
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
                    *(
                        f"{error:.{digits}f}" if math.isfinite(error) else MISSING
                        for error in (gap.se_seed, gap.se_image)
                    ),
                ]
            )
    header = ["reads better", "than", f"by, {level(judgement.level)} interval", "error from seeds", "error from images"]
    return table(header, rows, left=2)
