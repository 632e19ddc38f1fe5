"""`sweeper studies`: list the studies of a storage, or delete one."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import ClassVar

import click

from sweeper.cli.options import SweeperCommand, add_json_option, format_columns
from sweeper.cli.settings_options import make_setting_option
from sweeper.cli.terminal import echo_result
from sweeper.core.document import Document
from sweeper.core.errors import UsageError
from sweeper.core.redact import hide_address_secrets
from sweeper.core.text import escape_for_display, format_count


class DeletedDocument(Document):
    """Document that `sweeper studies delete` prints."""

    SCHEMA: ClassVar[str] = "sweeper.deleted/1"

    study: str
    deleted: tuple[str, ...]
    """Deleted records and files, as text."""
    kept: tuple[str, ...]
    """Kept records and files, as text."""
    bytes: int
    """Size of the deleted files."""


@click.command("studies", cls=SweeperCommand)
@click.argument("action", type=click.Choice(["list", "delete"]), default="list")
@click.argument("study", required=False)
@make_setting_option("storage")
@make_setting_option("out")
@make_setting_option("cache", text="Cache folder of the sweeps; paused trainings and weights are next to it.")
@click.option("--yes", is_flag=True, help="Delete without asking.")
@add_json_option()
def command(action: str, study: str | None, *, storage: str, out: Path, cache: Path, yes: bool, as_json: bool) -> None:
    """List the studies with state, verdict and best loss, or delete one.

    \b
    sweeper studies                 list them
    sweeper studies delete STUDY    delete its records, paused trainings and weights
    """
    from sweeper.storage import open_storage
    from sweeper.workflow.studies import StudiesDocument, list_study_rows

    if action == "delete":
        if study is None:
            raise UsageError("delete needs a STUDY, got none; `sweeper studies` lists them")
        _delete(study, storage=storage, out=out, cache=cache, yes=yes, as_json=as_json)
        return
    if study is not None or yes:
        raise UsageError(
            "STUDY and --yes are for delete; `sweeper studies` lists all, `sweeper report STUDY` shows one"
        )
    rows = list_study_rows(open_storage(storage, create=False), storage)
    lines = [("study", "state", "trials", "confirmations", "verdict", "best")]
    for row in rows:
        verdict = ", ".join(filter(None, [row.action, row.verdict])).replace("_", " ") or "–"
        best = "–" if row.best is None else f"{row.family} {row.best:.3f} ({row.on})"
        counts = (f"{row.trials}/{row.asked}", str(row.confirmations) if row.confirmations else "–")
        lines.append(
            (escape_for_display(row.study), row.state, *counts, verdict, escape_for_display(row.problem or best))
        )
    text = f"{format_columns(lines)}\n{format_count(len(rows), 'study')} in {hide_address_secrets(storage)}"
    echo_result(StudiesDocument(studies=tuple(rows)), text, as_json=as_json)


def _delete(study: str, *, storage: str, out: Path, cache: Path, yes: bool, as_json: bool) -> None:
    from sweeper.storage import open_storage
    from sweeper.workflow.studies import plan_deletion, remove_study

    opened = open_storage(storage, create=False)
    deletion = plan_deletion(opened, storage, study, cache=cache, out=out)
    goes = [
        f"{format_count(deletion.trainings, 'training')} of study {study} in {hide_address_secrets(storage)}",
        *map(str, deletion.files),
    ]
    stays = [f"decoded images in {cache}"]
    stays += [f"the report in {deletion.report}"] if deletion.report is not None else []
    stays += [f"{path}, which may be of another study of this name" for path in deletion.doubtful]
    stays += [f"MLflow's runs (of parent run {deletion.mlflow})"] if deletion.mlflow is not None else []
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError(f"delete asks before it deletes, and nobody can answer here; add --yes to delete {study}")
        click.echo("This goes for good:\n" + "".join(f"  - {line}\n" for line in goes), err=True, nl=False)
        click.echo("This stays:\n" + "".join(f"  - {line}\n" for line in stays), err=True, nl=False)
        click.confirm("Delete?", abort=True, err=True)
    remove_study(opened, storage, study, deletion)
    count, size = format_count(deletion.trainings, "training"), deletion.bytes / 1e6
    text = f"deleted study {study}: {count}, {size:.1f} MB of files\nkept: {'; '.join(stays)}"
    gone = DeletedDocument(study=study, deleted=tuple(goes), kept=tuple(stays), bytes=deletion.bytes)
    echo_result(gone, text, as_json=as_json)
