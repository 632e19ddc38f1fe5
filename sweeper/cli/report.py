"""`sweeper report`: write a study's report again."""

from __future__ import annotations

import json
from pathlib import Path

import click

from sweeper import paths


@click.command()
@click.argument("study")
@click.option("--storage", default=paths.STORAGE, show_default=True, help="Optuna's storage: sqlite:///FILE.")
@click.option("--out", type=click.Path(file_okay=False, path_type=Path), default=paths.REPORTS, show_default=True)
@click.option("--ui-url", default="http://127.0.0.1:5000", show_default=True, help="Where the links to runs point.")
@click.option("--json", "as_json", envvar="SWEEPER_JSON", is_flag=True, help="Print one JSON document alone.")
def command(study: str, storage: str, out: Path, ui_url: str, as_json: bool) -> None:
    """Write the report of STUDY again, from its storage alone."""
    from sweeper.cli.answer import answer_text
    from sweeper.conclude import report_study
    from sweeper.prepare import check_writable
    from sweeper.study.storage import open_storage

    check_writable(out)
    outcome = report_study(open_storage(storage, create=False), study, out=out, ui_url=ui_url)
    if as_json:
        click.echo(json.dumps(json.loads(outcome.paths.recommendation.read_text("utf-8")), indent=2))
    else:
        click.echo(answer_text(outcome))
