"""`sweeper run`: search, confirm, recommend."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource
from rich.console import Console

from sweeper.cli.options import add_json_option
from sweeper.cli.progress import LiveDisplay, PlainDisplay
from sweeper.cli.settings_options import RunCommand, add_options, format_option_name
from sweeper.cli.signals import StopRequest
from sweeper.cli.slips import QUOTED_PATTERNS
from sweeper.cli.terminal import echo_result, format_ending
from sweeper.core.errors import OutputError
from sweeper.core.options import make_options
from sweeper.system.streams import check_output
from sweeper.workflow.settings import OF_SWEEPER, Settings


@click.command(cls=RunCommand)
@click.argument("data", required=False, envvar="SWEEPER_DATA")
@add_options(Settings)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Print the plan, and keep nothing: images are decoded into a temporary folder (TMPDIR).",
)
@add_json_option()
@click.option("-v", "--verbose", is_flag=True, help="Print a line for every evaluation.")
@click.option("-q", "--quiet", is_flag=True, help="Print only warnings and the result.")
def command(*, data: str | None, dry_run: bool, as_json: bool, verbose: bool, quiet: bool, **options: Any) -> None:
    """Search over losses, confirm the best on a locked test split, and recommend one.

    DATA is a folder, zip or annotation file, or synthetic:NAME?key=value (default: synthetic:street).

    \b
    sweeper run                             on a synthetic data set
    sweeper run FOLDER --trials 50          on the images and labels in FOLDER
    sweeper run --study NAME --resume       continue a study
    """
    ctx = click.get_current_context()
    by_default = {name for name in options if ctx.get_parameter_source(name) is ParameterSource.DEFAULT}
    if options["command"] is not None:  # the environment may set options of sweeper's own training for other runs
        by_default |= {name for name in OF_SWEEPER if ctx.get_parameter_source(name) is ParameterSource.ENVIRONMENT}
    if data is not None:
        has_patterns = options["images"] or options["masks"]
        is_one_of_many = has_patterns and Path(data).is_file()
        if is_one_of_many and not data.endswith(".zip"):
            raise click.UsageError(f"Got unexpected extra argument ({data}). {QUOTED_PATTERNS}")
        options["data"] = data
    given = {name: value for name, value in options.items() if name not in by_default}
    settings = make_options(Settings, given, "the sweep", format_option_name)
    run_with(settings, dry_run=dry_run, as_json=as_json, verbose=verbose, quiet=quiet)


def run_with(settings: Settings, *, dry_run: bool, as_json: bool, verbose: bool = False, quiet: bool = False) -> None:
    """Run a study with these settings, and print its answer."""
    if dry_run:
        from sweeper.workflow.dry_run import format_preview, make_preview

        preview = make_preview(settings, PlainDisplay(-1 if as_json else 0))
        echo_result(preview, format_preview(preview), as_json=as_json)
        return
    from sweeper.workflow.executor_choice import start_sweep

    console = Console(stderr=True)
    level = 1 if verbose else -int(quiet)
    can_redraw = console.is_terminal and not console.is_dumb_terminal
    is_live = can_redraw and level == 0
    display = LiveDisplay(console) if is_live else PlainDisplay(level)
    try:
        with StopRequest(display.warn, whole=True) as stop:
            outcome = start_sweep(settings, display, stop)
    finally:
        display.close()
    stored = outcome.paths.recommendation
    echo_result(outcome.document, format_ending(outcome), as_json=as_json)
    try:
        check_output()
    except OutputError as error:
        raise OutputError(f"{error}. It is stored: {stored} and {outcome.paths.markdown}") from error
