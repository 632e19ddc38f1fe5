"""`--config sweeper.yaml`: options by their names; the command line wins over the environment, that over the file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest

from sweeper.cli.run import command
from sweeper.core.errors import RequestError
from sweeper.workflow.options import list_stored_options
from sweeper.workflow.settings import Settings

FILE = """
data: synthetic:cracks?images=20
trials: 20
seeds: 3..5
batch_size: 4
threshold: 0.5
timeout: 90
resume: true
steps: 200
"""


def parse_config(folder: Path, text: str, *arguments: str) -> click.Context:
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
    values = parse_config(tmp_path, FILE, "--steps", "400").params
    assert (values["steps"], values["trials"], values["batch_size"], values["resume"]) == (400, 30, 4, True)
    settings = Settings(**{name: values[name] for name in Settings.model_fields if name != "precision"})
    assert list_stored_options(settings) == {
        **{"data": "synthetic:cracks?images=20", "trials": 30, "seeds": "3..5", "batch_size": 4},
        **{"threshold": "0.5", "timeout": "90", "steps": 400},
    }


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("trails: 3", "trails: unknown option, did you mean `trials`?"),
        ("config: other.yaml", "config: unknown option"),
        ("trials: [1, 2]", "trials: must be one value"),
        ("trials: !!int 010", "trials: must be one value, got 8"),
        ("resume: yes", "resume': must be true or false, got 'yes'"),
        ("trials: true", "trials: must be a value, got True"),
        ("- trials", "(top): must be a mapping"),
        ("trials: &a 3", "must not use anchors"),
    ],
)
def test_mistakes_of_the_file_are_reported_before_the_run(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(RequestError) as caught:
        parse_config(tmp_path, text)
    assert len(caught.value.problems) == 1 and words in caught.value.problems[0]


@pytest.mark.parametrize(
    ("text", "option", "value"),
    [
        ("trials: 010", "trials", 10),
        ("study: 2026-01-31", "study", "2026-01-31"),
        ("study: on", "study", "on"),
        ("", "trials", None),
    ],
)
def test_a_value_keeps_its_written_form(tmp_path: Path, text: str, option: str, value: object) -> None:
    assert parse_config(tmp_path, text).params[option] == value


@pytest.mark.parametrize(
    ("text", "words"), [("timeout: 1:30", "must be a duration"), ("trials: many", r"\(from --config .*sweeper.yaml\)")]
)
def test_a_wrong_value_is_reported_as_on_the_command_line_with_its_file(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(click.BadParameter, match=words):
        parse_config(tmp_path, text)


def test_an_empty_variable_is_refused_over_a_file_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWEEPER_TRIALS", "")
    with pytest.raises(click.UsageError, match="SWEEPER_TRIALS"):
        parse_config(tmp_path, "trials: 3")


def test_a_run_uses_the_values_of_the_file(sweeper: Any, tmp_path: Path) -> None:
    (tmp_path / "sweeper.yaml").write_text("data: nowhere\nexecutor: inline\n", "utf-8")
    status, _, err = sweeper("run", "--config", "sweeper.yaml")
    assert status == 2 and "nowhere: must be a folder" in err
