"""The families in docs/losses.md, made from the registry:  python -m sweeper.losses.docs_page docs/losses.md

What stands between the two marks of the page is written again; a test compares. No torch.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from sweeper.core.records import Coordinate
from sweeper.losses.families import FAMILIES, MEANINGS, Family, LossCoordinate
from sweeper.losses.family_records import MapKind

BEGIN, END = "<!-- families: begin -->\n", "<!-- families: end -->\n"
MAP_WORDS: dict[MapKind, str] = {
    "distance": "signed distances to the class boundaries, shaped as the logits",
    "sizes": "the pixels of the instance that each pixel belongs to",
    "instances": "the number of that instance in its image, 0 = none",
    "skeleton": "nonzero on the widened skeleton of the pixel's class",
}


def page_with_families(page: str) -> str:
    """The page with today's families between its marks."""
    before, rest = page.split(BEGIN)
    after = rest.split(END)[1]
    meanings = "\n".join(f"- `{name}`: {meaning}." for name, meaning in MEANINGS.items())
    sections = "\n".join(_section(family) for family in FAMILIES.values())
    return f"{before}{BEGIN}\n{sections}\n### Hyper-parameters\n\n{meanings}\n\n{END}{after}"


def _section(family: Family) -> str:
    lines = [f"### {family.name}\n", f"**{family.title}.** {family.helps} *{family.caveat}*\n"]
    lines += ["```", family.formula, "```\n"]
    free = _coordinates(family)
    lines += [f"{free}. {_linked(family.source)}." if free else f"{_linked(family.source)}."]
    if family.needs_map:
        lines += [f"Takes `loss(logits, target, {family.needs_map}=…)`: {MAP_WORDS[family.needs_map]}."]
    return "\n".join([*lines, ""])


def _coordinates(family: Family) -> str:
    """What is searched, and in brackets what is tried first; the task is named where tasks differ."""
    where: dict[str, list[str]] = {}
    for task in family.tasks:
        for name, free in family.coordinates[task].items():
            where.setdefault(_coordinate(name, free), []).append("binary" if task == "binary" else "multi-class")
    return "; ".join(
        text if len(tasks) == len(family.tasks) else f"{', '.join(tasks)}: {text}" for text, tasks in where.items()
    )


def _coordinate(name: str, free: LossCoordinate) -> str:
    start = "–" if free.start is None else f"{free.start:g}"
    if free.search is None:
        return f"`{name}` not searched ({start if free.default is None else f'{free.default:g}'})"
    return f"`{name}` {_range(free.search)} ({start})"


def _range(search: Coordinate) -> str:
    ends = f"{search.low:g}–{search.high:g}"
    if search.kind == "power_of_imbalance":
        return f"imbalance^({ends})"
    return f"{ends} logarithmic" if search.kind == "log" else ends


def _linked(source: str) -> str:
    """arXiv numbers and DOIs as links."""
    source = re.sub(r"arXiv:(\d{4}\.\d{4,5})", r"[arXiv:\1](https://arxiv.org/abs/\1)", source)
    return re.sub(r"doi:(\S+?)(?=[.,;)]?(?:\s|$))", r"[doi:\1](https://doi.org/\1)", source)


if __name__ == "__main__":
    _page = Path(sys.argv[1])
    _page.write_text(page_with_families(_page.read_text("utf-8")), "utf-8")
