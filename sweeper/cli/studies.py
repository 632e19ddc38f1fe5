"""`sweeper studies`: list the studies of a storage, say how they are doing, delete, back up and synchronise one."""

from __future__ import annotations

import sqlite3
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from sweeper.cli.options import SweeperCommand, add_json_option, format_columns
from sweeper.cli.settings_options import make_setting_option
from sweeper.cli.slips import explain_place
from sweeper.cli.terminal import echo_lines, echo_result
from sweeper.core.errors import MissingStudyError, SweeperError, UsageError
from sweeper.core.paths import CACHE, COMPARISONS
from sweeper.core.redact import hide_address_secrets
from sweeper.core.text import escape_for_display, format_count, format_duration, join_words, suggest_or_list

if TYPE_CHECKING:
    from sweeper.workflow.status import StatusRow

HELP = ("-h", "--help")


class StudiesGroup(SweeperCommand, click.Group):
    """Group of the actions on studies; without an action they are listed."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Insert `list` if no action is given."""
        first = args[0] if args else "-"
        has_action = first in HELP or not first.startswith("-")
        return super().parse_args(ctx, args if has_action else ["list", *args])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the action.

        Raises:
            click.UsageError: if it does not exist, with a similar name.
        """
        if args[0] not in self.commands:
            near = explain_place(args[0], ["studies show"], otherwise=suggest_or_list(args[0], self.commands))
            ctx.fail(f"no such action, {args[0]!r}{near}")
        return super().resolve_command(ctx, args)


@click.group(cls=StudiesGroup, context_settings={"help_option_names": HELP})
def command() -> None:
    """List studies, say how they are doing, delete, back up and synchronise them. Without an action: list them."""


@command.command("list", cls=SweeperCommand)
@make_setting_option("storage")
@add_json_option()
def _list_studies(storage: str, as_json: bool) -> None:
    """List the studies, and the comparisons in your scripts, with state, answer and loss."""
    from sweeper.storage import open_storage
    from sweeper.workflow.studies import StudiesDocument, list_comparison_rows, list_study_rows

    compared, rows = list_comparison_rows(), []
    try:
        rows = list_study_rows(open_storage(storage, create=False), storage)
    except MissingStudyError:
        if not compared:
            raise
    lines: list[tuple[str, ...]] = [("study", "state", "trials", "confirmations", "answer", "loss")]
    for row in (*rows, *compared):
        answer = ", ".join(filter(None, [row.outcome, row.sure])) or "–"
        best = "–" if row.score is None else f"{row.loss} {row.score:.3f} ({row.on})"
        counts = (f"{row.trials}/{row.asked}", f"{row.confirmations}")
        cells = (row.study, row.state, *counts, answer, row.problem or best)
        lines.append(tuple(map(escape_for_display, cells)))
    places = [f"{format_count(len(rows), 'study')} in {hide_address_secrets(storage)}"]
    places += [f"{format_count(len(compared), 'comparison')} in {COMPARISONS}"] * bool(compared)
    text = f"{format_columns(lines)}\n{join_words(places)}"
    echo_result(StudiesDocument(studies=(*rows, *compared)), text, as_json=as_json)


@command.command("show", cls=SweeperCommand)
@click.argument("study", required=False)
@make_setting_option("storage")
@add_json_option()
def _show_status(study: str | None, *, storage: str, as_json: bool) -> int:
    """Say of STUDY (default: of every study of this storage, and comparison here) whether it runs and makes progress.

    The exit status is 0 if all is well (running, finished, or stopped by a signal), 1 if somebody should look (the
    process is gone, silent for 5 minutes, 3 trainings in a row failed, an error ended it), and 2 if nothing is known.
    It reads `.sweeper/status` next to the SQLite file (else in the working folder) and `.sweeper/confirm` here, and
    does not open the database.
    """
    from sweeper.workflow.status import StatusDocument, diagnose_studies

    rows = diagnose_studies(storage, study)
    ok = all(row.ok for row in rows)
    echo_result(StatusDocument(ok=ok, studies=rows), "\n".join(map(_format_status, rows)), as_json=as_json)
    return int(not ok)


def _format_status(row: StatusRow) -> str:
    counts = f" {row.done}/{row.total}" if row.total else ""
    stalled, silent = format_duration(row.stalled_seconds), format_duration(row.silent_seconds)
    answer = row.answer or "none yet"
    health = "ok" if row.ok else "PROBLEM"
    lines = [
        f"{health:7}  {row.study}: {row.state}, {row.phase or 'preparing'}{counts}, last "
        f"progress {stalled} ago, last sign of life {silent} ago (process {row.pid} on {row.host})",
        f"answer: {answer}",
        *(f"→ {problem}" for problem in row.problems),
    ]
    return "\n         ".join(lines)


@command.command("delete", cls=SweeperCommand)
@click.argument("study")
@make_setting_option("storage")
@make_setting_option("out")
@click.option("--yes", is_flag=True, help="Delete without asking.")
def _delete_study(study: str, *, storage: str, out: Path, yes: bool) -> None:
    """Delete the records, paused trainings and weights of STUDY."""
    from sweeper.storage import open_storage
    from sweeper.workflow.studies import plan_deletion, remove_study

    opened = open_storage(storage, create=False)
    deletion = plan_deletion(opened, storage, study, cache=CACHE, out=out)
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError(f"delete asks before it deletes, and nobody can answer here; add --yes to delete {study}")
        echo_lines(f"This goes for good:\n{deletion.goes}\nThis stays:\n{deletion.stays}", err=True)
        click.confirm("Delete?", abort=True, err=True)
    remove_study(opened, storage, study, deletion)
    echo_lines(f"Deleted:\n{deletion.goes}\nKept:\n{deletion.stays}")


@command.command("backup", cls=SweeperCommand)
@click.argument("study")
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@make_setting_option("storage", text="Optuna's storage: sqlite:///FILE.")
def _back_up_study(study: str, file: Path, *, storage: str) -> None:
    """Copy the database that holds STUDY to FILE, whole and at one instant, and check the study's records in it.

    A plain copy of sweeper.db may be torn while a sweep writes. To restore: stop the sweep, move sweeper.db,
    sweeper.db-wal and sweeper.db-shm away, and copy FILE to sweeper.db; or name FILE itself:
    --storage sqlite:///FILE.
    """
    from sweeper.storage.database import back_up_database

    try:
        size = back_up_database(storage, study, file)
    except (OSError, sqlite3.Error) as error:
        raise SweeperError(f"{file} could not be written: {error}") from error
    echo_lines(f"{file}: {size / 1e6:.1f} MB, every record of study {study} is whole")


@command.command("sync", cls=SweeperCommand)
@click.argument("study")
@make_setting_option("storage")
@make_setting_option("tracking_uri", text="MLflow store to write the runs to.")
@make_setting_option("out")
def _sync_study(study: str, *, storage: str, tracking_uri: str, out: Path) -> None:
    """Write to MLflow what it lacks of STUDY, from the study's storage.

    Use it if the store was lost, was unreachable at the end of a sweep, or is to have a copy. Existing runs are
    completed, not duplicated, so the command may be repeated. No sweep may be running the study meanwhile.
    """
    from sweeper.cli.progress import PlainDisplay
    from sweeper.workflow.mlflow_sync import sync_mlflow
    from sweeper.workflow.request_checks import check_writable

    check_writable(out)
    done = sync_mlflow(storage, study, tracking_uri=tracking_uri, out=out, warn=PlainDisplay().warn)
    echo_lines(
        f"study {study}: MLflow at {hide_address_secrets(tracking_uri)} has the runs of "
        f"{format_count(done.trainings, 'training')}: {done.made} made, {done.completed} completed, the others were "
        "whole"
    )
