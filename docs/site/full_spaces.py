"""search_spaces/full*.yaml, made from the registry of losses.

python docs/site/full_spaces.py        # part of `make docs`; a test compares the files with the registry
"""

from __future__ import annotations

from sweeper.core.paths import search_spaces_dir
from sweeper.core.records import Coordinate, Task
from sweeper.losses.families import FAMILIES

FILES: dict[Task, str] = {
    "binary": "full.yaml",
    "multiclass": "full_multiclass.yaml",
    "multilabel": "full_multilabel.yaml",
}


def format_full_space(task: Task) -> str:
    """Text of the file that searches every family of this task in every coordinate."""
    lines = [
        f"# Every family ({task}) and every hyper-parameter that the registry searches: for long sweeps.",
        "# Ranges: README.md in this folder. Made by `make docs`; edit the registry instead.",
        "version: 1",
        f"task: {task}",
        "nuisance:",
        "  lr: {log: [1.0e-4, 1.0e-2]}",
        "losses:",
    ]
    for name, family in FAMILIES.items():
        if task in family.tasks:
            free = {key: one.search for key, one in family.coordinates[task].items() if one.search}
            ranges = ", ".join(f"{key}: {_format_range(search)}" for key, search in free.items())
            lines.append(f"  {name}: {{{ranges}}}")
    return "\n".join(lines) + "\n"


def _format_range(search: Coordinate) -> str:
    return f"{search.low:g}" if search.kind == "fixed" else f"{{{search.kind}: [{search.low:g}, {search.high:g}]}}"


if __name__ == "__main__":
    for _task, _file in FILES.items():
        (search_spaces_dir() / _file).write_text(format_full_space(_task), encoding="utf-8")
