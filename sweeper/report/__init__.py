"""The report: text, tables and figures of a study, and the same as JSON and CSV.

The writing modules are imported only when a report is written, so that `sweeper.report.tables` needs no matplotlib.
Every function that writes raises OSError where a file cannot be written.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from sweeper.core.paths import ReportPaths

if TYPE_CHECKING:
    from sweeper.core.records import Evidence, SweepRecord
    from sweeper.evidence.document import AnswerDocument
    from sweeper.report.facts import Pixels


def write_report(
    sweep: SweepRecord,
    document: AnswerDocument,
    evidence: Evidence | None,
    out: Path,
    *,
    pixels: Pixels | None = None,
    report_alive: Callable[[], None] = lambda: None,
) -> ReportPaths:
    """Write `OUT/STUDY/{report.md, report.html, recommendation.json, trials.csv, split.csv, figures/*.svg}`.

    An earlier report is replaced. The study may be in any state: the report says if there is no trial, or if without
    `pixels` no predictions are drawn. `report_alive` is called meanwhile, as a heartbeat.
    """
    from sweeper.core.document import format_json
    from sweeper.data.folds import get_split
    from sweeper.report.facts import collect_facts
    from sweeper.report.figures import draw_all
    from sweeper.report.html import write_page
    from sweeper.report.markdown import render_report
    from sweeper.report.tables import make_trials_frame, write_csv, write_split

    paths = ReportPaths(out, sweep.study)
    facts = collect_facts(sweep, document, evidence, pixels)
    figures = draw_all(facts, paths.figures, report_alive)
    paths.recommendation.write_text(format_json(document.document), "utf-8")
    write_csv(make_trials_frame(sweep), paths.trials)
    write_split(sweep.conditions.dataset, get_split(sweep.conditions, sweep.conditions.seed), paths.split)
    write_page(render_report(facts, figures), paths.markdown)
    return paths
