"""`sweeper losses`: the loss families, what each searches, when it helps; and the proof that they are what they say."""

from __future__ import annotations

import json
import time
from collections.abc import Container, Iterator, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, ClassVar

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sweeper.cli.options import SweeperCommand
from sweeper.core.document import Document
from sweeper.core.errors import UsageError
from sweeper.core.records import Coordinate
from sweeper.core.text import suggestion
from sweeper.losses.families import FAMILIES, MEANINGS, Family, LossCoordinate

if TYPE_CHECKING:
    from sweeper.losses.certification import Check

WIDE = 110
"""Characters from which on a table has room for the sources."""
SHOWN_FAULTS = 8
"""Failed checks listed for each family and task."""
TASK_WORDS = {"binary": "binary", "multiclass": "multi-class"}
LEGEND = (
    "kernel: a point of λ · CE(γ, α | w) + (1 − λ) · mean (1 − TI(a, b))^κ; standalone: one of its own with the same "
    "conventions."
)


class LossesDocument(Document):
    """What `sweeper losses` prints: the registry."""

    SCHEMA: ClassVar[str] = "sweeper.losses/1"

    families: tuple[Family, ...]


@click.command(cls=SweeperCommand)
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option(
    "--json", "as_json", envvar="SWEEPER_JSON", is_flag=True, help="One JSON document: registry, or all checks."
)
@click.option(
    "--certify",
    "certifying",
    envvar="SWEEPER_CERTIFY",
    is_flag=True,
    help="Prove the losses on this machine; exit status 1 if not.",
)
@click.option("--device", type=click.Choice(["cpu", "cuda"]), help="Where to certify.  [default: cpu]")
def command(names: tuple[str, ...], as_json: bool, certifying: bool, device: str | None) -> int:
    """List the loss families that can be searched, simplest first; of NAME what it searches, its caveat and source."""
    families = _named(names)
    if certifying:
        return _certify(families, device or "cpu", as_json)
    if device is not None:
        raise UsageError(f"--device must go with --certify, got --device {device} alone; add --certify or leave it out")
    if as_json:
        click.echo(json.dumps(LossesDocument(families=tuple(families)).document, indent=2))
        return 0
    console = Console(highlight=False)
    if not names:
        console.print(overview_table())
        console.print(
            "sweeper losses NAME says what a family searches, what to watch, and where it is from.", style="dim"
        )
        return 0
    console.print(families_table(families, console.width))
    console.print(LEGEND, style="dim")
    console.print(
        coordinates_table({name for family in families for task in family.tasks for name in family.coordinates[task]})
    )
    return 0


def _named(names: tuple[str, ...]) -> list[Family]:
    """The families of these names; all where none is given.

    Raises:
        UsageError: naming one that is none, with what is spelt alike.
    """
    for name in names:
        if name not in FAMILIES:
            near = suggestion(name, FAMILIES)
            raise UsageError(f"NAME must be a loss family, got {name!r}{near}; `sweeper losses` lists them")
    return [family for name, family in FAMILIES.items() if not names or name in names]


def overview_table() -> Table:
    """Of each family its name and, up to the first colon, when it helps."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("family", no_wrap=True, style="bold", min_width=max(map(len, FAMILIES)))
    table.add_column("when it helps")
    for family in FAMILIES.values():
        table.add_row(family.name, family.helps.split(":")[0].rstrip("."))
    return table


def families_table(families: Sequence[Family], width: int) -> Table:
    """What each family searches, with the literature's default, when it helps, its formula and its source.

    `width` is that of the terminal in characters: a narrow one has the source below the words instead of beside them.
    """
    wide = width >= WIDE
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("family", no_wrap=True)
    table.add_column("searches [default]", min_width=23)
    table.add_column("when it helps, and what to watch", overflow="fold")
    if wide:
        table.add_column("source", min_width=28, style="dim", overflow="fold")
    for family in families:
        words = Text(family.helps).append(" ").append(family.caveat, style="italic").append(f"\n{family.formula}")
        if family.call:
            words.append(f"\n{family.call}")
        if not wide:
            words.append("\n" + family.source, style="dim")
        name = Text(family.name, style="bold").append(f"\n{_kind(family)}", style="not bold dim")
        cells = [name, Text("\n".join(_searches(family)) or "nothing"), words]
        table.add_row(*cells, *([Text(family.source)] if wide else []), end_section=True)
    return table


def coordinates_table(names: Container[str]) -> Table:
    """What these coordinates mean."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("hyper-parameter", no_wrap=True, style="bold")
    table.add_column("meaning")
    for name, meaning in MEANINGS.items():
        if name in names:
            table.add_row(name, meaning)
    return table


