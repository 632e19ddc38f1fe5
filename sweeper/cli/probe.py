"""`sweeper probe`: check whether losses can be compared in the user's training script."""

from __future__ import annotations

import click

from sweeper.cli.options import SweeperCommand, add_json_option
from sweeper.cli.terminal import echo_result
from sweeper.workflow.settings import parse_duration


def _read_duration(_: click.Context, __: click.Parameter, text: str | None) -> float | None:
    try:
        return None if text is None else parse_duration(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


@click.command(cls=SweeperCommand)
@click.option("--command", "script", required=True, help="Command that starts the script, such as 'python train.py'.")
@click.option(
    "--time-limit",
    metavar="DURATION",
    callback=_read_duration,
    help="Longest time of one start (5400, 90m, 1h30m).  [default: 10m]",
)
@click.option(
    "--write-helper", is_flag=True, help="Write sweeper_trial.py into the script's folder, and start nothing."
)
@add_json_option()
def command(*, script: str, time_limit: float | None, write_helper: bool, as_json: bool) -> None:
    """Start your own training script five times, briefly: do seed, loss and rate take effect, do scores come back?

    The script takes them from sweeper_trial (docs/how-to/your-training.md). {seed}, {lr_factor}, {share}, {folder},
    {family} and {fold} in the command become the training's values. It reports what it cannot prove; what makes a
    comparison impossible is an error, status 2.
    """
    from sweeper.scripts import contract
    from sweeper.scripts.launch import split_command
    from sweeper.scripts.probe import START_SECONDS, probe_script

    if write_helper:
        click.echo(f"{contract.write_helper(split_command(script))} is written")
        return
    document = probe_script(script, seconds=time_limit or START_SECONDS, log=lambda line: click.echo(line, err=True))
    echo_result(document, document.text, as_json=as_json)
