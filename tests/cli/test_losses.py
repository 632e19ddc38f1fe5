"""`sweeper losses`: its lists and texts."""

from __future__ import annotations

import json

import pytest
from click.testing import CliRunner

from sweeper.cli.main import cli
from sweeper.losses import FAMILIES, LossFamily


def run_command(*arguments: str, columns: int = 80):
    result = CliRunner().invoke(cli, list(arguments), env={"COLUMNS": str(columns), "NO_COLOR": "1"})
    assert result.exception is None, result.exception
    assert result.exit_code == 0
    return result.stdout


@pytest.mark.parametrize("columns", [60, 120])
def test_the_text_of_each_family_fits_the_terminal_and_is_complete(columns):
    selected = run_command("losses", "tversky", "cross_entropy", columns=columns)
    assert selected.index("cross_entropy") < selected.index("tversky") and "lovasz" not in selected
    text = run_command("losses", *FAMILIES, columns=columns)
    assert all(len(line) <= columns for line in text.split("\n"))
    squeezed = "".join(text.split())
    for name, family in FAMILIES.items():
        assert name in text
        for task in family.tasks:
            assert all(coordinate in squeezed for coordinate in family.coordinates[task])
        for words in (family.helps, family.caveat, family.formula, family.call_signature or "", family.source):
            assert all(word in squeezed for word in words.split())


@pytest.mark.parametrize("columns", [40, 200])
def test_the_list_has_each_family_and_its_use(columns):
    lines = run_command("losses", columns=columns).split("\n\n")[0].splitlines()
    assert [line.split()[0] for line in lines if not line.startswith(" ")] == list(FAMILIES)
    assert all(len(line) <= columns for line in lines)
    words = " ".join(" ".join(line.split()) for line in lines)
    assert all(family.helps.split()[0] in words for family in FAMILIES.values())


def test_the_json_equals_the_registry():
    listed = [LossFamily.model_validate(entry) for entry in json.loads(run_command("losses", "--json"))["families"]]
    assert listed == list(FAMILIES.values())
