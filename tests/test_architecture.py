"""The layout of docs/architecture.md, kept by a test over the imports."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parent.parent / "sweeper"
ROOMS = {
    "optuna": ("study/", "space.py"),
    "mlflow": ("tracking/",),
    "psycopg": ("postgres.py", "advisory.py"),
    "ray": ("study/ray_executor.py",),
    "click": ("cli/",),
    "rich": ("cli/",),
    "torch": ("losses/", "training/"),
    "segmentation_models_pytorch": ("training/",),
    "matplotlib": ("report/",),
    "pandas": ("report/",),
    "jinja2": ("report/",),
    "PIL": ("data/", "report/"),
    "tifffile": ("data/",),
    "pycocotools": ("data/",),
}


def imports_of(path: Path) -> set[str]:
    """Top-level packages that a file imports for running (not those for type checking alone)."""
    tree = ast.parse(path.read_text("utf-8"))
    for_types = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test)
        for inner in ast.walk(node)
    }
    found: set[str] = set()
    for node in ast.walk(tree):
        if id(node) in for_types:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.add(node.module.split(".")[0])
    return found


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_heavy_libraries_stay_in_their_rooms(path: Path) -> None:
    where = path.relative_to(PACKAGE).as_posix()
    for library in imports_of(path) & ROOMS.keys():
        assert where.startswith(ROOMS[library]), f"{library} is imported in {where}, not in {ROOMS[library]}"


@pytest.mark.parametrize("room", ["data", "evidence", "study", "report"])
def test_the_flow_has_one_direction(room: str) -> None:
    later = {
        "data": ("sweeper.study", "sweeper.training", "sweeper.evidence", "sweeper.report", "sweeper.tracking"),
        "evidence": ("sweeper.study", "sweeper.training", "sweeper.report", "sweeper.data", "sweeper.losses"),
        "study": ("sweeper.report", "sweeper.evidence", "sweeper.tracking", "sweeper.cli"),
        "report": ("sweeper.study", "sweeper.training", "sweeper.tracking", "sweeper.cli"),
    }[room]
    for path in (PACKAGE / room).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module:
                if path.name == "executors.py":
                    continue  # the inline executor trains in this process: it is the bridge
                assert not node.module.startswith(later), f"{path.relative_to(PACKAGE)} imports {node.module}"


NAMES = {"PIL": "pillow", "markdown_it": "markdown-it-py"}
"""Packages that are not called as they are imported, beside `_` for `-`."""


def test_the_table_names_every_module_and_what_it_imports() -> None:
    text = (PACKAGE.parent / "docs" / "architecture.md").read_text("utf-8")
    rows = [line.strip("| ").split("|") for line in text.splitlines() if line.startswith("| `")]
    table = {tuple(re.findall("`([^`]+)`", row[0])): set(re.findall(r"[\w-]+", "".join(row[2:]))) for row in rows}
    found: dict[str, set[str]] = {}
    for path in FILES:
        first, *more = path.relative_to(PACKAGE).parts
        others = imports_of(path) - sys.stdlib_module_names - {"sweeper"}
        own = found.setdefault(f"{first}/" if more else first, set())
        own.update(NAMES.get(other, other.replace("_", "-")) for other in others)
    assert sorted(name for names in table for name in names) == sorted(n for n in found if not n.startswith("__"))
    assert {names: set.union(*(found[name] for name in names)) for names in table} == table


def loaded_by(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*sorted({{m.split('.')[0] for m in sys.modules}}))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


def test_the_parent_process_never_loads_torch() -> None:
    """Torch takes half a gigabyte; only the workers need it."""
    loaded = loaded_by("import sweeper.sweep, sweeper.cli.run")
    assert "optuna" in loaded
    assert not loaded & {"torch", "segmentation_models_pytorch", "timm"}


def test_what_workers_tell_does_not_load_torch_either() -> None:
    """Taking a message apart imports the module of its class."""
    start = "e = ProcessExecutor('cpu', 1, 1, print); e.hardware(); e.close()"
    assert "torch" not in loaded_by(f"from sweeper.study.processes import ProcessExecutor; {start}")
    told = "sweeper.training.messages, sweeper.study.processes, sweeper.study.executors"
    assert not loaded_by(f"import {told}") & {"torch", "segmentation_models_pytorch", "timm"}
    names = {"Hardware", "Looked", "Waits", "Done"}
    sent = {
        node.func.id
        for path in (PACKAGE / "training").glob("*.py")
        for node in ast.walk(ast.parse(path.read_text("utf-8")))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names
    }
    assert sent == names


def test_help_loads_nothing_heavy() -> None:
    loaded = loaded_by("import sweeper.cli.main")
    assert not loaded & {"torch", "optuna", "mlflow", "pandas", "numpy", "matplotlib", "rich"}
