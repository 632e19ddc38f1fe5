"""Former options and commands end with what to use now, wherever they are given."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click
import pytest

import sweeper as api
from sweeper import storage as studies
from sweeper.cli.main import COMMANDS, cli
from sweeper.cli.replaced import REPLACED
from sweeper.core.errors import UsageError
from sweeper.workflow.options import read_request
from sweeper.workflow.settings import parse_duration
from tests.support.faking import new_plan

Sweeper = Callable[..., tuple[int, str, str]]
WORDS = "`--rope` is `--margin` now"


@pytest.mark.parametrize("words", [("--rope", "0.02"), ("--rope=0.02",)])
def test_a_former_option_ends_with_one_line(sweeper: Sweeper, words: tuple[str, ...]) -> None:
    assert sweeper("run", *words) == (2, "", f"sweeper: {WORDS}\n")


def test_a_variable_or_argument_of_a_former_option_ends_with_the_same_words(
    sweeper: Sweeper, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match=WORDS):
        api.run("synthetic:blobs", rope=0.02)
    monkeypatch.setenv("SWEEPER_ROPE", "0.02")
    assert sweeper("run", "--margin", "0.02") == (2, "", f"sweeper: SWEEPER_ROPE: {WORDS}\n")


@pytest.mark.parametrize("name", [name for name in REPLACED if name.startswith("sweeper ")])
def test_a_former_command_ends_with_one_line(sweeper: Sweeper, name: str) -> None:
    words = f"sweeper: `{name}` {REPLACED[name]}\n"
    assert sweeper(name.removeprefix("sweeper "), "--of-former-times") == (2, "", words)


def test_an_option_that_other_commands_have_is_explained_where_it_was(sweeper: Sweeper) -> None:
    assert sweeper("run", "--data", "folder") == (2, "", "sweeper: `run --data` is the argument DATA now\n")


def test_no_former_option_or_command_exists() -> None:
    assert not {name.removeprefix("sweeper ") for name in REPLACED} & COMMANDS.keys()
    context = click.Context(cli)
    for name in COMMANDS:
        command = cli.get_command(context, name)
        assert command is not None
        assert not {option for param in command.params for option in param.opts} & REPLACED.keys(), name


def test_a_study_of_former_options_keeps_its_request(tmp_path: Path) -> None:
    storage = studies.open_storage(f"sqlite:///{tmp_path}/sweeper.db")
    study = studies.create_study(storage, "s", new_plan(), {"rope": 0.02, "confirm_seeds": "3..5"})
    request = read_request(study)
    assert (request.margin, request.seeds) == (0.02, (3, 5))
    assert studies.read_options(storage, "s") == {"margin": 0.02, "seeds": "3..5"}


@pytest.mark.parametrize(
    ("former", "time"),
    [({"timeout": "90m"}, "90m"), ({"minutes": 15}, "15m"), ({"timeout": "90m", "minutes": 15}, "90m")],
)
def test_a_study_of_two_former_clocks_has_one(tmp_path: Path, former: dict[str, object], time: str) -> None:
    storage = studies.open_storage(f"sqlite:///{tmp_path}/sweeper.db")
    study = studies.create_study(storage, "s", new_plan(), former)
    assert studies.read_options(storage, "s") == {"time": time}
    assert read_request(study).time == parse_duration(time)
    assert read_request(study, {"time": "2h"}).time == 7200
