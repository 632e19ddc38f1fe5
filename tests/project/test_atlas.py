"""The tables of the atlas are those of the ledger."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("script", ["ledger.py", "ladders.py"])
def test_the_tables_by_kind_of_data_are_those_of_the_ledger(script: str, capsys: pytest.CaptureFixture[str]) -> None:
    runpy.run_path(str(ROOT / "bench" / script))["print_kinds"](None)
    printed = capsys.readouterr().out.strip()
    assert printed.count("\n") > 10 and printed in (ROOT / "docs" / "atlas.md").read_text("utf-8")
