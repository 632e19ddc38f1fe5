"""`sweeper losses` and `sweeper spaces`: what is listed, and the proof of the losses."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
import yaml
from click.testing import CliRunner

from sweeper.cli import losses as cli_losses
from sweeper.cli.main import cli
from sweeper.losses import FAMILIES, Family, certified_loss
from sweeper.losses.build import build_loss
from sweeper.losses.certification import Check, certify
from sweeper.space import shipped_spaces


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
        for words in (family.helps, family.caveat, family.formula, family.call or "", family.source):
            assert all(word in squeezed for word in words.split())


@pytest.mark.parametrize("columns", [40, 200])
def test_the_list_names_each_family_and_when_it_helps(columns):
    lines = call("losses", columns=columns).split("\n\n")[0].splitlines()
    assert [line.split()[0] for line in lines if not line.startswith(" ")] == list(FAMILIES)
    assert all(len(line) <= columns for line in lines)
    words = " ".join(" ".join(line.split()) for line in lines)
    assert all(family.helps.split()[0] in words for family in FAMILIES.values())


def test_json_is_the_registry():
    listed = [Family.model_validate(entry) for entry in json.loads(call("losses", "--json"))["families"]]
    assert listed == list(FAMILIES.values())


@pytest.mark.parametrize("name", ["binary", "multiclass"])
def test_spaces_are_listed_and_a_named_one_is_printed_as_it_is(name):
    assert name in call("spaces")
    text = call("spaces", name)
    assert text == shipped_spaces()[name].read_text(encoding="utf-8")
    assert yaml.safe_load(text)["task"] == name


@pytest.fixture
def two_families(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Only two families, for two tasks and for one, so that the command is quick."""
    tasks = {"cross_entropy": ("binary", "multiclass"), "dice": ("binary",)}
    few = {
        name: FAMILIES[name].model_copy(update={"coordinates": {t: FAMILIES[name].coordinates[t] for t in kept}})
        for name, kept in tasks.items()
    }
    monkeypatch.setattr(cli_losses, "FAMILIES", few)
    for name, family in few.items():
        monkeypatch.setitem(FAMILIES, name, family)
    return list(few)


def test_the_losses_are_proved_and_a_broken_one_is_named_with_status_1(
    sweeper: Any, two_families: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    status, out, err = sweeper("losses", "--certify")
    assert (status, err) == (0, "")
    assert out.startswith("all ") and "checks passed on cpu" in out

    def builds(name: str, **arguments: Any) -> Any:
        loss = build_loss(name, **arguments)
        return (lambda *batch: -loss(*batch)) if name == "cross_entropy" else loss

    monkeypatch.setattr(certified_loss, "build_loss", builds)
    status, out, _ = sweeper("losses", "--certify")
    assert status == 1 and "FAILED" in out
    assert "equals torch's cross-entropy" in " ".join(out.split())
    status, out, _ = sweeper("losses", "--certify", "--json")
    document = json.loads(out)
    assert (status, document["device"], document["passed"]) == (1, "cpu", False)
    checks = [Check.model_validate(check) for check in document["checks"]]
    assert checks == [check for name in two_families for check in certify(name)]


def test_a_device_without_certify_or_that_is_not_there_is_refused(sweeper: Any) -> None:
    status, out, err = sweeper("losses", "--device", "cpu")
    assert (status, out) == (2, "") and "--device must go with --certify" in err
    if not torch.cuda.is_available():
        status, _, err = sweeper("losses", "dice", "--certify", "--device", "cuda")
        assert status == 2 and "no GPU" in err
