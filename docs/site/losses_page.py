"""The families in docs/losses.md, made from the registry.

    python docs/site/losses_page.py docs/losses.md

What stands between the two marks of the page is written again; a test compares. Families of the default spaces have
a section each, all others a line: `sweeper losses NAME` says the rest. No torch.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from sweeper.core.paths import search_spaces_dir
from sweeper.core.records import Coordinate
from sweeper.core.tasks import RULES
from sweeper.core.text import join_words
from sweeper.core.yaml_file import read_yaml
from sweeper.losses.families import FAMILIES, LossCoordinate, LossFamily
from sweeper.losses.family_records import TASKS

OTHERS = """\
Searched with `--space full`, or by a space file that names them. `sweeper losses NAME` says of each what it searches,
what its hyper-parameters mean, what to watch, and whether it takes a map of the labels."""
BEGIN, END = "<!-- families: begin -->\n", "<!-- families: end -->\n"


def insert_families(page: str) -> str:
    """Return the page with today's families between its marks."""
    before, rest = page.split(BEGIN)
    after = rest.split(END)[1]
    defaults = list_default_families()
    sections, lines = [], []
    meanings: dict[str, dict[str, list[str]]] = {}
    for family in FAMILIES.values():
        if family.name in defaults:
            sections.append(_format_section(family))
            for task, coordinates in family.coordinates.items():
                for name, one in coordinates.items():
                    tasks = meanings.setdefault(name, {}).setdefault(one.meaning, [])
                    tasks += [RULES[task].words] * (RULES[task].words not in tasks)
        else:
            lines.append(_format_line(family))
    explained = [
        f"- `{name}`{f' ({join_words(tasks)})' * (len(alike) > 1)}: {meaning}."
        for name, alike in meanings.items()
        for meaning, tasks in alike.items()
    ]
    parts = [*sections, "### Hyper-parameters\n", *explained, "\n### All others\n", OTHERS + "\n", *lines]
    return f"{before}{BEGIN}\n" + "\n".join(parts) + f"\n\n{END}{after}"


def list_default_families() -> set[str]:
    """Return the families in the shipped spaces that are searched by default."""
    return {name for task in TASKS for name in read_yaml(search_spaces_dir() / f"{task}.yaml", [])["losses"]}


def _format_line(family: LossFamily) -> str:
    """Name, formula, when it helps (up to the first colon), and source."""
    helps = family.helps.split(":")[0].rstrip(".")
    return f"- `{family.name}`, **{family.title}**. {helps}. `{family.formula}`. {_format_links(family.source)}."


def _format_section(family: LossFamily) -> str:
    lines = [f"### {family.name}\n", f"**{family.title}.** {family.helps} *{family.caveat}*\n"]
    lines += ["```", family.formula, "```\n"]
    free = _format_coordinates(family)
    lines += [f"{free}. {_format_links(family.source)}." if free else f"{_format_links(family.source)}."]
    if family.call_signature:
        lines += [family.call_signature]
    return "\n".join([*lines, ""])


def _format_coordinates(family: LossFamily) -> str:
    """Return what is searched, and in brackets what is tried first, by task if tasks differ."""
    where: dict[str, list[str]] = {}
    for task in family.tasks:
        for name, free in family.coordinates[task].items():
            where.setdefault(_format_coordinate(name, free), []).append(RULES[task].words)
    return "; ".join(
        text if len(tasks) == len(family.tasks) else f"{', '.join(tasks)}: {text}" for text, tasks in where.items()
    )


def _format_coordinate(name: str, free: LossCoordinate) -> str:
    start = "–" if free.start is None else f"{free.start:g}"
    if free.search is None:
        return f"`{name}` not searched ({start if free.default is None else f'{free.default:g}'})"
    return f"`{name}` {_format_range(free.search)} ({start})"


def _format_range(search: Coordinate) -> str:
    ends = f"{search.low:g}–{search.high:g}"
    if search.kind == "power_of_imbalance":
        return f"imbalance^({ends})"
    return f"{ends} logarithmic" if search.kind == "log" else ends


def _format_links(source: str) -> str:
    """ArXiv numbers and DOIs as links."""
    source = re.sub(r"arXiv:(\d{4}\.\d{4,5})", r"[arXiv:\1](https://arxiv.org/abs/\1)", source)
    return re.sub(r"doi:(\S+?)(?=[.,;)]?(?:\s|$))", r"[doi:\1](https://doi.org/\1)", source)


if __name__ == "__main__":
    _page = Path(sys.argv[1])
    _page.write_text(insert_families(_page.read_text("utf-8")), "utf-8")
