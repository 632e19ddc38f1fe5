"""docs/losses.md is what the registry makes of it, and says what the code does."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sweeper.losses import FAMILIES, build_loss
from sweeper.losses.docs_page import TRAPS, document
from sweeper.losses.families import MEANINGS

ROOT = Path(__file__).resolve().parents[2]


def test_the_committed_page_is_the_generated_one():
    assert (ROOT / "docs" / "losses.md").read_text("utf-8") == document(), (
        "run `python -m sweeper.losses.docs_page > docs/losses.md`"
    )


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_has_its_section(name):
    family, page = FAMILIES[name], document()
    section = page.split(f"\n### {name}\n")[1].split("\n### ")[0]
    for text in (family.title, family.formula, family.helps, family.caveat):
        assert text in section
    for task in family.tasks:
        for coordinate in family.coordinates[task]:
            assert f"| `{coordinate}` |" in section
    assert f"[{name}](#{name})" in page


def test_every_coordinate_and_option_is_explained():
    page = document()
    taken = {n for f in FAMILIES.values() for task in f.tasks for n in (*f.coordinates[task], *f.options(task))}
    assert taken <= set(MEANINGS)
    assert all(re.search(rf"^\| `{name}` \| .+ \| .+ \|", page, re.M) for name in taken)


def test_links_within_the_page_resolve():
    page = document()
    anchors = {
        re.sub(r"[^\w -]", "", title).strip().lower().replace(" ", "-")
        for title in re.findall(r"^#+ (.+)$", page, re.M)
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", page)) <= anchors


def test_tables_are_whole():
    """Every row of a table has as many cells as its head."""
    for table in re.findall(r"(?:^\|.*\n)+", document(), re.M):
        cells = {len(re.findall(r"(?<!\\)\|", row)) for row in table.splitlines()}
        assert len(cells) == 1, table


def test_sources_are_linked():
    page = document()
    for family in FAMILIES.values():
        for number in re.findall(r"arXiv:(\d{4}\.\d{4,5})", family.source):
            assert f"(https://arxiv.org/abs/{number})" in page


def test_the_example_of_the_page_runs():
    import torch

    code = re.search(r"```python\n(.+?)```", document(), re.S)
    assert code is not None
    scope = {"logits": torch.zeros(1, 1, 4, 4, requires_grad=True), "target": torch.zeros(1, 4, 4, dtype=torch.long)}
    exec(code[1], scope)
    torch.testing.assert_close(
        scope["loss"], build_loss("dice_focal", task="binary", mix=0.4, gamma=2.0)(scope["logits"], scope["target"])
    )


def test_every_trap_of_a_library_names_what_happens_here():
    assert all(len(row) == 3 and all(row) for row in TRAPS)
    tested = (ROOT / "tests" / "test_losses_traps.py").read_text("utf-8")
    named = {name for row in TRAPS for name in re.findall(r"`([A-Z]\w+Loss)", row[0])}
    assert named
    assert all(name in tested for name in named)
