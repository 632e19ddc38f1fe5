"""`sweeper report`: write a study's report again, or set several studies side by side."""

from __future__ import annotations

import json
from pathlib import Path

import click

from sweeper.cli.options import SweeperCommand, json_option, miss_option
from sweeper.cli.settings_options import setting
from sweeper.core.records import MissLimit


@click.command(cls=SweeperCommand)
@click.argument("studies", metavar="STUDY...", nargs=-1, required=True)
@miss_option()
@click.option("--compare", is_flag=True, help="Print two or more studies side by side: which loss where.")
@setting("storage")
@setting("out")
@click.option("--ui-url", default="http://127.0.0.1:5000", show_default=True, help="Where the links to runs point.")
@json_option()
def command(
    studies: tuple[str, ...],
    *,
    limit: MissLimit | None,
    compare: bool,
    storage: str,
    out: Path,
    ui_url: str,
    as_json: bool,
) -> None:
    """Write the report of STUDY again, from its storage alone; --compare prints several side by side."""
    from sweeper.cli.answer import answer_text
    from sweeper.report.compare import comparison, comparison_text
    from sweeper.storage import open_storage
    from sweeper.workflow.conclude import report_study
    from sweeper.workflow.request_checks import check_writable
    from sweeper.workflow.studies import compare_studies

    if len(studies) > 1 and not compare:
        raise click.UsageError(f"one STUDY must be named, got {len(studies)}; --compare sets them side by side")
    if compare and limit is not None:
        raise click.UsageError("--miss-at-most is a limit of one study's network; leave --compare out")
    opened = open_storage(storage, create=False)
    if compare:
        found = compare_studies(opened, studies)
        click.echo(json.dumps(comparison(found).document, indent=2) if as_json else comparison_text(found))
        return
    check_writable(out)
    outcome = report_study(opened, studies[0], out=out, ui_url=ui_url, limit=limit)
    stored = outcome.paths.recommendation
    text = answer_text(outcome, storage=storage)
    click.echo(json.dumps(json.loads(stored.read_text("utf-8")), indent=2) if as_json else text)
