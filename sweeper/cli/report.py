"""`sweeper report`: write a study's report again, or set several studies side by side."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sweeper.cli.completion import study_names
from sweeper.cli.options import SweeperCommand, json_option, out_option, storage_option, tracking_option
from sweeper.core import paths
from sweeper.core.redact import redact
from sweeper.core.text import count

if TYPE_CHECKING:
    from optuna.storages import RDBStorage


def send_kept(opened: RDBStorage, name: str, storage: str, tracking_uri: str) -> None:
    """Tell MLflow what it was not told while it was away, before the report links to its runs."""
    from sweeper.system.locks import spool_folder

    folder = spool_folder(storage)
    if not paths.spool_file(folder, name, tracking_uri).exists():
        return
    from sweeper.storage import load_study, note_runs
    from sweeper.tracking import send_spooled

    study = load_study(opened, name)

    def say(text: str) -> None:
        click.echo(redact(text), err=True)

    def warn(text: str) -> None:
        say(f"warning: {text}")

    sent, left = send_spooled(tracking_uri, folder, name, warn=warn, found=lambda runs: note_runs(study, runs), say=say)
    say(f"MLflow was told {count(sent, 'operation')} that it had missed")
    if left:
        waiting = count(left, "operation still waits", "operations still wait")
        warn(f"{waiting} for MLflow; when it answers, the same command sends what is left")


@click.command(cls=SweeperCommand)
@click.argument("studies", metavar="STUDY...", nargs=-1, required=True, shell_complete=study_names)
@click.option("--compare", is_flag=True, help="Set two or more studies side by side: which loss where.")
@storage_option()
@tracking_option("is told what it could not be told during the sweep, if anything")
@out_option()
@click.option("--ui-url", default="http://127.0.0.1:5000", show_default=True, help="Where the links to runs point.")
@json_option()
def command(
    studies: tuple[str, ...],
    *,
    compare: bool,
    storage: str,
    tracking_uri: str,
    out: Path,
    ui_url: str,
    as_json: bool,
) -> None:
    """Write the report of STUDY again, from its storage alone; with --compare, of several studies side by side."""
    from sweeper.cli.answer import answer_text, comparison_text
    from sweeper.storage import open_storage
    from sweeper.workflow.compare import compare_studies
    from sweeper.workflow.conclude import report_study
    from sweeper.workflow.request_checks import check_writable

    if len(studies) > 1 and not compare:
        raise click.UsageError(f"one STUDY must be named, got {len(studies)}; --compare sets them side by side")
    check_writable(out)
    opened = open_storage(storage, create=False)
    for name in studies:
        send_kept(opened, name, storage, tracking_uri)
    if compare:
        compared = compare_studies(opened, studies, out=out, ui_url=ui_url)
        document, text = compared.paths.document, comparison_text(compared)
    else:
        outcome = report_study(opened, studies[0], out=out, ui_url=ui_url)
        document, text = outcome.paths.recommendation, answer_text(outcome)
    click.echo(json.dumps(json.loads(document.read_text("utf-8")), indent=2) if as_json else text)
