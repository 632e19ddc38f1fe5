"""`sweeper probe`: whether losses can be compared in the user's training script."""

from __future__ import annotations

import json
from typing import get_args

import click

from sweeper.cli.options import SweeperCommand, add_json_option


@click.command(cls=SweeperCommand)
@click.option("--command", "script", required=True, help="How the script is started, such as 'python train.py'.")
@click.option("--splits", default="val,test", show_default=True, help="Splits whose scores are wanted.")
@click.option(
    "--calls", type=click.IntRange(2, 10_000), default=4, show_default=True, help="Calls of the loss to look at first."
)
@click.option(
    "--time-limit", type=click.FloatRange(1), default=600, show_default=True, help="Seconds that one start may take."
)
@click.option(
    "--write-helper", is_flag=True, help="Write sweeper_trial.py into the script's folder, and start nothing."
)
@add_json_option()
def command(*, script: str, splits: str, calls: int, time_limit: float, write_helper: bool, as_json: bool) -> None:
    """Start your own training script five times, briefly: do seed, loss and learning rate arrive, do scores come back?

    The script takes them from sweeper_trial (docs/how-to/your-training.md). {seed}, {lr_factor}, {share}, {folder},
    {family} and {fold} in the command become the training's values. What it cannot prove it says; what makes a
    comparison impossible is an error, status 2.
    """
    from sweeper.scripts import contract
    from sweeper.scripts.launch import split_command
    from sweeper.scripts.probe import probe_script

    if write_helper:
        click.echo(f"{contract.write_helper(split_command(script))} is written")
        return
    wanted_splits = {part.strip() for part in splits.split(",")}
    wanted = tuple(split for split in get_args(contract.Split) if split in wanted_splits)
    if wanted_splits != {*wanted}:
        raise click.BadParameter(f"must be val, test or val,test, got {splits!r}", param_hint="--splits")
    document = probe_script(
        script, calls=calls, splits=wanted, seconds=time_limit, say=lambda line: click.echo(line, err=True)
    )
    click.echo(json.dumps(document.document, indent=2) if as_json else document.text)
