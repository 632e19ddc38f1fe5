"""The layout of docs/architecture.md holds: imports, packages and libraries."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

PACKAGE = Path(__file__).resolve().parents[2] / "sweeper"
PACKAGES_OF = {
    "optuna": ("study/", "space/", "storage/"),
    "mlflow": ("tracking/",),
    "psycopg": ("system/postgres.py", "system/bounded_connection.py", "system/leases.py"),
    "ray": ("executors/ray_cluster.py",),
    "click": ("cli/",),
    "rich": ("cli/",),
    "torch": ("adapters/", "losses/", "training/"),
    "segmentation_models_pytorch": ("training/",),
    "matplotlib": ("report/",),
    "pandas": ("judging/", "report/"),
    "jinja2": ("report/",),
    "PIL": ("data/", "report/"),
    "tifffile": ("data/",),
    "pycocotools": ("data/",),
}


def list_imports(path: Path, *, for_types: bool) -> set[str]:
    """Return dotted names that a file imports; `for_types`: those only for type checking, too."""
    tree = ast.parse(path.read_text("utf-8"))
    left_out = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test) and not for_types
        for inner in ast.walk(node)
    }
    names: set[str] = set()
    for node in (node for node in ast.walk(tree) if id(node) not in left_out):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def list_packages(path: Path) -> set[str]:
    """Return top-level packages that a file imports when it runs."""
    return {name.split(".")[0] for name in list_imports(path, for_types=False)}


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
            modules = {member.stem for member in inside if member.stem != "__pycache__"}
            name = path.stem.removeprefix("test_")
            if not any(name == module or name.startswith(f"{module}_") for module in modules):
                problems.append(
                    f"tests/{folder}/{path.name} names no module of sweeper/{folder}; call it test_MODULE.py or "
                    f"test_MODULE_TOPIC.py, or move what spans packages to tests/e2e"
                )
    assert not problems, "\n".join(problems)


def test_heavy_libraries_are_imported_only_by_their_packages() -> None:
    problems = [
        f"sweeper/{module} imports {library}, which only {', '.join(PACKAGES_OF[library])} may import"
        for module, path in ((path.relative_to(PACKAGE).as_posix(), path) for path in FILES)
        for library in sorted(list_packages(path) & PACKAGES_OF.keys())
        if not module.startswith(PACKAGES_OF[library])
    ]
    assert not problems, "\n".join(problems)


def read_table() -> dict[str, set[str]]:
    """Return package → libraries of the table of the document, in its order."""
    text = (PACKAGE.parent / "docs" / "architecture.md").read_text("utf-8")
    lines = [line.strip("| ").split("|") for line in text.splitlines() if line.startswith("| `")]
    return {re.findall("`([^`]+)`", row[0])[0]: set(re.findall(r"[\w-]+", "".join(row[2:]))) for row in lines}


def get_package(path: Path) -> str:
    first, *more = path.relative_to(PACKAGE).parts
    return f"{first}/" if more else first


def list_arrows() -> dict[tuple[str, str], set[str]]:
    """Return (importing package, imported package) → the importing modules."""
    modules: dict[tuple[str, str], set[str]] = {}
    for path in FILES:
        package = get_package(path)
        if package.startswith("__"):
            continue
        for name in list_imports(path, for_types=True):
            top, *rest = name.split(".")
            if top == "sweeper" and rest:
                other = f"{rest[0]}/" if (PACKAGE / rest[0]).is_dir() else f"{rest[0]}.py"
                if other not in {package, "__version__.py"}:
                    modules.setdefault((package, other), set()).add(str(path.relative_to(PACKAGE)))
    return modules


def test_packages_import_only_those_above_them_in_the_table() -> None:
    """The table's order is the order of the packages: each imports only those above it in the table."""
    order = list(read_table())
    upwards = {arrow: who for arrow, who in list_arrows().items() if order.index(arrow[0]) < order.index(arrow[1])}
    assert not upwards


def test_the_number_of_packages_and_imports_is_limited() -> None:
    assert len(read_table()) <= 22
    assert len(list_arrows()) <= 110  # a package more: trainings by scripts of users


def find_imported_module(name: str) -> Path | None:
    """Return the module of sweeper that `import name` or `from … import …` loads: the name itself or its parent."""
    for parts in (name.split("."), name.split(".")[:-1]):
        file = PACKAGE.parent.joinpath(*parts)
        for module in (file.with_suffix(".py"), file / "__init__.py"):
            if module in FILES:
                return module
    return None


def test_at_most_two_modules_import_each_other() -> None:
    """No module of a circle of imports can be read without the others, those for type checking included."""
    imports = np.zeros((len(FILES), len(FILES)), bool)
    for row, path in enumerate(FILES):
        for module in {find_imported_module(name) for name in list_imports(path, for_types=True)} - {None, path}:
            imports[row, FILES.index(module)] = True
    _, circles = connected_components(csr_array(imports), connection="strong")
    names = np.array([str(path.relative_to(PACKAGE)) for path in FILES])
    assert [names[circles == label].tolist() for label in np.flatnonzero(np.bincount(circles) > 2)] == []


NAMES = {"PIL": "pillow", "markdown_it": "markdown-it-py"}
"""Packages whose name is not that of their import, besides `_` for `-`."""


def test_the_table_lists_every_package_and_its_libraries() -> None:
    by_package: dict[str, set[str]] = {}
    for path in FILES:
        others = list_packages(path) - sys.stdlib_module_names - {"sweeper"}
        by_package.setdefault(get_package(path), set()).update(
            NAMES.get(other, other.replace("_", "-")) for other in others
        )
    assert read_table() == {
        package: libraries for package, libraries in by_package.items() if not package.startswith("__")
    }


def loaded_by(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*sorted({{m.split('.')[0] for m in sys.modules}}))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(run.stdout.split())


def test_the_parent_process_loads_neither_torch_nor_mlflow_at_its_start() -> None:
    """Torch takes half a gigabyte, and only the workers need it; importing MLflow takes seconds."""
    loaded = loaded_by("import sweeper.workflow.run, sweeper.cli.run")
    assert "optuna" in loaded
    assert not loaded & {"torch", "segmentation_models_pytorch", "timm", "mlflow"}


@pytest.mark.slow
def test_messages_of_workers_do_not_load_torch() -> None:
    """Unpickling a message imports the module of its class."""
    start = "e = ProcessBackend('cpu', 1, 1, print); e.get_hardware(); e.close()"
    assert "torch" not in loaded_by(f"from sweeper.executors.processes import ProcessBackend; {start}")
    modules = "sweeper.core.events, sweeper.executors.processes, sweeper.executors.protocol, sweeper.executors.inline"
    assert not loaded_by(f"import {modules}") & {"torch", "segmentation_models_pytorch", "timm"}


def test_help_loads_no_heavy_library() -> None:
    loaded = loaded_by("import sweeper.cli.main")
    assert not loaded & {"torch", "optuna", "mlflow", "pandas", "numpy", "matplotlib", "rich"}
