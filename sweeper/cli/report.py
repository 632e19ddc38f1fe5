"""`sweeper report`: write a study's report again."""

from __future__ import annotations

import json
from pathlib import Path

import click

from sweeper.cli.options import SweeperCommand, add_json_option
from sweeper.cli.settings_options import make_setting_option


@click.command(cls=SweeperCommand)
@click.argument("study", metavar="STUDY")
@make_setting_option("storage")
@make_setting_option("out")
@click.option(
    "--ui-url", default="http://127.0.0.1:5000", show_default=True, help="Address of MLflow's pages in links to runs."
)
@add_json_option()
def command(study: str, *, storage: str, out: Path, ui_url: str, as_json: bool) -> None:
    """Write the report of STUDY again, from only its storage."""
    from sweeper.cli.answer import format_answer
    from sweeper.storage import open_storage
    from sweeper.workflow.conclude import report_study
    from sweeper.workflow.request_checks import check_writable

    opened = open_storage(storage, create=False)
    check_writable(out)
    outcome = report_study(opened, study, out=out, ui_url=ui_url)
    stored = outcome.paths.recommendation
    text = format_answer(outcome, storage=storage)
    click.echo(json.dumps(json.loads(stored.read_text("utf-8")), indent=2) if as_json else text)
