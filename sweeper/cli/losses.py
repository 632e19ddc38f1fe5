"""`sweeper losses`: the loss families, what each searches, when it helps; and the proof that they are what they say."""

from __future__ import annotations

import json
import shutil
import textwrap
import time
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, ClassVar

import click
from rich.console import Console

from sweeper.cli.options import SweeperCommand
from sweeper.core.document import Document
from sweeper.core.errors import UsageError
from sweeper.core.records import Coordinate
from sweeper.core.text import suggestion
from sweeper.losses.families import FAMILIES, MEANINGS, Family

if TYPE_CHECKING:
    from sweeper.losses.certification import Check

COLUMN = 18
"""Characters of a label; no family has a longer name."""
SHOWN_FAULTS = 20
"""Failed checks that are listed; --json has all."""
TASK_WORDS = {"binary": "binary", "multiclass": "multi-class"}


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
    help="Try slopes, ignored pixels, extreme inputs and precision of the losses on this machine; exit status 1 if one "
    "fails. Their formulas are tested, not tried here.",
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
    click.echo("\n\n".join(map(_family_text, families)) if names else _overview())
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


def _overview() -> str:
    """Of each family its name and, up to the first colon, when it helps."""
    lines = [_paragraph(family.name, family.helps.split(":")[0].rstrip(".")) for family in FAMILIES.values()]
    hint = "sweeper losses NAME says what a family searches, what to watch, and where it is from."
    return "\n".join([*lines, "", textwrap.fill(hint, _width())])


def _family_text(family: Family) -> str:
    """When a family helps, what it searches with the literature's default, its formula and its source."""
    tasks = " and ".join(TASK_WORDS[task] for task in family.tasks)
    lines = [f"{family.name} ({'standalone' if family.relative else 'kernel'}; {tasks})"]
    lines.append(_paragraph("helps", family.helps))
    lines.append(_paragraph("watch", family.caveat))
    for (name, value), having in _searches(family).items():
        alone = f" ({having[0]})" if len(having) < len(family.tasks) else ""
        lines.append(_paragraph("searches", f"{name} {value}{alone}: {MEANINGS[name]}"))
    lines.append(_paragraph("formula", family.formula))
    if family.call:
        lines.append(_paragraph("called", family.call))
    return "\n".join([*lines, _paragraph("source", family.source)])


def _paragraph(label: str, text: str) -> str:
    """A label, and beside it the text, as wide as the terminal."""
    return textwrap.fill(
        f"{label:{COLUMN}}{' '.join(text.split())}", _width(), subsequent_indent=" " * COLUMN, break_on_hyphens=False
    )


def _width() -> int:
    return min(120, shutil.get_terminal_size((100, 24)).columns)


def _searches(family: Family) -> dict[tuple[str, str], list[str]]:
    """Each coordinate and its range, with the tasks that have it so."""
    tasks_of: dict[tuple[str, str], list[str]] = {}
    for task in family.tasks:
        for name, free in family.coordinates[task].items():
            start = free.start if free.default is None else free.default
            value = f"not searched [{start:g}]" if free.search is None else f"{_range(free.search)} [{free.start:g}]"
            tasks_of.setdefault((name, value), []).append(TASK_WORDS[task])
    return tasks_of


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
        failed = [check for check in checks if not check.passed]
        for check in failed[:SHOWN_FAULTS]:
            click.echo(f"{check.family}, {check.task}: {check.name} ({check.precision}): {check.detail}")
        click.echo(_summary(checks, device, time.monotonic() - began))
    return int(not passed)


def _checks(families: Sequence[Family], device: str) -> Iterator[Check]:
    """All checks, family by family; a terminal shows where it is."""
    from sweeper.losses.certification import certify

    with Console(stderr=True).status("certifying") as status:
        for family in families:
            status.update(f"certifying {family.name}")
            yield from certify(family.name, device)


def _summary(checks: list[Check], device: str, seconds: float) -> str:
    failed = sum(not check.passed for check in checks)
    precisions = ", ".join(dict.fromkeys(check.precision for check in checks))
    outcome = f"{failed} of {len(checks)} checks FAILED" if failed else f"all {len(checks)} checks passed"
    return f"{outcome} on {device} in {seconds:.0f} s ({precisions}; torch {version('torch')})"
