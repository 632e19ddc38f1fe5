"""`sweeper report`: write a study's report again."""

from __future__ import annotations

from pathlib import Path

import click

from sweeper.cli.options import SweeperCommand, add_json_option
from sweeper.cli.settings_options import make_setting_option
from sweeper.cli.terminal import echo_result, format_ending


@click.command(cls=SweeperCommand)
@click.argument("study", metavar="STUDY")
@make_setting_option("storage")
@make_setting_option("out")
@add_json_option()
def command(study: str, *, storage: str, out: Path, as_json: bool) -> None:
    """Write the report of STUDY again, from only its storage."""
    from sweeper.storage import open_storage
    from sweeper.workflow.conclude import report_study
    from sweeper.workflow.request_checks import check_writable

    opened = open_storage(storage, create=False)
    check_writable(out)
    outcome = report_study(opened, study, out=out)
    echo_result(outcome.document, format_ending(outcome), as_json=as_json)
