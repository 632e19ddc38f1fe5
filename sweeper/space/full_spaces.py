"""search_spaces/full.yaml and full_multiclass.yaml, made from the registry of losses:

    python -m sweeper.space.full_spaces

A test compares the committed files with `full_space`. No torch.
"""

from __future__ import annotations

from sweeper.core.paths import search_spaces_dir
from sweeper.core.records import Coordinate, Task
from sweeper.losses.families import FAMILIES

FILES: dict[Task, str] = {"binary": "full.yaml", "multiclass": "full_multiclass.yaml"}
TITLES: dict[Task, str] = {"binary": "Binary", "multiclass": "Multi-class"}
TRIALS_EACH = 3
"""So many trials let the search compare what a family's coordinates do."""


def full_space(task: Task) -> str:
    """Text of the file that searches every family of this task in every coordinate."""
    families = {name: family.searched(task) for name, family in FAMILIES.items() if task in family.tasks}
    lines = [
        f"# {TITLES[task]} segmentation, every family and every hyper-parameter that the registry searches: for long",
        f"# sweeps (three trials of each family are {TRIALS_EACH * len(families)}). Ranges: README.md in this folder.",
        "# Made by `python -m sweeper.space.full_spaces`; edit the registry instead.",
        "version: 1",
        f"task: {task}",
        "nuisance:",
        "  lr: {log: [1.0e-4, 1.0e-2]}",
        "losses:",
    ]
    for name, coordinates in families.items():
        ranges = [f"{own}: {_range(free.search)}" for own, free in coordinates.items() if free.search is not None]
        lines.append(f"  {name}: {{{', '.join(ranges)}}}")
    return "\n".join(lines) + "\n"


def _range(found: Coordinate) -> str:
    return f"{found.low:g}" if found.kind == "fixed" else f"{{{found.kind}: [{found.low:g}, {found.high:g}]}}"


if __name__ == "__main__":
    for _task, _file in FILES.items():
        (search_spaces_dir() / _file).write_text(full_space(_task), encoding="utf-8")
