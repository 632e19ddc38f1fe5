"""A folder whose files have the names of modules: each leaves a mark when it is imported."""

from __future__ import annotations

from pathlib import Path

PYTHONS = ("types", "signal", "struct", "random", "json", "re", "enum", "socket", "pickle", "tempfile", "sitecustomize")
OTHERS = ("numpy", "torch", "pandas", "scipy", "mlflow", "optuna", "ray", "yaml", "click", "uvicorn", "sqlalchemy")


def write_modules(folder: Path, names: tuple[str, ...] = PYTHONS + OTHERS) -> None:
    """Write such files to a folder."""
    for name in names:
        mark = f"open({str(folder / (name + '.imported'))!r}, 'w').close()"
        (folder / f"{name}.py").write_text(f"{mark}\nraise ImportError('this file is among the data')\n")


def list_imported(folder: Path) -> list[str]:
    """Return the names of the files that were imported."""
    return sorted(path.stem for path in folder.glob("*.imported"))


def write_console_script(folder: Path, text: str = "from sweeper.cli.main import main\n\nmain()\n") -> str:
    """Write a program to a separate folder, as pip does: Python's path begins with that folder. Return its path."""
    path = folder / "bin" / "program"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    return str(path)
