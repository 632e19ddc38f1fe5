"""The registry: its declarations are sound, cost no torch to read, and are those of docs/losses.md."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest
import torch

from sweeper.losses import FAMILIES, build_loss
from tests.project.test_architecture import loaded_by
from tests.support.loss_cases import CASES
from tests.support.pasting import run_text

ROOT = Path(__file__).resolve().parents[2]
PAGE_MODULE = runpy.run_path(str(ROOT / "docs" / "site" / "losses_page.py"))
PAGE = (ROOT / "docs" / "losses.md").read_text("utf-8")


@pytest.mark.parametrize(("family", "task"), CASES)
def test_ranges_and_defaults_of_coordinates_are_within_their_limits(family, task):
    entry = FAMILIES[family]
    assert not set(entry.fixed) & set(entry.coordinates[task])
    roles = {free.role for free in entry.coordinates[task].values()}
    assert len({"alpha", "pos_weight", "class_weight_power"} & roles) <= 1  # one coordinate
    assert entry.module is not None or None not in roles  # the kernel knows roles only
    for free in entry.coordinates[task].values():
        assert free.meaning
        if free.search is not None:
            assert free.start is not None
            assert free.search.low <= free.start <= free.search.high
            if free.search.kind != "power_of_imbalance":
                assert free.limits.is_allowed(free.search.low)
                assert free.limits.is_allowed(free.search.high)
        assert free.default is None or free.limits.is_allowed(free.default)


def test_listing_families_and_writing_snippets_does_not_import_torch():
    imports = "import sweeper.losses as l, sweeper.space, sweeper.cli.losses; "
    code = imports + "l.make_snippet('dice', {}, 'binary', ['a', 'b'])"
    assert not loaded_by(code) & {"torch", "optuna"}


# --- docs/losses.md -----------------------------------------------------------------------------------------


def test_the_page_has_the_families_of_the_registry():
    assert PAGE_MODULE["insert_families"](PAGE) == PAGE, "run `make docs`"
    assert all(family.formula in PAGE and family.title in PAGE for family in FAMILIES.values())


def test_the_example_of_the_page_runs():
    code = re.search(r"```python\n(.+?)```", PAGE, re.S)
    assert code is not None
    batch = torch.zeros(1, 1, 4, 4, requires_grad=True), torch.zeros(1, 4, 4, dtype=torch.long)
    loss = run_text(code[1], logits=batch[0], target=batch[1])["loss"]
    torch.testing.assert_close(loss, build_loss("dice_focal", task="binary", mix=0.4, gamma=2.0)(*batch))


def test_every_trap_of_a_library_on_the_page_is_tested():
    traps = PAGE.split("## Traps of the libraries")[1]
    names = set(re.findall(r"`([A-Z]\w+Loss)", traps))
    tested = (ROOT / "tests" / "losses" / "test_build_library_traps.py").read_text("utf-8")
    assert names
    assert [name for name in names if name not in tested] == []
