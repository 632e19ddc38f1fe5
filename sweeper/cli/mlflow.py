"""`sweeper mlflow`: write to MLflow what it lacks of a study."""

from __future__ import annotations

from pathlib import Path

import click

from sweeper.cli.options import SweeperCommand, add_json_option
from sweeper.cli.progress import PlainDisplay
from sweeper.cli.settings_options import make_setting_option
from sweeper.cli.terminal import echo_result
from sweeper.core.text import format_count


@click.command(cls=SweeperCommand)
@click.argument("study")
@make_setting_option("storage")
@make_setting_option("tracking_uri", text="MLflow store to write the runs to.")
@make_setting_option("out")
@add_json_option()
def command(study: str, *, storage: str, tracking_uri: str, out: Path, as_json: bool) -> None:
    """Write to MLflow what it lacks of STUDY, from the study's storage.

    Use it if the store was lost, was unreachable at the end of a sweep, or is to have a copy. Existing runs are
    completed, not duplicated, so the command may be repeated. No sweep may be running the study meanwhile.
    """
    from sweeper.workflow.mlflow_sync import sync_mlflow
    from sweeper.workflow.request_checks import check_writable

    check_writable(out)
    done = sync_mlflow(storage, study, tracking_uri=tracking_uri, out=out, warn=PlainDisplay().warn)
    text = (
        f"study {study}: MLflow at {done.tracking_uri} has the runs of {format_count(done.trainings, 'training')}: "
        f"{done.made} made, {done.completed} completed, the others were whole"
    )
    echo_result(done, text, as_json=as_json)
