"""`sweeper judge`: the verdict on runs that sweeper did not train."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from sweeper.cli.options import CLAIM_STATUS, SweeperCommand, add_json_option
from sweeper.cli.settings_options import make_setting_option
from sweeper.cli.terminal import echo_result


@click.command(cls=SweeperCommand)
@click.argument("scores", required=False)
@click.option("--metric", help="Column of the scores [score], metric of the runs, or miou or dice from tp, fp, fn.")
@click.option("--present", help="Method that you use now, to compare the others with and to keep if good enough.")
@click.option(
    "--margin", type=float, help="Difference that does not matter, in the score's unit.  [default: 0.01 within 0 to 1]"
)
@click.option(
    "--lower-is-better/--higher-is-better",
    default=None,
    help="Direction of the score; required unless its name says that higher is better (IoU, Dice, F1).",
)
@click.option("--paired-seeds", is_flag=True, help="A seed means the same initial weights and batches for all methods.")
@click.option("--common", is_flag=True, help="Leave out the images that some run did not score.")
@click.option(
    "--column",
    "columns",
    multiple=True,
    metavar="KEY=NAME",
    help="Other name of the column of method, seed, image, group, class, fold or step: method=model.",
)
@click.option("--ignore", multiple=True, metavar="NAME", help="Column that is of no influence on the scores.")
@make_setting_option("tracking_uri", text="MLflow store of mlflow:EXPERIMENT.")
@click.option(
    "--where", multiple=True, metavar="KEY=VALUE", help="Only MLflow's runs with this parameter, tag or status."
)
@click.option(
    "--at",
    metavar="last|STEP|best:VAL",
    help="Step of each training to compare: the last, a step (5000, epoch=50), or the one where a validation metric is "
    "highest (best:NAME) or lowest (lowest:NAME).  [default: the last, if all end at one step]",
)
@click.option(
    "--level", type=click.FloatRange(0.5, 0.9999), default=0.95, show_default=True, help="Level of the intervals."
)
@click.option(
    "--claim",
    metavar="'B > A by 0.005'",
    help="Check a claim: exit with 0 if it holds, 4 if it is not shown, 5 if it is contradicted.",
)
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), help="Folder for a report with a figure.")
@add_json_option()
def command(
    *,
    scores: str | None,
    columns: tuple[str, ...],
    where: tuple[str, ...],
    out: Path | None,
    as_json: bool,
    **options: Any,
) -> int:
    """Say which method is better, and how sure that is.

    SCORES: a CSV or parquet file with the columns method and score (or tp, fp, fn), and if known seed, image, group,
    class, fold, step; a folder of nnU-Net's results; or mlflow:EXPERIMENT, whose runs have parameters or tags with
    method and seed.
    """
    if scores is None:
        raise click.UsageError("SCORES is needed: a table, a folder of nnU-Net's results or mlflow:EXPERIMENT")
    from sweeper.judging.judgement import judge_scores
    from sweeper.judging.read import read_score_file
    from sweeper.judging.rows import ScoreRequest

    selected = dict(_parse_pair(text, "--where") for text in where)
    request = ScoreRequest(columns=_parse_renamed(columns), where=selected, **options)
    judgement = judge_scores(read_score_file(scores, request), request)
    written = ""
    if out is not None:
        from sweeper.report.judgement import write_judgement

        written = f"\nReport: {write_judgement(judgement, judgement.answer, out)} (report.html next to it)"
    echo_result(judgement.answer, repr(judgement) + written, as_json=as_json)
    return max((CLAIM_STATUS.get(remark.code, 0) for remark in judgement.answer.remarks), default=0)


def _parse_renamed(columns: tuple[str, ...]) -> dict[str, str]:
    from sweeper.judging.rows import KEYS

    renamed = dict(_parse_pair(text, "--column") for text in columns)
    for key in renamed:
        if key not in KEYS:
            raise click.BadParameter(f"KEY must be one of {', '.join(KEYS)}, got {key!r}", param_hint="--column")
    return renamed


def _parse_pair(text: str, option: str) -> tuple[str, str]:
    key, _, value = text.partition("=")
    if not key or not value:
        raise click.BadParameter(f"must be two words joined by =, got {text!r}", param_hint=option)
    return key, value
