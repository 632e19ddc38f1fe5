"""The installed package is complete: from a checkout and from a wheel."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest
import yaml

from sweeper.core.paths import search_spaces_dir
from sweeper.scripts.contract import HELPER
from sweeper.version import __version__

ROOT = Path(__file__).resolve().parents[2]


def test_an_editable_install_finds_the_shipped_spaces() -> None:
    assert search_spaces_dir() == ROOT / "search_spaces"
    assert {"binary.yaml", "multiclass.yaml"} <= {p.name for p in search_spaces_dir().iterdir()}


def test_an_editable_install_finds_the_module_for_scripts() -> None:
    code = "import sweeper_trial; print(sweeper_trial.__file__)"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT / "docs", capture_output=True, text=True, check=True)
    assert Path(run.stdout.strip()) == ROOT / "sweeper_trial.py" == HELPER


def test_the_citation_has_the_present_version() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= cited.keys()
    assert (cited["version"], cited["license"]) == (__version__, "MIT")
    assert "MIT License" in (ROOT / "LICENSE").read_text("utf-8")


def test_no_file_cites_plans_or_issues_that_readers_do_not_have() -> None:
    """Plans and issue numbers of the developers are not published; facts are written out."""
    cites = re.compile(r"\bDESIGN\b|\bissue \d+\b")
    files = [path for folder in ("sweeper", "bench", "docs", "search_spaces") for path in (ROOT / folder).rglob("*")]
    texts = [path for path in files if path.suffix in {".py", ".md", ".yaml", ".j2"}]
    assert len(texts) > 100
    citing = [str(path.relative_to(ROOT)) for path in texts if cites.search(path.read_text("utf-8"))]
    assert citing == []


def test_benchmarks_run_from_any_folder() -> None:
    """They import tests/ and bench/ from the top folder, as installed packages are called `tests`, too."""
    scripts = {path.name: path.read_text("utf-8") for path in (ROOT / "bench").glob("*.py")}
    importing = {name for name, text in scripts.items() if re.search(r"^from (tests|bench)[. ]", text, re.MULTILINE)}
    assert len(importing) >= 8
    assert [name for name in sorted(importing) if "sys.path.insert(0, str(Path(" not in scripts[name]] == []


@pytest.mark.slow
def test_a_wheel_has_the_spaces_and_sweeps_without_the_checkout(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"sweeper/_search_spaces/binary.yaml", "sweeper/_search_spaces/multiclass.yaml", "sweeper/py.typed"} <= names
    assert {"sweeper/report/templates/report.md.j2", "sweeper_trial.py"} <= names
    info = next(name.split("/")[0] for name in names if ".dist-info/" in name)
    assert f"{info}/licenses/LICENSE" in names
    assert "License-Expression: MIT" in zipfile.ZipFile(wheel).read(f"{info}/METADATA").decode()
    assert not any(name.startswith(("tests/", "reports/", "search_spaces/")) for name in names)

    venv.create(tmp_path / "venv", with_pip=False)
    python = tmp_path / "venv/bin/python"
    libraries = next((tmp_path / "venv/lib").glob("python*/site-packages"))
    # The libraries of this environment without its links to the checkout: .pth files in the added folder are not read.
    (libraries / "libraries.pth").write_text(sysconfig.get_path("purelib") + "\n")
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "-q", "--no-deps", "--no-index"]
    subprocess.run([*install, str(wheel)], check=True, capture_output=True)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    for module in ("sweeper", "sweeper_trial"):
        check = [str(python), "-c", f"import {module}; print({module}.__file__)"]
        run = subprocess.run(check, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
        assert Path(run.stdout.strip()).is_relative_to(libraries)
    check = [str(python), "-c", "from sweeper.scripts.contract import HELPER; print(HELPER.is_file())"]
    run = subprocess.run(check, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert run.stdout == "True\n"

    data = ["synthetic:blobs?images=12&size=64", "--size", "32", "--precision", "float32"]
    few = ["--trials", "1", "--steps", "4", "--confirm-steps", "4", "--seeds", "1", "--workers", "1"]
    command = [str(tmp_path / "venv/bin/sweeper"), "run", *data, *few, "--study", "wheel"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "reports/wheel/report.md").is_file()
