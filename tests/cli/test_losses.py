"""`sweeper losses` and `sweeper spaces`: what is listed."""

from __future__ import annotations

import json

import pytest
import yaml
from click.testing import CliRunner

from sweeper.cli.main import cli
from sweeper.losses import FAMILIES, LossFamily
from sweeper.space import list_shipped_spaces


def call(*arguments: str, columns: int = 80):
    result = CliRunner().invoke(cli, list(arguments), env={"COLUMNS": str(columns), "NO_COLOR": "1"})
    assert result.exception is None, result.exception
    assert result.exit_code == 0
    return result.stdout


@pytest.mark.parametrize("columns", [60, 120])
def test_what_is_said_of_each_family_fits_the_terminal_and_loses_nothing(columns):
    few = call("losses", "tversky", "cross_entropy", columns=columns)
    assert few.index("cross_entropy") < few.index("tversky") and "lovasz" not in few
    text = call("losses", *FAMILIES, columns=columns)
    assert all(len(line) <= columns for line in text.split("\n"))
    squeezed = "".join(text.split())
    for name, family in FAMILIES.items():
        assert name in text
        for task in family.tasks:
            assert all(coordinate in squeezed for coordinate in family.coordinates[task])
        for words in (family.helps, family.caveat, family.formula, family.call_signature or "", family.source):
            assert all(word in squeezed for word in words.split())


@pytest.mark.parametrize("columns", [40, 200])
def test_the_list_names_each_family_and_when_it_helps(columns):
    lines = call("losses", columns=columns).split("\n\n")[0].splitlines()
    assert [line.split()[0] for line in lines if not line.startswith(" ")] == list(FAMILIES)
    assert all(len(line) <= columns for line in lines)
    words = " ".join(" ".join(line.split()) for line in lines)
    assert all(family.helps.split()[0] in words for family in FAMILIES.values())


def test_json_is_the_registry():
    listed = [LossFamily.model_validate(entry) for entry in json.loads(call("losses", "--json"))["families"]]
    assert listed == list(FAMILIES.values())


@pytest.mark.parametrize("name", ["binary", "multiclass"])
def test_spaces_are_listed_and_a_named_one_is_printed_as_it_is(name):
    assert name in call("spaces")
    text = call("spaces", name)
    assert text == list_shipped_spaces()[name].read_text(encoding="utf-8")
    assert yaml.safe_load(text)["task"] == name
