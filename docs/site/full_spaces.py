"""search_spaces/full.yaml and full_multiclass.yaml, made from the registry of losses.

python docs/site/full_spaces.py        # part of `make docs`; a test compares the files with the registry
"""

from __future__ import annotations

from sweeper.core.paths import search_spaces_dir
from sweeper.core.records import Coordinate, Task
from sweeper.losses.families import FAMILIES

FILES: dict[Task, str] = {"binary": "full.yaml", "multiclass": "full_multiclass.yaml"}


def full_space(task: Task) -> str:
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
            free = {own: found.search for own, found in family.list_searched(task).items() if found.search is not None}
            ranges = ", ".join(f"{own}: {_range(search)}" for own, search in free.items())
            lines.append(f"  {name}: {{{ranges}}}")
    return "\n".join(lines) + "\n"


def _range(found: Coordinate) -> str:
    return f"{found.low:g}" if found.kind == "fixed" else f"{{{found.kind}: [{found.low:g}, {found.high:g}]}}"


if __name__ == "__main__":
    for _task, _file in FILES.items():
        (search_spaces_dir() / _file).write_text(full_space(_task), encoding="utf-8")