def _kind(family: Family) -> str:
    return "standalone" if family.relative else "kernel"


def _searches(family: Family) -> list[str]:
    """One line per coordinate; the tasks are named where they differ."""
    lines: dict[str, list[str]] = {}
    for task in family.tasks:
        for name, free in family.coordinates[task].items():
            lines.setdefault(_line(name, free), []).append(TASK_WORDS[task])
    return [line if len(tasks) == len(family.tasks) else "\n  ".join([line, *tasks]) for line, tasks in lines.items()]


def _line(name: str, free: LossCoordinate) -> str:
    separator = "\n  " if len(name) > 9 else " "  # long names and ranges do not fit side by side in a narrow column
    if free.search is None:
        return f"{name}{separator}not searched [{free.start if free.default is None else free.default:g}]"
    return f"{name}{separator}{_range(free.search)} [{free.start:g}]"


def _range(search: Coordinate) -> str:
    ends = f"{search.low:g}–{search.high:g}"
    if search.kind == "power_of_imbalance":
        return f"imbalance^({ends})"
    return f"{ends} log" if search.kind == "log" else ends


# --- Certification --------------------------------------------------------------------------------------------------


def _certify(families: Sequence[Family], device: str, as_json: bool) -> int:
    """Run all checks, print them, and say whether all passed: 0 or 1."""
    began = time.monotonic()
    checks = list(_checks(families, device))
    passed = all(check.passed for check in checks)
    if as_json:
        from sweeper.losses.certification import CertificationDocument

        document = CertificationDocument(device=device, torch=version("torch"), passed=passed, checks=tuple(checks))
        click.echo(json.dumps(document.document))
    else:
        console = Console(highlight=False)
        console.print(certification_table(checks))
        console.print(_summary(checks, device, time.monotonic() - began), style="bold green" if passed else "bold red")
    return 0 if passed else 1


def _checks(families: Sequence[Family], device: str) -> Iterator[Check]:
    """All checks, family by family; a terminal shows where it is."""
    from sweeper.losses.certification import certify

    with Console(stderr=True).status("certifying") as status:
        for family in families:
            status.update(f"certifying {family.name}")
            yield from certify(family.name, device)


def certification_table(checks: list[Check]) -> Table:
    """A row for each family and task: how many checks passed, and the names of those that did not, with what was
    measured."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("family", no_wrap=True, style="bold")
    table.add_column("task", no_wrap=True)
    table.add_column("passed", no_wrap=True, justify="right")
    table.add_column("failed", overflow="fold")
    groups: dict[tuple[str, str], list[Check]] = {}
    for check in checks:
        groups.setdefault((check.family, check.task), []).append(check)
    for (family, task), group in groups.items():
        failed = [check for check in group if not check.passed]
        count = Text(f"{len(group) - len(failed)}/{len(group)}", style="red" if failed else "green")
        faults = [f"- {check.name} ({check.precision}): {check.detail}" for check in failed[:SHOWN_FAULTS]]
        if len(failed) > SHOWN_FAULTS:
            faults.append(f"- and {len(failed) - SHOWN_FAULTS} more; --json has them all")
        table.add_row(family, TASK_WORDS[task], count, Text("\n".join(faults) or "none"))
    return table


def _summary(checks: list[Check], device: str, seconds: float) -> str:
    failed = sum(not check.passed for check in checks)
    precisions = ", ".join(dict.fromkeys(check.precision for check in checks))
    outcome = f"{failed} of {len(checks)} checks FAILED" if failed else f"all {len(checks)} checks passed"
    return f"{outcome} on {device} in {seconds:.0f} s ({precisions}; torch {version('torch')})"
