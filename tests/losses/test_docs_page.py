"""docs/losses.md has the families as the registry has them, and says what the code does."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest
import torch

from sweeper.losses import FAMILIES, build_loss

ROOT = Path(__file__).resolve().parents[2]
MADE = runpy.run_path(str(ROOT / "docs" / "site" / "losses_page.py"))
PAGE = (ROOT / "docs" / "losses.md").read_text("utf-8")


def test_the_families_of_the_page_are_those_of_the_registry():
    assert MADE["page_with_families"](PAGE) == PAGE, "run `make docs`"


@pytest.mark.parametrize("name", sorted(MADE["families_of_default_spaces"]()))
def test_a_family_of_the_default_spaces_has_its_section(name):
    family = FAMILIES[name]
    section = PAGE.split(f"\n### {name}\n")[1].split("\n### ")[0]
    for text in (family.title, family.formula, family.helps, family.caveat):
        assert text in section
    for task in family.tasks:
        for coordinate in family.coordinates[task]:
            assert f"`{coordinate}`" in section
            assert f"\n- `{coordinate}`: " in PAGE


@pytest.mark.parametrize("name", FAMILIES)
def test_every_family_has_its_formula_and_its_source(name):
    family = FAMILIES[name]
    assert family.formula in PAGE and family.title in PAGE
    for number in re.findall(r"arXiv:(\d{4}\.\d{4,5})", family.source):
        assert f"(https://arxiv.org/abs/{number})" in PAGE


def test_the_example_of_the_page_runs():
    code = re.search(r"```python\n(.+?)```", PAGE, re.S)
    assert code is not None
    scope = {"logits": torch.zeros(1, 1, 4, 4, requires_grad=True), "target": torch.zeros(1, 4, 4, dtype=torch.long)}
    exec(code[1], scope)
    torch.testing.assert_close(
        scope["loss"], build_loss("dice_focal", task="binary", mix=0.4, gamma=2.0)(scope["logits"], scope["target"])
    )


def test_every_trap_of_a_library_is_shown():
    traps = PAGE.split("## Traps of the libraries")[1]
    named = set(re.findall(r"`([A-Z]\w+Loss)", traps))
    tested = (ROOT / "tests" / "losses" / "test_traps.py").read_text("utf-8")
    assert named
    assert [name for name in named if name not in tested] == []
