"""`sweeper losses`: the loss families, what each searches, and when it helps."""

from __future__ import annotations

import json

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sweeper.losses.coordinates import MEANINGS
from sweeper.losses.families import FAMILIES, Family, LossCoordinate
from sweeper.records import Coordinate

WIDE = 100
"""Characters from which on a table has room for the sources."""


@click.command()
@click.option("--json", "as_json", envvar="SWEEPER_JSON", is_flag=True, help="Print the registry as one JSON document.")
def command(as_json: bool) -> None:
    """List the loss families that can be searched, simplest first."""
    if as_json:
        click.echo(json.dumps([family.model_dump(mode="json") for family in FAMILIES.values()], indent=2))
        return
    console = Console(highlight=False)
    console.print(families_table(console.width))
    console.print(coordinates_table())


def families_table(width: int) -> Table:
    """What each family searches, with the literature's default, when it helps, and its source.

    `width` is that of the terminal in characters: a narrow one has the source below the words instead of beside them.
    """
    wide = width >= WIDE
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("family", no_wrap=True, style="bold")
    table.add_column("searches [default]", min_width=23)
    table.add_column("when it helps, and what to watch", overflow="fold")
    if wide:
        table.add_column("source", min_width=28, style="dim", overflow="fold")
    for family in FAMILIES.values():
        words = Text(family.helps).append(" ").append(family.caveat, style="italic")
        if not wide:
            words.append("\n" + family.source, style="dim")
        cells = [Text(family.name), Text("\n".join(_searches(family)) or "nothing"), words]
        table.add_row(*cells, *([Text(family.source)] if wide else []), end_section=True)
    return table


def coordinates_table() -> Table:
    """What the coordinates mean."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("coordinate", no_wrap=True, style="bold")
    table.add_column("meaning")
    for name, meaning in MEANINGS.items():
        table.add_row(name, meaning)
    return table


def _searches(family: Family) -> list[str]:
    """One line per searched coordinate; the task is named where the tasks differ."""
    lines: dict[str, list[str]] = {}
    for task in family.tasks:
        for name, free in family.searched(task).items():
            lines.setdefault(_line(name, free), []).append("binary" if task == "binary" else "multi-class")
    return [line if len(tasks) == len(family.tasks) else f"{line}\n  {tasks[0]}" for line, tasks in lines.items()]


def _line(name: str, free: LossCoordinate) -> str:
    assert free.search is not None
    separator = "\n  " if len(name) > 9 else " "  # long names and ranges do not fit side by side in a narrow column
    return f"{name}{separator}{_range(free.search)} [{free.start:g}]"


def _range(search: Coordinate) -> str:
    ends = f"{search.low:g}–{search.high:g}"
    return f"imbalance^({ends})" if search.kind == "power_of_imbalance" else ends
