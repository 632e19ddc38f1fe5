"""`sweeper losses`: the loss families, what each searches, and when it helps."""

from __future__ import annotations

from typing import ClassVar

import click

from sweeper.cli.options import SweeperCommand, add_json_option
from sweeper.cli.terminal import echo_result
from sweeper.core.document import Document
from sweeper.core.errors import UsageError
from sweeper.core.records import Coordinate
from sweeper.core.tasks import RULES
from sweeper.core.text import fill_words, get_width, join_words, suggest_correction
from sweeper.losses.families import FAMILIES, LossFamily

COLUMN = 18
"""Width of a label; no family has a longer name."""


class LossesDocument(Document):
    """Document that `sweeper losses` prints: the registry."""

    SCHEMA: ClassVar[str] = "sweeper.losses/1"

    families: tuple[LossFamily, ...]


@click.command(cls=SweeperCommand)
@click.argument("names", metavar="[NAME]...", nargs=-1)
@add_json_option()
def command(names: tuple[str, ...], as_json: bool) -> None:
    """List the loss families that can be searched, simplest first; for NAME its search, caveat and source."""
    families = _select_families(names)
    text = "\n\n".join(map(_format_family, families)) if names else _format_overview()
    echo_result(LossesDocument(families=tuple(families)), text, as_json=as_json)


def _select_families(names: tuple[str, ...]) -> list[LossFamily]:
    """Return the families of these names; all if there are none.

    Raises:
        UsageError: with an unknown name, and a similar family.
    """
    for name in names:
        if name not in FAMILIES:
            near = suggest_correction(name, FAMILIES)
            raise UsageError(f"NAME must be a loss family, got {name!r}{near}; `sweeper losses` lists them")
    chosen = names or tuple(FAMILIES)
    return [family for name, family in FAMILIES.items() if name in chosen]


def _format_overview() -> str:
    """Format the name of each family and, up to the first colon, when it helps."""
    lines = [_format_paragraph(family.name, family.helps.split(":")[0].rstrip(".")) for family in FAMILIES.values()]
    hint = "sweeper losses NAME says what a family searches, what to watch, and where it is from."
    return "\n".join([*lines, "", fill_words(hint, get_width(120))])


def _format_family(family: LossFamily) -> str:
    """Format when a family helps, what it searches with the literature's default, its formula and its source."""
    tasks = join_words([RULES[task].words for task in family.tasks])
    lines = [fill_words(f"{family.name} ({'standalone' if family.module else 'kernel'}; {tasks})", get_width(120))]
    lines.append(_format_paragraph("helps", family.helps))
    lines.append(_format_paragraph("watch", family.caveat))
    for (name, value, meaning), having in _format_searches(family).items():
        alone = f" ({join_words(having)})" if len(having) < len(family.tasks) else ""
        lines.append(_format_paragraph("searches", f"{name} {value}{alone}: {meaning}"))
    lines.append(_format_paragraph("formula", family.formula))
    if family.call_signature:
        lines.append(_format_paragraph("called", family.call_signature))
    return "\n".join([*lines, _format_paragraph("source", family.source)])


def _format_paragraph(label: str, text: str) -> str:
    """Format a label with the text next to it, at the width of the terminal."""
    return fill_words(f"{label:{COLUMN}}{' '.join(text.split())}", get_width(120), rest=" " * COLUMN)


def _format_searches(family: LossFamily) -> dict[tuple[str, str, str], list[str]]:
    """Return each coordinate, its range and its meaning, with the tasks for which it has them."""
    tasks_of: dict[tuple[str, str, str], list[str]] = {}
    for task in family.tasks:
        for name, free in family.coordinates[task].items():
            start = free.start if free.default is None else free.default
            value = (
                f"not searched [{start:g}]" if free.search is None else f"{_format_range(free.search)} [{free.start:g}]"
            )
            tasks_of.setdefault((name, value, free.meaning), []).append(RULES[task].words)
    return tasks_of


def _format_range(search: Coordinate) -> str:
    ends = f"{search.low:g}–{search.high:g}"
    if search.kind == "power_of_imbalance":
        return f"imbalance^({ends})"
    return f"{ends} log" if search.kind == "log" else ends
