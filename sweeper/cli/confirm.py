"""`sweeper confirm`: losses compared in the user's own training script."""

from __future__ import annotations

from functools import partial
from typing import Any

import click
from click.core import ParameterSource

from sweeper.cli.options import SweeperCommand, add_json_option
from sweeper.cli.run import run_with
from sweeper.cli.settings_options import add_options, format_option_name
from sweeper.cli.signals import StopRequest
from sweeper.cli.terminal import echo_result
from sweeper.core.options import make_options
from sweeper.workflow.settings import ConfirmOptions, Settings


@click.command(cls=SweeperCommand)
@click.argument("source", required=False, metavar="[STUDY|DATA]")
@add_options(ConfirmOptions)
@click.option(
    "--dry-run", is_flag=True, help="Probe the script, print what it costs and how precise it will be, and end."
)
@add_json_option()
def command(source: str | None, *, dry_run: bool, as_json: bool, **values: Any) -> None:
    """Compare losses, STUDY's finalists or --losses, in your own training script; without one on DATA.

    The script is probed first (`sweeper probe`). Then each loss tries some learning rates on short trainings, and is
    trained on the same fresh seeds as all others, until the answer is known or --seeds are used up.

    \b
    sweeper confirm STUDY --command "python train.py"                     the finalists of a study
    sweeper confirm --losses dice_ce,tversky --command "python train.py"  these, and cross-entropy
    sweeper confirm --losses dice_ce --present my_losses:mine --command "python train.py"
    sweeper confirm FOLDER --losses dice_ce,tversky:fn_weight=0.7         a study of these, without a script
    """
    ctx = click.get_current_context()
    given = {name: value for name, value in values.items() if ctx.get_parameter_source(name) != ParameterSource.DEFAULT}
    options = make_options(ConfirmOptions, given, "the comparison", format_option_name)
    if (of_study := options.list_study_options(source)) is not None:
        settings = make_options(Settings, of_study, "the sweep", format_option_name)
        run_with(settings, dry_run=dry_run, as_json=as_json)
        return
    from sweeper.workflow.comparison import compare_losses  # takes a second

    log, show = partial(click.echo, err=True), partial(echo_result, as_json=as_json)
    with StopRequest(log, whole=True) as stop:
        compare_losses(source, options, stop, log=log, show=show, dry_run=dry_run)
