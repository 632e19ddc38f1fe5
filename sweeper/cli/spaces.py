"""`sweeper spaces`: list or print the shipped search spaces."""

from __future__ import annotations

import click

from sweeper.cli.options import SweeperCommand
from sweeper.space import get_space_path, list_shipped_spaces, load_space


@click.command(cls=SweeperCommand)
@click.argument("name", required=False)
def command(name: str | None) -> None:
    """List the shipped search spaces, or print the YAML of NAME (a shipped name or a file)."""
    if name is not None:
        load_space(name)  # refuses a file with all of its mistakes
        click.echo(get_space_path(name).read_text(encoding="utf-8-sig"), nl=False)
        return
    for shipped in list_shipped_spaces():
        space = load_space(shipped)
        click.echo(f"{shipped} ({space.task}): {', '.join(space.by_name)}")
