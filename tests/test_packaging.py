"""What is installed: the shipped search spaces are found from a checkout and from a wheel."""

from __future__ import annotations

import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

from sweeper.core.paths import search_spaces_dir
from sweeper.version import __version__

ROOT = Path(__file__).resolve().parent.parent


def test_the_installation_at_hand_finds_the_shipped_spaces() -> None:
    assert {"binary.yaml", "multiclass.yaml"} <= {p.name for p in search_spaces_dir().iterdir()}


def test_an_editable_install_reads_the_folder_at_the_top() -> None:
    code = "from sweeper.core.paths import search_spaces_dir; print(search_spaces_dir())"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert Path(run.stdout.strip()) == ROOT / "search_spaces"


def test_the_citation_names_this_version() -> None:
    cited = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    assert {"cff-version", "message", "title", "authors"} <= cited.keys()
    assert (cited["version"], cited["license"]) == (__version__, "MIT")
    assert "MIT License" in (ROOT / "LICENSE").read_text("utf-8")


def test_nothing_cites_what_readers_do_not_have() -> None:
    """Plans and issue numbers of the developers: the facts stand where they are needed."""
    cites = re.compile(r"\bDESIGN\b|\bissue \d+\b")
    files = [path for folder in ("sweeper", "bench", "docs", "search_spaces") for path in (ROOT / folder).rglob("*")]
    texts = [path for path in files if path.suffix in {".py", ".md", ".yaml", ".j2"}]
    assert len(texts) > 100
    found = [str(path.relative_to(ROOT)) for path in texts if cites.search(path.read_text("utf-8"))]
    assert found == []


@pytest.mark.slow
def test_a_wheel_carries_the_spaces_templates_and_types(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {"sweeper/_search_spaces/binary.yaml", "sweeper/_search_spaces/multiclass.yaml", "sweeper/py.typed"} <= names
    assert "sweeper/report/templates/report.md.j2" in names
    info = next(name.split("/")[0] for name in names if ".dist-info/" in name)
    assert f"{info}/licenses/LICENSE" in names
    assert "License-Expression: MIT" in zipfile.ZipFile(wheel).read(f"{info}/METADATA").decode()
    assert not any(name.startswith(("tests/", "reports/", "search_spaces/")) for name in names)

    target = tmp_path / "installed"
    zipfile.ZipFile(wheel).extractall(target)
    code = (
        f"import sys; sys.path.insert(0, {str(target)!r}); import sweeper; from sweeper.space import load_space; "
        "print(sweeper.__file__); print(len(load_space('binary', 'binary').families))"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    where, families = run.stdout.split()
    assert Path(where).is_relative_to(target)
    assert int(families) == 7
