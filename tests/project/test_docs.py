"""Documents are right: links resolve, README quotes the example, examples are complete."""

from __future__ import annotations

import json
import re
import runpy
from pathlib import Path

import pytest

from sweeper.core.paths import search_spaces_dir
from sweeper.workflow.settings import DATA

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted(
    [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("reports/**/*.md"), *ROOT.glob("search_spaces/*.md")]
)
EXAMPLE = ROOT / "reports" / "example"
EXAMPLES = {EXAMPLE: DATA.removeprefix("synthetic:"), ROOT / "reports/example-cracks": "cracks"}
"""Folder → name of its data set."""


def test_links_to_files_resolve() -> None:
    dead = [
        f"{path.relative_to(ROOT)} links to {target}"
        for path in DOCUMENTS
        for target in re.findall(r"\]\(([^)\s]+)\)", path.read_text("utf-8"))
        if not re.match(r"[a-z]+:|#", target) and not (path.parent / target.split("#")[0]).exists()
    ]
    assert not dead, "\n".join(dead)


def test_readme_quotes_the_head_of_the_example() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    section = text.split("<!-- example:begin -->")[1].split("<!-- example:end -->")[0]
    quoted = "\n".join(line.removeprefix(">").removeprefix(" ") for line in section.strip().splitlines())
    head = (EXAMPLE / "report.md").read_text("utf-8").split("\n", 1)[1].strip()
    assert len(quoted.splitlines()) == 5 and head.startswith(quoted + "\n")


def test_the_page_on_reports_lists_todays_remarks() -> None:
    page = (ROOT / "docs" / "report.md").read_text("utf-8")
    assert runpy.run_path(str(ROOT / "docs/site/remarks.py"))["insert_remarks"](page) == page


def test_readme_has_at_most_700_words() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").split()) <= 700


@pytest.mark.parametrize("folder", EXAMPLES, ids=lambda path: path.name)
def test_an_example_is_a_complete_report(folder: Path) -> None:
    name = EXAMPLES[folder]
    document = json.loads((folder / "recommendation.json").read_text("utf-8"))
    assert document["schema"] == "sweeper.answer/2"
    assert document["dataset"]["name"] == name and document["search"]["trials"] == 50
    text = (folder / "report.md").read_text("utf-8")
    figures = {path.name for path in (folder / "figures").iterdir()}
    assert {Path(f).name for f in re.findall(r"\]\((figures/[^)]+\.(?:png|svg))\)", text)} == figures
    assert re.search(rf"sweeper run (--data )?synthetic:{name} --trials 50", text)


def test_extras_are_installed_from_the_checkout() -> None:
    """The package index has another package of this name."""
    written = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.rglob("sweeper/**/*.py")]
    assert not [path for path in written if re.search(r"pip install[^\n&]*\bsweeper\b", path.read_text("utf-8"))]


def test_every_shipped_space_is_documented() -> None:
    text = (ROOT / "search_spaces" / "README.md").read_text("utf-8")
    for path in search_spaces_dir().glob("*.yaml"):
        assert path.stem in text


def test_no_address_of_a_registry_and_no_pinned_path_in_constraints() -> None:
    text = (ROOT / "constraints.txt").read_text("utf-8")
    assert not re.search(r"://|file:|^\s*-", text, re.MULTILINE)  # no address, no option of pip that could hold one
    assert "torch==2.12.1" in text and "torchvision==0.27.1" in text
