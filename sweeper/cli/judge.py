"""`sweeper judge`: the verdict on runs that sweeper did not train."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from sweeper.cli.options import CLAIM_STATUS, SweeperCommand, add_json_option
from sweeper.cli.settings_options import add_options, format_option_name
from sweeper.cli.terminal import echo_result
from sweeper.core.options import make_options
from sweeper.judging.request import ScoreRequest


@click.command(cls=SweeperCommand)
@click.argument("scores", required=False)
@add_options(ScoreRequest)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Folder for a report with a figure.")
@add_json_option()
def command(scores: str | None, *, out: Path | None, as_json: bool, **options: Any) -> int:
    """Say which method is better, and how sure that is.

    SCORES: a CSV or parquet file with the columns method and score (or tp, fp, fn), and if known seed, image, group,
    class, fold, step; a folder of nnU-Net's results; or mlflow:EXPERIMENT, whose runs have parameters or tags with
    method and seed.
    """
    if scores is None:
        raise click.UsageError("SCORES is needed: a table, a folder of nnU-Net's results or mlflow:EXPERIMENT")
    from sweeper.judging.judgement import judge_scores
    from sweeper.judging.read import read_score_file

    request = make_options(ScoreRequest, options, "the judgement", format_option_name)
    judgement = judge_scores(read_score_file(scores, request), request)
    written = ""
    if out is not None:
        from sweeper.report.judgement import write_judgement

        written = f"\nReport: {write_judgement(judgement, judgement.answer, out)} (report.html next to it)"
    echo_result(judgement.answer, repr(judgement) + written, as_json=as_json)
    return max((CLAIM_STATUS.get(remark.code, 0) for remark in judgement.answer.remarks), default=0)
