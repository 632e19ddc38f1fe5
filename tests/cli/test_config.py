"""`--config sweeper.yaml`: options by their names; the command line wins over the environment, that over the file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click
import pytest

from sweeper.cli.config import from_config, overruled
from sweeper.cli.run import command
from sweeper.core.errors import RequestError
from sweeper.workflow.options import given_options
from sweeper.workflow.settings import Settings

FILE = """
data: synthetic:cracks?images=20
trials: 20
confirm-seeds: 3..5
batch_size: 4
threshold: 0.5
timeout: 90
fixed-lr: true
steps: 200
"""


def parsed(folder: Path, text: str, *arguments: str) -> click.Context:
    path = folder / "sweeper.yaml"
    path.write_text(text, "utf-8")
    return command.make_context(
        "run", ["--config", str(path), *arguments], auto_envvar_prefix="SWEEPER", resilient_parsing=False
    )


def test_the_command_line_wins_over_the_environment_and_that_over_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWEEPER_TRIALS", "30")
    monkeypatch.setenv("SWEEPER_STEPS", "300")
    context = parsed(tmp_path, FILE, "--steps", "400")
    values = context.params
    assert (values["steps"], values["trials"], values["batch_size"], values["fixed_lr"]) == (400, 30, 4, True)
    settings = Settings(**{name: values[name] for name in Settings.model_fields if name != "precision"})
    assert given_options(settings) == {
        **{"data": "synthetic:cracks?images=20", "trials": 30, "confirm_seeds": "3..5", "batch_size": 4},
        **{"threshold": "0.5", "timeout": "90", "fixed_lr": True, "steps": 400},
    }
    line = from_config(context)
    assert line is not None and "--confirm-seeds 3..5" in line and "--fixed-lr" in line
    assert line.endswith("; given otherwise: --trials 30 (the file: 20), --steps 400 (the file: 200)")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("trails: 3", "trails: unknown option, did you mean `trials`?"),
        ("config: other.yaml", "config: unknown option"),
        ("batch-size: 2\nbatch_size: 4", "batch_size: appears twice"),
        ("trials: [1, 2]", "trials: must be one value"),
        ("trials:", "trials: must be one value, got None"),
        ("trials: ~", "trials: must be one value, got None"),
        ("trials: !!int 010", "trials: must be one value, got 8"),
        ("fixed-lr: yes", "fixed-lr': must be true or false, got 'yes'"),
        ("trials: true", "trials: must be a value, got True"),
        ("fixed-lr: 1", "fixed-lr': must be true or false, got '1'"),
        ("- trials", "(top): must be a mapping"),
        ("trials: &a 3", "must not use anchors"),
    ],
)
def test_mistakes_of_the_file_are_told_before_anything_is_done(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(RequestError) as caught:
        parsed(tmp_path, text)
    assert len(caught.value.problems) == 1 and said in caught.value.problems[0]


@pytest.mark.parametrize(
    ("text", "option", "read"),
    [
        ("trials: 010", "trials", 10),
        ("study: 007", "study", "007"),
        ("study: 1e3", "study", "1e3"),
        ("study: 2026-01-31", "study", "2026-01-31"),
        ("study: 'true'", "study", "true"),
        ("study: on", "study", "on"),
        ("fixed-lr: True", "fixed_lr", True),
    ],
)
def test_a_value_is_read_as_it_is_written(tmp_path: Path, text: str, option: str, read: object) -> None:
    assert parsed(tmp_path, text).params[option] == read


def test_a_time_of_yaml_1_1_is_refused_as_on_the_command_line(tmp_path: Path) -> None:
    with pytest.raises(click.BadParameter, match="must be a duration"):
        parsed(tmp_path, "timeout: 1:30")


def test_a_wrong_value_is_told_with_its_file(tmp_path: Path) -> None:
    with pytest.raises(click.BadParameter, match=r"\(from --config .*sweeper.yaml\)"):
        parsed(tmp_path, "trials: many")


def test_an_empty_variable_is_refused_over_a_file_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWEEPER_TRIALS", "")
    with pytest.raises(click.UsageError, match="SWEEPER_TRIALS"):
        parsed(tmp_path, "trials: 3")


@pytest.mark.parametrize("wrong", ["data: nowhere", "trails: 3", "trials: many"])
@pytest.mark.parametrize("variable", [None, "0"])
def test_json_of_the_file_holds_for_errors_unless_the_variable_says_otherwise(
    sweeper: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wrong: str, variable: str | None
) -> None:
    if variable is not None:
        monkeypatch.setenv("SWEEPER_JSON", variable)
    (tmp_path / "sweeper.yaml").write_text(f"json: true\nexecutor: inline\n{wrong}\n", "utf-8")
    status, out, _ = sweeper("run", "--config", "sweeper.yaml")
    assert status == 2
    assert out == "" if variable else json.loads(out)["schema"] == "sweeper.error/1"


@pytest.mark.parametrize(("name", "value"), [("--epochs", "3"), ("SWEEPER_EPOCHS", "3")])
def test_what_excludes_a_value_of_the_file_and_is_given_elsewhere_wins(
    sweeper: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    """Both together are refused, before the folder is looked for."""
    words = [name, value] if name.startswith("-") else []
    if not words:
        monkeypatch.setenv(name, value)
    (tmp_path / "sweeper.yaml").write_text("steps: 200\nworkers: 3\ndata: nowhere\nexecutor: inline\n", "utf-8")
    _, _, err = sweeper("run", "--config", "sweeper.yaml", *words, "--workers", "auto")
    assert "exclude each other" not in err and "nowhere: must be a folder" in err
    assert "; given otherwise: --workers auto (the file: 3); not taken: --steps" in err
    context = parsed(tmp_path, "steps: 200", *words)
    assert overruled(context) == {"steps"}


def test_an_empty_file_changes_nothing(tmp_path: Path) -> None:
    assert parsed(tmp_path, "").params["trials"] is None


def test_the_run_says_what_it_takes_from_the_file(sweeper: Any, tmp_path: Path) -> None:
    (tmp_path / "sweeper.yaml").write_text("data: nowhere\nexecutor: inline\n", "utf-8")
    status, _, err = sweeper("run", "--config", "sweeper.yaml")
    assert status == 2 and "from sweeper.yaml: --data nowhere, --executor inline" in err
    assert "nowhere: must be a folder" in err
