"""`sweeper losses` and `sweeper spaces`."""

from __future__ import annotations

import json
import re
import unicodedata

import pytest
import yaml
from click.testing import CliRunner

from sweeper.cli.main import cli
from sweeper.core.errors import SpaceError
from sweeper.losses import FAMILIES, Family
from sweeper.space import shipped_spaces


def call(*arguments: str, columns: int = 80):
    result = CliRunner().invoke(cli, list(arguments), env={"COLUMNS": str(columns), "NO_COLOR": "1"})
    assert result.exception is None, result.exception
    assert result.exit_code == 0
    return result.stdout


@pytest.mark.parametrize("columns", [80, 99, 100, 120, 200])
def test_the_table_fits_the_terminal_and_loses_nothing(columns):
    text = call("losses", columns=columns)
    assert all(sum(1 + (unicodedata.east_asian_width(c) in "WF") for c in line) <= columns for line in text.split("\n"))
    assert "…" not in text
    squeezed = "".join(text.split())
    for name, family in FAMILIES.items():
        assert name in text
        for task in family.tasks:
            assert all(coordinate in squeezed for coordinate in family.searched(task))
        assert re.search(r"(arXiv|doi):(\S{9})", family.source)[2] in squeezed


def test_json_is_the_registry():
    listed = [Family.model_validate(entry) for entry in json.loads(call("losses", "--json"))]
    assert listed == list(FAMILIES.values())


def test_spaces_lists_what_is_shipped():
    text = call("spaces")
    for name in shipped_spaces():
        assert name in text


@pytest.mark.parametrize("name", ["binary", "multiclass"])
def test_a_named_space_is_printed_as_it_is(name):
    text = call("spaces", name)
    assert text == shipped_spaces()[name].read_text(encoding="utf-8")
    assert yaml.safe_load(text)["task"] == name


def test_an_unknown_space_is_refused_with_a_suggestion():
    result = CliRunner().invoke(cli, ["spaces", "binray"])
    assert isinstance(result.exception, SpaceError)
    assert "did you mean `binary`?" in str(result.exception)
