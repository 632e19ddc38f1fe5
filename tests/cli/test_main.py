"""The command line as a whole: mistakes are explained, variables set options, errors are JSON documents."""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from sweeper import version
from sweeper.cli.main import COMMANDS, cli
from sweeper.cli.options import SweeperCommand
from tests.support.folders import folder, mask

Sweeper = Callable[..., tuple[int, str, str]]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "no-such-folder"], "no-such-folder"),
        (["run", "--storage", "mysql://host/db"], "sqlite"),
        (["run", "--steps", "3"], "--steps: Input should be greater than or equal to 4; got '3'"),
        (["run", "--time", "soon"], "1h30m"),
        (["run", "--seeds", "8..3"], "1 ≤ MIN ≤ MAX"),
        (["run", "--workers", "²"], "got '²'"),
        (["run", "--margin", "nan"], "--margin: Input should be a finite number; got 'nan'"),
        (["run", ""], "a value must not be empty, got 0 ''; give it"),
        (["run", "--study", ""], "a value must not be empty, got --study ''; give it"),
        (["run", "--study="], "a value must not be empty, got --study=; give it"),
        (["report", ""], "a value must not be empty, got report ''; give it"),
        (["report"], "`sweeper studies` lists the studies"),
        (["predict", "--out", "x"], "`sweeper studies` lists the studies"),
        (["run", "--images", "a.png", "b.png", "c.png"], "Patterns stand in quotes"),
        (["report", "a", "b"], "unexpected extra argument (b)\n"),
        (["report", "nothing"], "there is no file"),
        (["train", "nope"], "no study is here, as there is no file sweeper.db; go to"),
        (["zzz"], "--help' for help."),
    ],
)
def test_wrong_usage_ends_with_status_2_and_an_explanation(
    tmp_path: Path, sweeper: Sweeper, arguments: list[str], words: str
) -> None:
    inline = ["--workers", "0"] if arguments[0] == "run" else []
    status, out, err = sweeper(arguments[0], *inline, *arguments[1:])
    assert status == 2
    assert words in err
    assert out == ""
    assert "Traceback" not in err
    assert arguments[0] == "run" or list(tmp_path.iterdir()) == []


def test_options_can_be_set_by_variables_which_the_command_line_overrides(
    sweeper: Sweeper, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    dry = ("run", "--workers", "0", "--dry-run")
    monkeypatch.setenv("SWEEPER_DATA", "synthetic:clouds")
    for name, value in (("SWEEPER_SEEDS", "5..3"), ("SWEEPER_TIME", "later"), ("SWEEPER_STEPS", "many")):
        with monkeypatch.context() as patch:
            patch.setenv(name, value)
            status, _, err = sweeper(*dry)
            assert status == 2 and value in err
    monkeypatch.setenv("SWEEPER_DATA", "")  # not the default
    monkeypatch.setenv("SWEEPER_TRIALS", "")
    status, out, err = sweeper(*dry)
    assert (status, out) == (2, "") and "SWEEPER_DATA" in err and "SWEEPER_TRIALS" in err
    status, _, err = sweeper(*dry, "synthetic:clouds", "--trials", "3")
    assert status == 2 and "clouds" in err and "SWEEPER" not in err
    assert list(tmp_path.iterdir()) == []


def test_an_unexpected_error_is_one_line_without_secrets_and_status_1(
    sweeper: Sweeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    def raise_error(*_: object, **__: object) -> None:
        raise RuntimeError("the sky fell on postgresql://me:canary@host/db")

    monkeypatch.setattr("sweeper.storage.open_storage", raise_error)
    status, _, err = sweeper("report", "s")
    assert status == 1
    assert "the sky fell" in err and "Traceback" not in err and len(err.strip().splitlines()) == 1
    verbose = sweeper("run", "--resume", "--study", "s", "--workers", "0", "-v")[2]
    assert (
        "Traceback" in verbose and "me:***@host" in err and "me:***@host" in verbose and "canary" not in err + verbose
    )


def test_a_full_disk_is_not_reported_as_a_mistake_in_sweeper(sweeper: Sweeper, monkeypatch: pytest.MonkeyPatch) -> None:
    def raise_full_disk(*_: object, **__: object) -> None:
        error = OSError(errno.ENOSPC, "No space left on device")
        error.add_note("sweeper confirm --study own --resume")
        raise error

    monkeypatch.setattr("sweeper.scripts.probe.probe_script", raise_full_disk)
    status, _, err = sweeper("probe", "--command", "python train.py")
    assert status == 1 and "this machine allows no more: [Errno 28] No space left on device" in err
    assert "mistake in sweeper" not in err and "this continues it: sweeper confirm --study own --resume." in err


def test_an_error_is_a_document_under_json(sweeper: Sweeper, tmp_path: Path) -> None:
    root = folder(tmp_path / "data", {s: mask(0, 1) for s in "abcd"})
    (root / "masks" / "a.png").unlink()
    for words in (["profile", root], ["run", root, "--workers", "0"]):
        status, out, err = sweeper(*words, "--json")
        document = json.loads(out)
        assert (status, document["schema"], document["exit_status"]) == (2, "sweeper.error/1", 2)
        assert document["error"]["kind"] == "DataError" and "has no mask" in err
        assert any("images/a.png: has no mask" in problem for problem in document["error"]["problems"])
    status, out, _ = sweeper("run", "--trails", "3", "--json")
    assert status == 2 and json.loads(out)["error"]["kind"] == "UsageError"


def test_every_command_has_help_and_refuses_empty_values() -> None:
    for name, text in COMMANDS.items():
        result = CliRunner().invoke(cli, [name, "--help"])
        assert result.exit_code == 0 and len(result.output) > 100, name
        assert text
        assert isinstance(cli.get_command(click.Context(cli), name), SweeperCommand), name


def test_the_shell_completes_commands_and_options() -> None:
    for line, expected in (("sweeper stu", "plain,studies\n"), ("sweeper run --confirm-st", "plain,--confirm-steps\n")):
        environment = {"COMP_WORDS": line, "COMP_CWORD": str(line.count(" ")), "_SWEEPER_COMPLETE": "bash_complete"}
        assert CliRunner().invoke(cli, [], env=environment, prog_name="sweeper").output == expected


def test_a_checkout_that_is_not_installed_has_its_version(monkeypatch: pytest.MonkeyPatch) -> None:
    def find(name: str) -> str:
        if name == "sweeper":
            raise metadata.PackageNotFoundError(name)
        return "1"

    monkeypatch.setattr(metadata, "version", find)
    version.read_versions.cache_clear()
    assert version.read_versions()["sweeper"] == version.__version__
    version.read_versions.cache_clear()
