"""The layout of docs/architecture.md, kept by a test over the imports."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2] / "sweeper"
PACKAGES_OF = {
    "optuna": ("study/", "space/", "storage/"),
    "mlflow": ("tracking/",),
    "psycopg": ("system/postgres.py", "system/bounded_connection.py", "system/leases.py"),
    "ray": ("executors/ray_actors.py", "executors/ray_cluster.py"),
    "click": ("cli/",),
    "rich": ("cli/",),
    "torch": ("adapters/", "losses/", "training/"),
    "segmentation_models_pytorch": ("training/",),
    "matplotlib": ("report/",),
    "pandas": ("report/",),
    "jinja2": ("report/",),
    "PIL": ("data/", "report/"),
    "tifffile": ("data/",),
    "pycocotools": ("data/",),
}


def imported(path: Path, *, for_types: bool) -> set[str]:
    """Dotted names that a file imports; `for_types`: those for type checking alone, too."""
    tree = ast.parse(path.read_text("utf-8"))
    left_out = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test) and not for_types
        for inner in ast.walk(node)
    }
    found: set[str] = set()
    for node in (node for node in ast.walk(tree) if id(node) not in left_out):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def imports_of(path: Path) -> set[str]:
    """Top-level packages that a file imports for running."""
    return {name.split(".")[0] for name in imported(path, for_types=False)}


FILES = sorted(PACKAGE.rglob("*.py"))
TESTS = Path(__file__).resolve().parents[1]
FREE = {"support", "e2e", "project"}
"""Folders of tests that belong to no package: helpers, whole commands, the repository itself."""


def test_tests_mirror_the_package() -> None:
    problems = []
    for path in sorted(TESTS.rglob("test_*.py")):
        folder, *rest = path.relative_to(TESTS).parts
        if not rest:
            problems.append(f"tests/{folder} has no folder; move it to the folder of the package that it tests")
        elif folder not in FREE:
            inside = [*PACKAGE.glob(f"{folder}.py"), *(PACKAGE / folder).rglob("*")]
            modules = {found.stem for found in inside if found.stem != "__pycache__"}
            name = path.stem.removeprefix("test_")
            if not any(name == module or name.startswith(f"{module}_") for module in modules):
                problems.append(
                    f"tests/{folder}/{path.name} names no module of sweeper/{folder}; call it test_MODULE.py or "
                    f"test_MODULE_TOPIC.py, or move what spans packages to tests/e2e"
                )
    assert not problems, "\n".join(problems)


def test_heavy_libraries_stay_in_their_packages() -> None:
    problems = [
        f"sweeper/{where} imports {library}, which is imported in {', '.join(PACKAGES_OF[library])} alone"
        for where, path in ((path.relative_to(PACKAGE).as_posix(), path) for path in FILES)
        for library in sorted(imports_of(path) & PACKAGES_OF.keys())
        if not where.startswith(PACKAGES_OF[library])
    ]
    assert not problems, "\n".join(problems)


def rows() -> dict[str, set[str]]:
    """Package → libraries, as the table of the document has them, in its order."""
    text = (PACKAGE.parent / "docs" / "architecture.md").read_text("utf-8")
    lines = [line.strip("| ").split("|") for line in text.splitlines() if line.startswith("| `")]
    return {re.findall("`([^`]+)`", row[0])[0]: set(re.findall(r"[\w-]+", "".join(row[2:]))) for row in lines}


def package_of(path: Path) -> str:
    first, *more = path.relative_to(PACKAGE).parts
    return f"{first}/" if more else first


def arrows() -> dict[tuple[str, str], set[str]]:
    """Return (importing package, imported package) → the modules that do so, without imports for type checkers."""
    found: dict[tuple[str, str], set[str]] = {}
    for path in FILES:
        own = package_of(path)
        if own.startswith("__"):
            continue
        for name in imported(path, for_types=True):
            top, *rest = name.split(".")
            if top == "sweeper" and rest:
                other = f"{rest[0]}/" if (PACKAGE / rest[0]).is_dir() else f"{rest[0]}.py"
                if other not in {own, "__version__.py"}:
                    found.setdefault((own, other), set()).add(str(path.relative_to(PACKAGE)))
    return found


def test_nothing_imports_upwards() -> None:
    """The table's order is the order of the packages: each imports those above it in the table alone."""
    order = list(rows())
    upwards = {arrow: who for arrow, who in arrows().items() if order.index(arrow[0]) < order.index(arrow[1])}
    assert not upwards


def test_the_house_stays_small() -> None:
    assert len(rows()) <= 22
    assert len(arrows()) <= 110  # a package more: trainings by scripts of users


NAMES = {"PIL": "pillow", "markdown_it": "markdown-it-py"}
"""Packages whose name is not that of their import, besides `_` for `-`."""


def test_the_table_names_every_package_and_what_it_imports() -> None:
    found: dict[str, set[str]] = {}
    for path in FILES:
        others = imports_of(path) - sys.stdlib_module_names - {"sweeper"}
        found.setdefault(package_of(path), set()).update(NAMES.get(other, other.replace("_", "-")) for other in others)
    assert rows() == {package: libraries for package, libraries in found.items() if not package.startswith("__")}


def loaded_by(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*sorted({{m.split('.')[0] for m in sys.modules}}))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


def test_the_parent_process_never_loads_torch_nor_mlflow_before_it_is_used() -> None:
    """Torch takes half a gigabyte, and only the workers need it; MLflow takes seconds, also of a request refused."""
    loaded = loaded_by("import sweeper.workflow.run, sweeper.cli.run")
    assert "optuna" in loaded
    assert not loaded & {"torch", "segmentation_models_pytorch", "timm", "mlflow"}


def test_what_workers_tell_does_not_load_torch_either() -> None:
    """Taking a message apart imports the module of its class."""
    start = "e = ProcessBackend('cpu', 1, 1, print); e.get_hardware(); e.close()"
    assert "torch" not in loaded_by(f"from sweeper.executors.processes import ProcessBackend; {start}")
    modules = "sweeper.core.events, sweeper.executors.processes, sweeper.executors.protocol, sweeper.executors.inline"
    assert not loaded_by(f"import {modules}") & {"torch", "segmentation_models_pytorch", "timm"}


def test_help_loads_nothing_heavy() -> None:
    loaded = loaded_by("import sweeper.cli.main")
    assert not loaded & {"torch", "optuna", "mlflow", "pandas", "numpy", "matplotlib", "rich"}
